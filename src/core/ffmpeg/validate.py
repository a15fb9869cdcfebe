"""Whether a command may run: its names are the declared ones, and every option of it is one that may be used.

Called at register and again by the worker, because a stored row is input too.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from core.errors import CommandNotAllowed
from core.ffmpeg import bounds, formats, names, policy
from core.ffmpeg.command import Command, Input, Option, Output, Violation, last, shown, violation
from core.ffmpeg.option_rules import DROPPED, TAKES, Takes
from core.ffmpeg.parse import parse

MAX_VIOLATIONS = 100  # of 16 kB of nonsense thousands could be listed

# Their values are names of further files, beside the output that they stand before.
NAMING: Final = frozenset(name for name, takes in TAKES.items() if takes is Takes.NAME) - {"passlogfile"}


def check(text: str, *, input_names: Collection[str], output_names: Collection[str]) -> Command:
    """The command that may run, what has a grammar of its own written anew; what it says about things that the worker
    sets itself is left out.

    `input_names` are the keys of input_files, `output_names` the declared outputs. Raises CommandNotAllowed with
    every violation in its details, save in a command that has more than 100.
    """
    parsed = parse(text)
    judged = _judged(parsed.command, input_names)
    violations = (
        *parsed.violations,
        *_declared_names(input_names, output_names),
        *judged.violations,
        *_inputs(parsed.command, input_names, judged.files),
        *_outputs(parsed.command, output_names),
    )
    if not violations:
        violations = tuple(bounds.faults(judged.command))
    if violations:
        raise _refusal(violations)
    return judged.command


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    command: Command
    violations: tuple[Violation, ...]
    files: frozenset[str]  # the inputs that filters read


def _judged(command: Command, files: Collection[str]) -> _Judged:
    """The command as it goes on, and what is wrong with its options."""
    read: set[str] = set()
    found: list[Violation] = []

    def options(given: tuple[Option, ...], side: policy.Side) -> tuple[Option, ...]:
        judged = [policy.judge(option, side, files) for option in given]
        for one in judged:
            found.extend(one.violations)
            read.update(one.files)
        return tuple(one.option for one in judged if one.option.name not in DROPPED)

    def source(given: Input) -> Input:
        mine = replace(given, options=options(given.options, "input"))
        if not given.synthetic:
            return mine
        judged = policy.judge_source(given, files)
        found.extend(judged.violations)
        read.update(judged.files)
        return replace(mine, name=judged.text)

    rewritten = Command(
        global_options=options(command.global_options, "global"),
        inputs=tuple(source(one) for one in command.inputs),
        outputs=tuple(replace(one, options=options(one.options, "output")) for one in command.outputs),
    )
    return _Judged(command=rewritten, violations=tuple(found), files=frozenset(read))


def _refusal(violations: tuple[Violation, ...]) -> CommandNotAllowed:
    listed = [{"position": v.position, "token": v.token, "reason": v.reason} for v in violations[:MAX_VIOLATIONS]]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return CommandNotAllowed(f"{violations[0].reason}{more}", details={"violations": listed})


def _declared_names(input_names: Collection[str], output_names: Collection[str]) -> Iterator[Violation]:
    roles: tuple[tuple[names.Role, Collection[str]], ...] = (("input", input_names), ("output", output_names))
    for role, declared in roles:
        for name in declared:
            if fault := names.fault(name, role):
                yield violation(None, name, f"The {role} name {shown(name)} {fault}")
    seen: Counter[str] = Counter(name.casefold() for name in (*input_names, *output_names))
    for name in (*input_names, *output_names):
        if seen[name.casefold()] > 1:
            yield violation(None, name, f"The name {shown(name)} is used for more than one file; case does not count.")


def _inputs(command: Command, declared: Collection[str], read: Collection[str]) -> Iterator[Violation]:
    files = [source for source in command.inputs if not source.synthetic]
    for source in files:
        if source.name not in declared:
            yield violation(source.position, source.name, f"The input {shown(source.name)} is not in input_files.")
    for name in declared:
        if name not in read and name not in {source.name for source in files}:
            yield violation(
                None, name, f"The input file {shown(name)} is not used by the command: it has no -i for it."
            )


def _outputs(command: Command, declared: Collection[str]) -> Iterator[Violation]:
    written = Counter(output.name for output in command.outputs)
    for output in command.outputs:
        if output.name not in declared:
            yield violation(output.position, output.name, _undeclared(output, declared))
        elif written[output.name] > 1:
            reason = f"The output {shown(output.name)} is written more than once."
            yield violation(output.position, output.name, reason)
        elif last(output.options, "f") is None and (fault := _format_fault(output.name)):
            yield violation(output.position, output.name, fault)
    beside = {option.value for output in command.outputs for option in output.options if option.name in NAMING}
    for name in declared:
        if name not in written and name not in beside:
            yield violation(None, name, f"The output file {shown(name)} is not written by the command.")


def _undeclared(output: Output, declared: Collection[str]) -> str:
    fault = names.fault(output.name, "output")
    if fault:
        return f"The output {shown(output.name)} {fault}"
    return f"The output {shown(output.name)} is not declared; declared: {shown(', '.join(declared) or 'nothing')}."


def _format_fault(name: str) -> str | None:
    """Why the output's name does not tell its format."""
    if not names.has_extension(name):
        return f"The output {shown(name)} has no extension to tell its format: add one, or -f."
    extension = name.rpartition(".")[2]
    fault = formats.extension_fault(extension)
    return fault and f"The extension of the output {shown(name)} {fault}"
