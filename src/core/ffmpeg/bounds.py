"""What never ends: sources, loops and padding without an end. Each output must then be told where to stop.

The number of bytes and the time are limited whatever the command says; this spares the user to wait for those.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.ffmpeg import values
from core.ffmpeg.command import Command, Input, Option, Output, Violation, last, shown, violation

if TYPE_CHECKING:
    from core.ffmpeg import filters

LIMITS = frozenset({"t", "to", "frames", "vframes", "aframes", "dframes", "fs"})
GRAPH_OPTIONS = frozenset({"vf", "af", "filter", "filter_complex", "lavfi"})


@dataclass(frozen=True, slots=True)
class _Endless:
    position: int
    token: str
    what: str


def faults(command: Command) -> Iterator[Violation]:
    """Each endless thing in a command whose outputs are not all told where to stop."""
    judged = _graphs(command)
    sources = list(_sources(command.inputs, judged))
    padding = list(_padding(command, judged))
    if not sources and not padding:
        return
    finite = len(sources) < len(command.inputs)
    ends_inside = any(one.ends for one in judged.values()) and finite
    stopped = ends_inside or all(_stops(output, finite=finite) for output in command.outputs)
    for endless in (*sources, *padding):
        if not stopped:
            advice = "end it, or the output, with -t, -to, -frames:v, -fs or -shortest."
            yield violation(endless.position, endless.token, f"{endless.what} never ends: {advice}")
        elif sources and endless in sources and any(one.gathers for one in judged.values()):
            reason = f"{endless.what} never ends, and a filter keeps all of it until its end: put -t in front of it."
            yield violation(endless.position, endless.token, reason)


def _graphs(command: Command) -> Mapping[str, "filters.Judged"]:
    texts = {option.value for option in command.options() if option.name in GRAPH_OPTIONS and option.value}
    texts.update(source.name for source in command.inputs if source.synthetic)
    if not texts:
        return {}
    from core.ffmpeg import filters  # only here: its tables take longer to load than all else

    return {text: filters.judge(text, ()) for text in texts}


def _sources(inputs: tuple[Input, ...], judged: Mapping[str, "filters.Judged"]) -> Iterator[_Endless]:
    for source in inputs:
        if {"t", "to"} & {option.name for option in source.options}:
            continue
        if source.synthetic and judged[source.name].endless:
            yield _Endless(source.position, source.name, f"The source {shown(source.name)}")
        elif not source.synthetic and (option := next(filter(_repeats, source.options), None)):
            yield _Endless(option.position, option.flag, f"The input {shown(source.name)} with {option.flag}")


def _repeats(option: Option) -> bool:
    value = (option.value or "").strip()
    if option.name == "stream_loop":
        return value.startswith("-") or values.number(value) is None
    if option.name == "loop":
        return value not in ("0", "false")
    return option.name == "ignore_loop" and value in ("0", "false")


def _padding(command: Command, judged: Mapping[str, "filters.Judged"]) -> Iterator[_Endless]:
    for option in command.options():
        if option.name in GRAPH_OPTIONS and option.value and judged[option.value].endless:
            yield _Endless(option.position + 1, option.value, f"A filter of {shown(option.flag)}")
        elif option.name == "apad":
            yield _Endless(option.position, option.flag, "The padding of -apad")


def _stops(output: Output, *, finite: bool) -> bool:
    given = {option.name for option in output.options if not option.negated}
    limits = [last(output.options, name) or "" for name in LIMITS & given]
    return any(not limit.strip().startswith("-") for limit in limits) or ("shortest" in given and finite)
