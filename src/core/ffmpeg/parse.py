"""Text -> Command, by ffmpeg's own grammar: options belong to the next `-i NAME` or output NAME, some to no file.

Everything that is wrong is reported, not only the first. What a command may do is the business of validate.py.
"""

import re
import shlex
from dataclasses import dataclass, field

from core.ffmpeg import options
from core.ffmpeg.command import Command, Input, Option, Output, Violation, shown, violation

MAX_BYTES = 16 * 1024
MAX_HINTS = 10  # to look for what was meant takes a millisecond each; nobody mistypes more often
PIECE = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\\r?\n|\\.|[^'"\\]+|.""", re.DOTALL)
ESCAPE = re.compile(r"\\(\r?\n)|\\.", re.DOTALL)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    command: Command  # as much of it as could be understood
    violations: tuple[Violation, ...] = ()


def parse(text: str) -> Parsed:
    """The command that `text` says, with all that is wrong with its form. A leading `ffmpeg` may be there or not."""
    fault = _text_fault(text)
    if fault:
        return Parsed(command=Command(), violations=(violation(None, "", fault),))
    try:
        tokens = shlex.split(_unfolded(text))
    except ValueError as error:
        return Parsed(command=Command(), violations=(violation(None, "", _unbalanced(error)),))
    walk = _Walk(tokens, at=1 if tokens[:1] == ["ffmpeg"] else 0)
    walk.run()
    return Parsed(command=walk.command(), violations=tuple(walk.violations))


def _text_fault(text: str) -> str | None:
    found = CONTROL.search(text)
    if found:
        return f"The command has the control character U+{ord(found[0]):04X} at offset {found.start()}."
    if len(text.encode()) > MAX_BYTES:
        return f"The command is longer than {MAX_BYTES} bytes."
    return None


def _unfolded(text: str) -> str:
    """The text as a shell reads it: a backslash before a line's end is no character, save in single quotes."""
    return "".join(p if p.startswith("'") else ESCAPE.sub(_unescaped, p) for p in PIECE.findall(text))


def _unescaped(found: re.Match[str]) -> str:
    return "" if found[1] else found[0]


def _unbalanced(error: ValueError) -> str:
    if "escape" in str(error):
        return "The command ends in a backslash with nothing after it."
    return "A quotation mark is opened and not closed."


@dataclass(slots=True)
class _Walk:
    tokens: list[str]
    at: int
    pending: list[Option] = field(default_factory=list)  # wait for the file that they belong to
    global_options: list[Option] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    def command(self) -> Command:
        return Command(
            global_options=tuple(self.global_options), inputs=tuple(self.inputs), outputs=tuple(self.outputs)
        )

    def run(self) -> None:
        while self.at < len(self.tokens):
            position, word = self.at, self.tokens[self.at]
            self.at += 1
            self._step(position, word)
        for option in self.pending:
            self._blame(
                option.position, option.flag, f"{shown(option.flag)} is not followed by the file it belongs to."
            )
        if not self.inputs:
            self._blame(None, "", "The command has no input: write -i and a name of input_files.")
        if not self.outputs:
            self._blame(None, "", "The command has no output: it must end in the name of an output file.")

    def _step(self, position: int, word: str) -> None:
        if word == "-i":
            self._input(position)
        elif word.startswith(("--", "-/")):
            self._blame(position, word, f"{shown(word)} is not allowed: an option is one dash and its name.")
        elif word.startswith("-") and word != "-":
            self._option(position, word)
        else:
            mine = self._claim("output", word)
            self.outputs.append(Output(name=word, options=mine, position=position))

    def _input(self, position: int) -> None:
        name = self._next()
        # ffmpeg would take an option for the name; nobody means that, and a name may not begin with a dash.
        if name is None or (name.startswith("-") and name != "-"):
            self._blame(position, "-i", "-i is not followed by the name of an input file.")
            self.pending.clear()
            return
        self.at += 1
        mine = self._claim("input", name)
        self.inputs.append(Input(name=name, options=mine, position=position + 1))

    def _option(self, position: int, token: str) -> None:
        name, colon, specifier = token[1:].partition(":")
        kind, negated = options.find(name), False
        if kind is None and name.startswith("no"):
            kind = options.find(name[2:])
            negated = kind is not None and kind.negatable
        if kind is None or (negated != (options.find(name) is None)):
            self._unknown(position, token, name)
            return
        fault = _misuse(token, kind, has_specifier=bool(colon), at_end=self._next() is None)
        if fault:
            self._blame(position, token, fault)
        option = Option(
            name=name[2:] if negated else name,
            specifier=specifier if colon else None,
            value=self._take() if kind.takes_value else None,
            negated=negated,
            position=position,
        )
        if fault is None:
            (self.global_options if kind.everywhere else self.pending).append(option)

    def _unknown(self, position: int, token: str, name: str) -> None:
        meant = options.nearest(name) if len(self.violations) < MAX_HINTS else None
        hint = f" Did you mean -{meant}?" if meant else ""
        self._blame(position, token, f"{shown(token)} is no option of ffmpeg {options.RELEASE}.{hint}")
        # Most options take a value; skipping it spares the reader a string of consequences. The last word is an output.
        following = self._next()
        if following is not None and not following.startswith("-") and self.at < len(self.tokens) - 1:
            self.at += 1

    def _claim(self, side: str, name: str) -> tuple[Option, ...]:
        """The options that waited for this file, without those that cannot be applied to its side."""
        mine = tuple(option for option in self.pending if _fits(option, side))
        for option in self.pending:
            if option not in mine:
                other = "output" if side == "input" else "input"
                reason = f"{shown(option.flag)} is for an {other}, but stands before the {side} {shown(name)}."
                self._blame(option.position, option.flag, reason)
        self.pending.clear()
        return mine

    def _next(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _take(self) -> str | None:
        value = self._next()
        self.at += 1
        return value

    def _blame(self, position: int | None, token: str, reason: str) -> None:
        self.violations.append(violation(position, token, reason))


def _misuse(token: str, kind: options.Kind, *, has_specifier: bool, at_end: bool) -> str | None:
    if kind.informs:
        return f"{shown(token)} shows information and transcodes nothing."
    if has_specifier and not kind.takes_specifier:
        return f"{shown(token)}: this option takes no stream specifier."
    if kind.takes_value and at_end:
        return f"{shown(token)} needs a value."
    return None


def _fits(option: Option, side: str) -> bool:
    kind = options.find(option.name)
    return kind is not None and (kind.on_input if side == "input" else kind.on_output)
