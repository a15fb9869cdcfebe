"""Writes src/core/ffmpeg/option_table.py: which options the installed ffmpeg has, and what each of them takes.

The names come from `ffmpeg -h full`. Whether a command-line option takes a value, has a `-no` form, and belongs to
inputs or outputs cannot be read there (`-xerror <error>` takes no value, `-filter_threads` takes one), so each one is
tried on the program itself. An AVOption always takes a value.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

TABLE = Path(__file__).parents[1] / "src/core/ffmpeg/option_table.py"

# These hand the text after the colon on (`-b:v`, `-qscale:a`, `-profile:v`), though the help shows no specifier.
SPECIFIER_UNLISTED = frozenset({"b", "qscale", "profile"})

# The help has no section for an option of video and subtitles, so it leaves this one out.
UNLISTED = {"s": "-s[:<stream_spec>] <size>"}

HEADING = re.compile(r"^(\S.*):$")
MAIN_LINE = re.compile(r"^-([A-Za-z0-9_]\S*)(?:\s|$)")
AV_LINE = re.compile(r"^ {1,2}-(\S+) +<(\w+)> +([E.][D.]\S*)")


@dataclass(frozen=True, slots=True)
class Table:
    version: str
    main: dict[str, str]
    av: dict[str, str]


def read(ffmpeg: str) -> Table:
    """The table of the program at `ffmpeg`."""
    full = _say(ffmpeg, "-h", "full")
    version = _say(ffmpeg, "-version", banner=True).split()[2]
    return Table(version=version, main=_main_options(ffmpeg, full), av=_av_options(full))


def text(table: Table) -> str:
    """The table as the module that is checked in, already as `ruff format` would have it."""
    return "".join(
        (
            '"""The options of the ffmpeg build that the service ships. Made by `make options`; do not edit."""\n\n',
            f'VERSION = "{table.version}"\n\n',
            "# Command-line options: value, bool, flag or info; where it may stand; whether it takes a specifier.\n",
            _literal("MAIN", table.main),
            "\n# AVOptions: types, whose option it is, E(ncoding) or D(ecoding). Each takes a value and a specifier.\n",
            _literal("AV", table.av),
        )
    )


def _literal(name: str, entries: dict[str, str]) -> str:
    lines = (f'    "{key}": "{value}",\n' for key, value in sorted(entries.items()))
    return f"{name}: dict[str, str] = {{\n{''.join(lines)}}}\n"


def _say(ffmpeg: str, *args: str, banner: bool = False) -> str:
    quiet = () if banner else ("-hide_banner",)
    with tempfile.TemporaryDirectory() as folder:  # some options write a file where they are run
        done = subprocess.run(
            [ffmpeg, "-nostdin", *quiet, *args], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    return done.stdout + done.stderr


def _sections(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each line with the heading that it stands under."""
    heading = ""
    for line in lines:
        found = HEADING.match(line)
        heading = found[1] if found else heading
        yield heading, line


def _main_options(ffmpeg: str, full: str) -> dict[str, str]:
    listed = {name: [("", line)] for name, line in UNLISTED.items()}
    lines = full.splitlines()
    first_av = next(i for i, line in enumerate(lines) if line.endswith("AVOptions:"))
    for heading, line in _sections(lines[:first_av]):
        found = MAIN_LINE.match(line)
        if found and heading != "Getting help":
            listed.setdefault(re.split(r"[\[:]", found[1])[0], []).append((heading, line))
    with ThreadPoolExecutor(8) as pool:
        entries = pool.map(lambda item: _main_entry(ffmpeg, item[0], item[1]), listed.items())
        return dict(zip(listed, entries, strict=True))


def _main_entry(ffmpeg: str, name: str, listed: list[tuple[str, str]]) -> str:
    if any("information" in heading for heading, _ in listed):
        return "info"
    kind = _kind(ffmpeg, name)
    words = [kind]
    if any(heading.startswith(("Global", "Advanced global")) for heading, _ in listed):
        words.append("global")
    else:
        words += _sides(ffmpeg, [f"-{name}", "1"] if kind == "value" else [f"-{name}"])
    if name in SPECIFIER_UNLISTED or any(f"-{name}[:" in line for _, line in listed):
        words.append("specifier")
    return " ".join(words)


def _kind(ffmpeg: str, name: str) -> str:
    if "Missing argument" in _say(ffmpeg, f"-{name}"):
        return "value"
    return "flag" if "Unrecognized option" in _say(ffmpeg, f"-no{name}") else "bool"


def _sides(ffmpeg: str, option: list[str]) -> Iterator[str]:
    # Neither run gets to work: there is no such input, and no format for such an output.
    if "cannot be applied to" not in _say(ffmpeg, *option, "-i", "none"):
        yield "input"
    if "cannot be applied to" not in _say(ffmpeg, "-f", "lavfi", "-i", "anullsrc", *option, "none"):
        yield "output"


def _av_options(full: str) -> dict[str, str]:
    """Those that the command line can set. Filters have options too, but they are set inside a filter graph."""
    types: dict[str, set[str]] = {}
    bearers: dict[str, set[str]] = {}
    sides: dict[str, set[str]] = {}
    for bearer, line in _bearers(full):
        if found := AV_LINE.match(line):
            name, kind, flags = found.groups()
            types.setdefault(name, set()).add(kind)
            bearers.setdefault(name, set()).add(bearer)
            sides.setdefault(name, set()).update(flags[:2].replace(".", ""))
    return {
        name: " ".join((*sorted(types[name]), *sorted(bearers[name]), "".join(sorted(sides[name])))).strip()
        for name in types
    }


def _bearers(full: str) -> Iterator[tuple[str, str]]:
    """Each line with whose option it is, until the filters begin.

    ffmpeg prints the codecs, then the formats with the protocols among them, then scaler, resampler and filters.
    """
    starts = {
        "AVCodecContext": "codec",
        "AVFormatContext": "format",
        "URLContext": "protocol",
        "AC4 muxer": "format",
        "SWScaler": "scaler",
        "SWResampler": "resampler",
    }
    bearer = ""
    for heading, line in _sections(full.splitlines()):
        title = heading.removesuffix(" AVOptions")
        if title == "AVFilter":
            return
        bearer = starts.get(title, bearer)
        yield bearer, line


if __name__ == "__main__":
    table = read(imageio_ffmpeg.get_ffmpeg_exe())
    TABLE.write_text(text(table))
    print(f"{TABLE.name}: {len(table.main)} command-line options, {len(table.av)} AVOptions of ffmpeg {table.version}")
