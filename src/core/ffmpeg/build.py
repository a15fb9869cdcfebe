"""The argument list that the worker gives to ffmpeg, from a checked command.

The worker runs ffmpeg in the task's output folder; inputs lie in ../in under names of ours, logs of two-pass encoding
in ../tmp. An output is written as `file:./NAME`: `file:` so that no name is ever taken for a protocol, and `./`
because the HLS and segment muxers write the `file:` of a bare `file:NAME` into their playlists, while they cut off
all up to the last slash (tried: HLS with MPEG-TS and fMP4, %v with a master playlist, DASH, segment, image sequences).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from core.ffmpeg.command import Command, Input, Option, Output, flat

STATS_PREFIX = "ffmpeg2pass"  # ffmpeg's own default
EXTENSION = re.compile(r"\.([A-Za-z0-9]{1,8})$")


def build(command: Command, *, inputs: Mapping[str, str], progress_fd: int) -> tuple[str, ...]:
    """All arguments after the program's name.

    `inputs` has, for each name in the command, the path of the file relative to the output folder (`../in/i0.mp4`).
    ffmpeg writes its progress to the open file descriptor `progress_fd`, and names the level in each line of its log.
    """
    return (
        *("-nostdin", "-hide_banner", "-y"),
        *("-loglevel", "level+warning", "-nostats"),
        *("-progress", f"pipe:{progress_fd}", "-stats_period", "0.5"),
        *flat(command.global_options),
        *(token for source in command.inputs for token in _input(source, inputs)),
        *(token for output in command.outputs for token in _output(output)),
    )


def local_name(index: int, name: str) -> str:
    """What the input number `index` is called on disk: `i0.mp4`. Some demuxers go by the extension, so it is kept.

    `name` is the user's name, or a URL; what follows the path of a URL is not looked at.
    """
    found = EXTENSION.search(re.split(r"[?#]", name)[0] if "://" in name else name)
    return f"i{index}.{found[1].lower()}" if found else f"i{index}"


def _input(source: Input, inputs: Mapping[str, str]) -> Iterator[str]:
    yield from flat(source.options)
    yield from ("-i", source.name if source.synthetic else f"file:{inputs[source.name]}")


def _output(output: Output) -> Iterator[str]:
    for option in output.options:
        yield from _away_from_outputs(option).tokens()
    named = {option.name for option in output.options}
    if "pass" in named and "passlogfile" not in named:
        yield from ("-passlogfile", f"../tmp/{STATS_PREFIX}")
    yield f"file:./{output.name}"


def _away_from_outputs(option: Option) -> Option:
    return replace(option, value=f"../tmp/{option.value}") if option.name == "passlogfile" else option
