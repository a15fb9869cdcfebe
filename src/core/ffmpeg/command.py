"""What a parsed command is: options, inputs and outputs, and the tokens they are written as.

Positions count the words of the text that was parsed. They are for messages and are no part of a command's identity.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

SHOWN_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    name: str  # without dash and specifier
    specifier: str | None = None  # "v:0" of -c:v:0
    value: str | None = None
    negated: bool = False  # written -noNAME
    position: int = field(default=0, compare=False)

    @property
    def flag(self) -> str:
        """The option as it is written, without its value: `-c:v:0`, `-noautorotate`."""
        specifier = "" if self.specifier is None else f":{self.specifier}"
        return f"-{'no' if self.negated else ''}{self.name}{specifier}"

    def tokens(self) -> tuple[str, ...]:
        return (self.flag,) if self.value is None else (self.flag, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    name: str
    options: tuple[Option, ...] = ()
    position: int = field(default=0, compare=False)

    @property
    def synthetic(self) -> bool:
        """Whether it is made by `-f lavfi`: its name is then a filter graph, not a file."""
        return last(self.options, "f") == "lavfi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    name: str
    options: tuple[Option, ...] = ()
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, kw_only=True)
class Command:
    global_options: tuple[Option, ...] = ()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()

    @cached_property
    def text(self) -> str:
        """The canonical text: it parses to an equal command again."""
        return shlex.join(self._tokens())

    def options(self) -> Iterator[Option]:
        yield from self.global_options
        files: tuple[Input | Output, ...] = (*self.inputs, *self.outputs)
        for file in files:
            yield from file.options

    def _tokens(self) -> Iterator[str]:
        yield from flat(self.global_options)
        for source in self.inputs:
            yield from (*flat(source.options), "-i", source.name)
        for output in self.outputs:
            yield from (*flat(output.options), output.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Why a command is refused. `position` is None where no single word is to blame."""

    position: int | None
    token: str
    reason: str


def flat(options: tuple[Option, ...]) -> Iterator[str]:
    for option in options:
        yield from option.tokens()


def last(options: tuple[Option, ...], name: str) -> str | None:
    """The value that ffmpeg goes by when the option `name` is given more than once: the last one."""
    return next((option.value for option in reversed(options) if option.name == name), None)


def violation(position: int | None, token: str, reason: str) -> Violation:
    return Violation(position=position, token=shown(token), reason=reason)


def shown(token: str) -> str:
    """As much of the user's text as a message may repeat: 200 bytes, with nothing that a terminal would obey."""
    printable = "".join(c if c.isprintable() else " " for c in token[:SHOWN_BYTES])
    return printable.encode()[:SHOWN_BYTES].decode(errors="ignore")
