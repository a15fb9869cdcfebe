"""Filter graphs, read as ffmpeg reads them and written anew, so that its reading and ours cannot differ.

Two levels of quoting: the graph is cut into filters, labels and arguments; an argument text is then cut into options.
ffmpeg's functions are avfilter_graph_segment_parse, ff_filter_opt_parse, av_opt_get_key_value and av_get_token.
Which filters and options may be used is the business of filters.py.
"""

import re
from dataclasses import dataclass, replace

SPACE = " \n\t\r"
KEY = re.compile(r"[ \n\t\r]*([A-Za-z0-9_./-]*)[ \n\t\r]*=")
PLAIN = re.compile(r"[^\\' \n\t\r\[\],;:=@]*")  # means itself at both levels, wherever it stands
SWS_FLAGS = "sws_flags="


class GraphError(ValueError):
    """The graph is not one that ffmpeg would read. The message is for the user."""


@dataclass(frozen=True, slots=True)
class Argument:
    value: str
    name: str | None = None  # None when it is told by its position


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    name: str
    instance: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()

    def named(self, name: str) -> str | None:
        """The value that counts when `name` is given more than once: the last."""
        return next((a.value for a in reversed(self.arguments) if a.name == name), None)


@dataclass(frozen=True, slots=True)
class Chain:
    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    chains: tuple[Chain, ...]
    sws_flags: str | None = None  # of `sws_flags=...;` in front, as written

    def filters(self) -> tuple[Filter, ...]:
        return tuple(one for chain in self.chains for one in chain.filters)

    def with_filters(self, filters: tuple[Filter, ...]) -> "Graph":
        """The same chains with other filters, one for each that was there."""
        left = iter(filters)
        chains = tuple(Chain(tuple(next(left) for _ in chain.filters)) for chain in self.chains)
        return replace(self, chains=chains)


def parse(text: str) -> Graph:
    """Raises GraphError."""
    reader = _Reader(text)
    flags = reader.sws_flags()
    chains: list[Chain] = []
    reader.skip_space()
    while reader.more():
        chains.append(reader.chain())
    if not chains:
        raise GraphError("the filter graph has no filter.")
    return Graph(chains=tuple(chains), sws_flags=flags)


def emit(graph: Graph) -> str:
    """A text that parses to `graph` again, and in which nothing is left to interpretation."""
    flags = "" if graph.sws_flags is None else f"{SWS_FLAGS}{graph.sws_flags};"
    return flags + ";".join(",".join(_filter(one) for one in chain.filters) for chain in graph.chains)


def arguments(text: str) -> tuple[Argument, ...]:
    """The options of one filter, from the text that is left when the first level of quoting is taken off."""
    found: list[Argument] = []
    at = 0
    while at < len(text):
        key = KEY.match(text, at)
        if key is None and found and found[-1].name is not None:
            raise GraphError("a filter option without a name follows one with a name.")
        value, at = token(text, key.end() if key else at, ":")
        found.append(Argument(value, key[1] if key else None))
        at += 1  # the colon
    return tuple(found)


def token(text: str, at: int, ends: str) -> tuple[str, int]:
    """What stands at `at` up to one of `ends`, without quotes, escapes and space around it; and where it ends."""
    while at < len(text) and text[at] in SPACE:
        at += 1
    out: list[str] = []
    kept = 0  # so much of it is quoted or escaped, and space at its end is no space around it
    while at < len(text) and text[at] not in ends:
        character = text[at]
        at += 1
        if character == "\\" and at < len(text):
            out.append(text[at])
            at += 1
            kept = len(out)
        elif character == "'":
            close = text.find("'", at)
            out.extend(text[at:] if close < 0 else text[at:close])
            at = len(text) if close < 0 else close + 1
            kept = kept if close < 0 else len(out)
        else:
            out.append(character)
    while len(out) > kept and out[-1] in SPACE:
        out.pop()
    return "".join(out), at


@dataclass(slots=True)
class _Reader:
    text: str
    at: int = 0

    def more(self) -> bool:
        return self.at < len(self.text)

    def skip_space(self) -> None:
        while self.more() and self.text[self.at] in SPACE:
            self.at += 1

    def sws_flags(self) -> str | None:
        if not self.text.startswith(SWS_FLAGS):
            return None
        end = self.text.find(";")
        if end < 0:
            raise GraphError("sws_flags= is not ended by a semicolon.")
        self.at = end + 1
        return self.text[len(SWS_FLAGS) : end]

    def chain(self) -> Chain:
        filters: list[Filter] = []
        while self.more():
            filters.append(self.filter())
            self.skip_space()
            separator = self.text[self.at : self.at + 1]
            if separator not in ("", ",", ";"):
                raise GraphError(f"{separator!r} follows the filter {filters[-1].name[:40]}; a comma or ; is due.")
            self.at += 1
            self.skip_space()
            if separator == ";":
                break
        return Chain(tuple(filters))

    def filter(self) -> Filter:
        inputs = self.labels()
        name, self.at = token(self.text, self.at, "=,;[")
        name, at_sign, instance = name.partition("@")
        if not name:
            raise GraphError("a filter has no name.")
        given: tuple[Argument, ...] = ()
        if self.text[self.at : self.at + 1] == "=":
            options, self.at = token(self.text, self.at + 1, "[],;")
            given = arguments(options)
        return Filter(
            name=name,
            instance=instance if at_sign else None,
            inputs=inputs,
            outputs=self.labels(),
            arguments=given,
        )

    def labels(self) -> tuple[str, ...]:
        found: list[str] = []
        while self.text[self.at : self.at + 1] == "[":
            label, self.at = token(self.text, self.at + 1, "]")
            if not label:
                raise GraphError("a label is empty.")
            if not self.more():
                raise GraphError("a label is opened with [ and not closed.")
            found.append(label)
            self.at += 1
            self.skip_space()
        return tuple(found)


def _filter(one: Filter) -> str:
    instance = "" if one.instance is None else "@" + _escaped(one.instance, "=,;[")
    given = _escaped(emit_arguments(one.arguments), "[],;")
    return "".join(
        (
            *(f"[{_escaped(label, ']')}]" for label in one.inputs),
            _escaped(one.name, "=,;[") + instance,
            f"={given}" if given else "",
            *(f"[{_escaped(label, ']')}]" for label in one.outputs),
        )
    )


def emit_arguments(given: tuple[Argument, ...]) -> str:
    """The options of one filter as one text; the first level of quoting is not yet put on."""
    # Without a colon behind it an empty last value would be none at all.
    end = ":" if given and given[-1].name is None and not given[-1].value else ""
    return ":".join(_argument(argument) for argument in given) + end


def _argument(argument: Argument) -> str:
    if argument.name is None:
        return _escaped(argument.value, ":=")
    return f"{argument.name}={_escaped(argument.value, ':')}"


def _escaped(text: str, specials: str) -> str:
    if PLAIN.fullmatch(text):
        return text
    start = len(text) - len(text.lstrip(SPACE))
    end = len(text.rstrip(SPACE))
    special = {*"\\'", *specials}
    return "".join(
        f"\\{character}" if character in special or not start <= at < end else character
        for at, character in enumerate(text)
    )
