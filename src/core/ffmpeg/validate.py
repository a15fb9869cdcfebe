"""Whether a command may run: its names are the declared ones, and it leaves alone what the worker controls.

Called at register and again by the worker, because a stored row is input too.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final

from core.errors import CommandNotAllowed
from core.ffmpeg import names
from core.ffmpeg.command import Command, Input, Option, Output, Violation, last, shown, violation
from core.ffmpeg.parse import parse

# The worker sets these itself, whatever the command says. Most commands that people have at hand contain some.
DROPPED: Final = frozenset({"y", "n", "stdin", "hide_banner", "stats", "stats_period"})

_FILE: Final = "it writes a file that is not a declared output."
_READS: Final = "it reads a file that is not a declared input."
_GUARD: Final = "the service sets this limit itself."
_LOG: Final = "the service sets the log level itself."
_DEVICE: Final = "it opens a device by a path; -hwaccel cuda needs none."

REFUSED: Final[Mapping[str, str]] = {
    "progress": "the service reads the progress itself.",
    "loglevel": _LOG,
    "v": _LOG,
    "debug_ts": "it floods the log.",
    "dump": "it floods the log.",
    "hex": "it floods the log.",
    "report": _FILE,
    "vstats": _FILE,
    "vstats_file": _FILE,
    "vstats_version": "it is of use with -vstats only, which writes a file that is not a declared output.",
    "stats_enc_pre": _FILE,
    "stats_enc_post": _FILE,
    "stats_mux_pre": _FILE,
    "print_graphs": "it prints internals into the log.",
    "print_graphs_file": _FILE,
    "print_graphs_format": "it is of use with -print_graphs only.",
    "sdp_file": _FILE,
    "dump_attachment": _FILE,
    "attach": _READS,
    "pre": _READS,
    "vpre": _READS,
    "apre": _READS,
    "spre": _READS,
    "fpre": _READS,
    "vaapi_device": _DEVICE,
    "qsv_device": _DEVICE,
    "protocol_whitelist": _GUARD,
    "protocol_blacklist": _GUARD,
    "format_whitelist": _GUARD,
    "codec_whitelist": _GUARD,
    "max_alloc": _GUARD,
    "abort_on": "the service decides itself what counts as a failure.",
    "timelimit": "the task's own time limit does this.",
}

MAX_VIOLATIONS = 100  # of 16 kB of nonsense thousands could be listed

# Their values are names of further files, beside the output that they stand before.
NAMING: Final = frozenset({"hls_segment_filename", "hls_fmp4_init_filename", "master_pl_name", "segment_list"})


def check(text: str, *, input_names: Collection[str], output_names: Collection[str]) -> Command:
    """The command that may run; what it says about things that the worker sets itself is left out.

    `input_names` are the keys of input_files, `output_names` the declared outputs. Raises CommandNotAllowed with
    every violation in its details, save in a command that has more than 100.
    """
    parsed = parse(text)
    command = parsed.command
    violations = (
        *parsed.violations,
        *_declared_names(input_names, output_names),
        *(found for option in command.options() for found in _option_faults(option)),
        *_inputs(command.inputs, input_names),
        *_outputs(command, output_names),
    )
    if violations:
        raise _refusal(violations)
    return _without_dropped(command)


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


def _option_faults(option: Option) -> Iterator[Violation]:
    value = option.value or ""
    if reason := REFUSED.get(option.name):
        yield violation(option.position, option.flag, f"{shown(option.flag)} is not allowed: {reason}")
    elif option.name == "init_hw_device" and not value.startswith("cuda"):
        yield violation(option.position, option.flag, f"-init_hw_device may be cuda only, not {shown(value)}.")
    elif option.name in (*NAMING, "passlogfile") and (fault := names.fault(value, "output")):
        yield violation(option.position + 1, value, f"The value of {shown(option.flag)}, {shown(value)}, {fault}")


def _inputs(inputs: tuple[Input, ...], declared: Collection[str]) -> Iterator[Violation]:
    files = [source for source in inputs if not source.synthetic]
    for source in files:
        if source.name not in declared:
            yield violation(source.position, source.name, f"The input {shown(source.name)} is not in input_files.")
    for name in declared:
        if name not in {source.name for source in files}:
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
        elif not names.has_extension(output.name) and last(output.options, "f") is None:
            reason = f"The output {shown(output.name)} has no extension to tell its format: add one, or -f."
            yield violation(output.position, output.name, reason)
    beside = {option.value for output in command.outputs for option in output.options if option.name in NAMING}
    for name in declared:
        if name not in written and name not in beside:
            yield violation(None, name, f"The output file {shown(name)} is not written by the command.")


def _undeclared(output: Output, declared: Collection[str]) -> str:
    fault = names.fault(output.name, "output")
    if fault:
        return f"The output {shown(output.name)} {fault}"
    return f"The output {shown(output.name)} is not declared; declared: {shown(', '.join(declared) or 'nothing')}."


def _without_dropped(command: Command) -> Command:
    return replace(
        command, global_options=tuple(option for option in command.global_options if option.name not in DROPPED)
    )
