"""Whether a filter graph may run, and the form in which ffmpeg gets it.

A value without a name means the option at its place; as that may be a file, every value is judged by its option's
name, and ffmpeg is given the names. What is allowed is in filter_rules.py, what exists in filter_table.py.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from core.ffmpeg import graph as grammar
from core.ffmpeg import values
from core.ffmpeg.command import shown
from core.ffmpeg.filter_rules import (
    ALLOWED,
    EXPRESSIONS,
    FILES,
    FREE,
    GATHERING,
    REFUSED,
    REFUSED_TEXTS,
    SHAPES,
    SOURCES,
    WORDS,
    Text,
)
from core.ffmpeg.filter_table import FILTERS
from core.ffmpeg.graph import Argument, Filter, Graph

# Every filter has these. Their types as in filter_table.py.
GENERIC: Mapping[str, str] = {"enable": "s", "threads": "", "thread_type": "", "extra_hw_frames": ""}

SWS_FLAGS = re.compile(r"[\w+:=.\-]*", re.ASCII)
LABEL = re.compile(r"[\w:#?.+ -]*")
WIDTHS, HEIGHTS = ("w", "width", "out_w", "ow"), ("h", "height", "out_h", "oh")
SIZING = frozenset({"scale", "scale2ref", "scale_cuda", "zscale", "pad", "pad_cuda", "rotate"})
TRIM_ENDS = ("end", "end_pts", "end_frame", "end_sample", "duration", "endi", "durationi")
PAD_ENDS = ("pad_len", "whole_len", "pad_dur", "whole_dur")

# (filter or "", option) -> the most that it may be. The empty filter stands for every one.
CAPS: Mapping[tuple[str, str], float] = {
    ("", "threads"): values.MOST_THREADS,
    ("", "inputs"): 64,  # each is a queue of frames
    ("", "outputs"): 64,
    ("", "nb_inputs"): 64,
    ("concat", "n"): 64,
    ("zoompan", "d"): 100_000,  # frames for each frame that comes in
    ("zoompan", "duration"): 100_000,
    ("fps", "fps"): values.MOST_FRAMES_PER_SECOND,
    ("showspectrum", "fps"): values.MOST_FRAMES_PER_SECOND,
    ("showcwt", "rate"): values.MOST_FRAMES_PER_SECOND,
    ("showcwt", "r"): values.MOST_FRAMES_PER_SECOND,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was found out about a graph; `graph` is None when it cannot be read."""

    graph: Graph | None = None
    faults: tuple[str, ...] = ()  # each a sentence
    files: frozenset[str] = frozenset()  # the inputs that filters read
    endless: bool = False  # something in it never ends, and nothing in it ends that
    gathers: bool = False  # something in it keeps all frames until they end
    ends: bool = False  # something in it ends with the first of its inputs, or after a time


def judge(text: str, files: Collection[str]) -> Judged:
    """`files` are the names of the inputs, which are what a filter may read."""
    try:
        graph = grammar.parse(text)
    except grammar.GraphError as error:
        return Judged(faults=(f"The filter graph cannot be read: {error}",))
    named = [_named(one) for one in graph.filters()]
    faults = [*_sws_faults(graph), *(fault for one in named for fault in _filter_faults(one, files))]
    ends = any(_ends(one) for one in named)
    return Judged(
        graph=graph,
        faults=tuple(faults),
        files=frozenset(a.value for one in named for a in one.arguments if _is_file(one, a)),
        endless=any(_endless(one) for one in named) and not ends,
        gathers=any(one.name in GATHERING for one in named),
        ends=ends,
    )


def with_names(text: str) -> Graph:
    """The graph with each option by its name."""
    graph = grammar.parse(text)
    return graph.with_filters(tuple(_named(one) for one in graph.filters()))


def localised(text: str, paths: Mapping[str, str]) -> str:
    """The judged graph as ffmpeg gets it: each option by its name, each file by its path."""
    graph = with_names(text)
    return grammar.emit(graph.with_filters(tuple(_localised(one, paths) for one in graph.filters())))


def is_source(name: str) -> bool:
    """Whether a filter makes its frames itself."""
    return name in SOURCES


def _localised(one: Filter, paths: Mapping[str, str]) -> Filter:
    given = (replace(a, value=paths[a.value]) if _is_file(one, a) else a for a in one.arguments)
    return replace(one, arguments=tuple(given))


def _is_file(one: Filter, argument: Argument) -> bool:
    return argument.name is not None and _texts(one.name).get(argument.name) is Text.FILE


@cache
def _options(name: str) -> Mapping[str, str]:
    """The types of a filter's options by name; "" is a number or the like."""
    entries = (entry.lstrip("+").partition(":") for entry in FILTERS.get(name, "").split())
    return {**GENERIC, **{option: kind for option, _, kind in entries}}


@cache
def _places(name: str) -> tuple[str, ...]:
    """The options that values without a name mean, in order."""
    return tuple(entry[1:].partition(":")[0] for entry in FILTERS.get(name, "").split() if entry.startswith("+"))


