"""The argument list that the worker gives to ffmpeg, from a checked command.

The worker runs ffmpeg in the task's output folder; inputs lie in ../in under names of ours, logs of two-pass encoding
in ../tmp. An output is written as `file:./NAME`: `file:` so that no name is ever taken for a protocol, and `./`
because the HLS and segment muxers write the `file:` of a bare `file:NAME` into their playlists, while they cut off
all up to the last slash (tried: HLS with MPEG-TS and fMP4, %v with a master playlist, DASH, segment, image sequences).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

from core.ffmpeg import formats, values
from core.ffmpeg.command import Command, Input, Option, Output, last
from core.ffmpeg.option_rules import TAKES, Takes

STATS_PREFIX = "ffmpeg2pass"  # ffmpeg's own default
MAX_ALLOCATION_BYTES = 512 * 2**20  # of one block of memory; a 4K encode needs far less
LogLevel = Literal["warning", "info"]  # filters say what they have measured in info
EXTENSION = re.compile(r"\.([A-Za-z0-9]{1,8})$")


def build(
    command: Command,
    *,
    inputs: Mapping[str, str],
    progress_fd: int,
    max_output_bytes: int,
    log_level: LogLevel = "warning",
) -> tuple[str, ...]:
    """All arguments after the program's name.

    `inputs` has, for each name in the command, the path of the file relative to the output folder (`../in/i0.mp4`).
    ffmpeg writes its progress to the open file descriptor `progress_fd`, and names the level in each line of its log.
    """
    return (
        *("-nostdin", "-hide_banner", "-y"),
        *("-loglevel", f"level+{log_level}", "-nostats", "-max_alloc", str(MAX_ALLOCATION_BYTES)),
        *("-progress", f"pipe:{progress_fd}", "-stats_period", "0.5"),
        *_options(command.global_options, inputs),
        *(token for source in command.inputs for token in _input(source, inputs)),
        *(token for output in command.outputs for token in _output(output, inputs, max_output_bytes)),
    )


def local_name(index: int, name: str) -> str:
    """What the input number `index` is called on disk: `i0.mp4`. Some demuxers go by the extension, so it is kept.

    `name` is the user's name, or a URL; what follows the path of a URL is not looked at.
    """
    found = EXTENSION.search(re.split(r"[?#]", name)[0] if "://" in name else name)
    extension = found[1].lower() if found else ""
    return f"i{index}.{extension}" if extension and extension not in formats.UNSAFE_EXTENSIONS else f"i{index}"


def _options(given: tuple[Option, ...], inputs: Mapping[str, str]) -> Iterator[str]:
    for option in given:
        yield from _localised(_away_from_outputs(option), inputs).tokens()


def _input(source: Input, inputs: Mapping[str, str]) -> Iterator[str]:
    yield from _options(source.options, inputs)
    if source.synthetic:
        yield from ("-i", _graph(source.name, inputs))
    else:
        # Behind the user's options, because the last one counts.
        yield from ("-protocol_whitelist", "file", "-format_whitelist", formats.WHITELIST)
        yield from ("-max_pixels", str(values.MOST_PIXELS), "-i", f"file:{inputs[source.name]}")


def _output(output: Output, inputs: Mapping[str, str], max_bytes: int) -> Iterator[str]:
    yield from _options(output.options, inputs)
    named = {option.name for option in output.options}
    if "pass" in named and "passlogfile" not in named:
        yield from ("-passlogfile", f"../tmp/{STATS_PREFIX}")
    own = values.number(last(output.options, "fs"))
    if own is None or not 0 <= own <= max_bytes:
        yield from ("-fs", str(max_bytes))
    yield f"file:./{output.name}"


def _localised(option: Option, inputs: Mapping[str, str]) -> Option:
    if TAKES.get(option.name) is not Takes.GRAPH or option.value is None:
        return option
    return replace(option, value=_graph(option.value, inputs))


def _graph(text: str, inputs: Mapping[str, str]) -> str:
    from core.ffmpeg import filters  # only here: its tables take longer to load than all else

    return filters.localised(text, inputs)


def _away_from_outputs(option: Option) -> Option:
    return replace(option, value=f"../tmp/{option.value}") if option.name == "passlogfile" else option
