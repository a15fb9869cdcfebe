"""What the options of ffmpeg take and where they may stand: the questions that are asked of option_table.py.

The table is the installed build's own word (`make options`); nothing about single options is decided here.
"""

from dataclasses import dataclass

from core.ffmpeg.option_table import AV, MAIN, VERSION

RELEASE = VERSION.partition("-")[0].removeprefix("n")  # 9.0.2 of n9.0.2-17-g2a571b6068-20260930


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    takes_value: bool
    negatable: bool = False  # may be written -noNAME
    informs: bool = False  # prints something and ends the program
    everywhere: bool = False  # global: belongs to no file
    on_input: bool = False
    on_output: bool = False
    takes_specifier: bool = False
    types: frozenset[str] = frozenset()  # of an AVOption: int, flags, string ...; several when its bearers differ
    protocols_only: bool = False  # an AVOption that neither a codec nor a format has


def find(name: str) -> Kind | None:
    """What is known of the option `name`, without dash and specifier; command-line options go before AVOptions."""
    if name in MAIN:
        return _main(MAIN[name].split())
    return _av(AV[name].split()) if name in AV else None


def nearest(name: str) -> str | None:
    """The known option that `name` was most likely meant to be."""
    if name[:1] in ("v", "a", "s") and name[1:] in (*AV, "b"):
        return f"{name[1:]}:{name[0]}"  # ffmpeg's old spelling, -vb for -b:v
    from difflib import get_close_matches  # only here: it would be a third of this module's import time

    # To compare with all 1,300 takes 3 ms, and few mistype both the beginning and the end.
    alike = ([known for known in table if known[:2] == name[:2] or known[-3:] == name[-3:]] for table in (MAIN, AV))
    close = (match for known in alike for match in get_close_matches(name, known, n=1, cutoff=0.7))
    return next(close, None)


def _main(words: list[str]) -> Kind:
    return Kind(
        takes_value="value" in words,
        negatable="bool" in words,
        informs="info" in words,
        everywhere="global" in words,
        on_input="input" in words,
        on_output="output" in words,
        takes_specifier="specifier" in words,
    )


def _av(words: list[str]) -> Kind:
    bearers = {"codec", "format", "protocol", "scaler", "resampler"}.intersection(words)
    # ffmpeg refuses what only encodes or muxes before an input, and lets everything pass before an output.
    return Kind(
        takes_value=True,
        on_input=words[-1] != "E",
        on_output=True,
        takes_specifier=True,
        types=frozenset(words).difference(bearers, {"E", "D", "DE"}),
        protocols_only=bearers == {"protocol"},
    )