@cache
def _texts(name: str) -> Mapping[str, Text]:
    """What each text option of a filter says."""
    tables = ((EXPRESSIONS, Text.EXPRESSION), (WORDS, Text.WORDS), (FREE, Text.FREE), (FILES, Text.FILE))
    named = {option: kind for table, kind in tables for option in table.get(name, "").split()}
    return {"enable": Text.EXPRESSION, **named, **{option: Text.SHAPE for of, option in SHAPES if of == name}}


def _named(one: Filter) -> Filter:
    """The filter with a name for each argument; one that has no place keeps none, and is a fault."""
    places = iter(_places(one.name))
    given = (a if a.name is not None else replace(a, name=next(places, None)) for a in one.arguments)
    return replace(one, arguments=tuple(given))


def _sws_faults(graph: Graph) -> Iterator[str]:
    if graph.sws_flags is not None and not SWS_FLAGS.fullmatch(graph.sws_flags):
        yield f"sws_flags={shown(graph.sws_flags)} in front of the graph is not a list of flags."


def _filter_faults(one: Filter, files: Collection[str]) -> Iterator[str]:
    if one.name in REFUSED:
        yield f"The filter {shown(one.name)} is not allowed: {REFUSED[one.name]}"
    elif one.name not in ALLOWED:
        yield f"There is no filter {shown(one.name)} that may be used."
    else:
        yield from _label_faults(one)
        yield from (fault for a in one.arguments if (fault := _argument_fault(one, a, files)))
        if fault := _sides_fault(one):
            yield f"The picture that the filter {one.name} makes {fault}"


def _label_faults(one: Filter) -> Iterator[str]:
    for label in (*one.inputs, *one.outputs, one.instance or ""):
        # What separates elsewhere in a graph separates nothing in a label: no reader need know that.
        fault = values.fault(label) or (None if LABEL.fullmatch(label) else "has characters that no label needs.")
        if fault:
            yield f"The label {shown(label)} of the filter {one.name} {fault}"


def _argument_fault(one: Filter, argument: Argument, files: Collection[str]) -> str | None:
    name = argument.name
    if name is None:
        return f"The filter {one.name} has more values without a name than it has options."
    if name.startswith("/"):
        return f"The filter {one.name} is given the option {shown(name)}: a slash reads the value from a file."
    if name not in _options(one.name):
        return f"The filter {one.name} has no option {shown(name)}."
    fault = _value_fault(one.name, name, argument.value, files)
    return fault and f"The option {name} of the filter {one.name} {fault}"


def _value_fault(of: str, name: str, value: str, files: Collection[str]) -> str | None:
    kind = _options(of)[name]
    text = _texts(of).get(name) if kind == "s" else None
    if kind == "s" and text is None:
        return f"is not allowed: {_refusal(of, name)}"
    if text is Text.FILE:
        return None if value in files else f"names the file {shown(value)}, which is not in input_files."
    if text is Text.FREE:
        return values.formula_fault(value) if "%{" in value else None
    if text is Text.SHAPE and not re.fullmatch(SHAPES[of, name], value, re.ASCII):
        return "has a value that could name a file."
    return (
        (values.words_fault(value) if text is Text.WORDS else None)
        or values.fault(value)
        or (values.size_fault(value) if kind == "z" or name in ("s", "size") else None)
        or (values.rate_fault(value) if kind == "r" else None)
        or _cap_fault(of, name, value)
    )


def _refusal(of: str, name: str) -> str:
    reasons = (reason for reason, rows in REFUSED_TEXTS.items() if name in rows.get(of, "").split())
    return next(reasons, "nobody has judged what it may do.")


def _cap_fault(of: str, name: str, value: str) -> str | None:
    most = CAPS.get((of, name)) or CAPS.get(("", name))
    if not most:
        return None
    # A text may be a formula, such as source_fps*2 or 25*4, and a number may not.
    return values.most_fault(values.rate(value), most) if _options(of)[name] else values.count_fault(value, most)


def _sides_fault(one: Filter) -> str | None:
    if one.name not in SIZING:
        return None
    width, height = (next((one.named(n) for n in names if one.named(n)), None) for names in (WIDTHS, HEIGHTS))
    return values.sides_fault(values.number(width), values.number(height))


def _endless(one: Filter) -> bool:
    if one.name in SOURCES:
        return not any((_seconds(one.named(name)) or -1) >= 0 for name in SOURCES[one.name])
    if one.name in ("loop", "aloop"):
        return (values.number(one.named("loop")) or 0) < 0
    if one.name == "tpad":
        return any((one.named(name) or "").strip().startswith("-") for name in ("stop", "stop_duration"))
    return one.name == "apad" and not any(_positive(one.named(name)) for name in PAD_ENDS)


def _ends(one: Filter) -> bool:
    if one.name in ("trim", "atrim"):
        return any(one.named(name) for name in TRIM_ENDS)
    return one.named("shortest") in ("1", "true", "yes", "enable", "enabled", "on") or (
        one.name == "amix" and one.named("duration") in ("shortest", "first", "1", "2")
    )


def _positive(text: str | None) -> bool:
    return text is not None and not text.strip().startswith("-") and bool(re.search(r"[1-9]", text))


def _seconds(text: str | None) -> float | None:
    from core.ffmpeg.expect import seconds

    return seconds(text)
