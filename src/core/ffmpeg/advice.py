"""What is likely to disappoint in a command that may run: each a sentence with its remedy."""

import re
from collections.abc import Iterator

from core.ffmpeg.command import Command, Output, last

MP4 = re.compile(r"\.(?:mp4|m4v|m4a|mov)$", re.IGNORECASE)
TEN_BITS = re.compile(r"p010|p016|.*10(?:le|be)?|.*12(?:le|be)?")
SCALED = re.compile(r"(?:^|[\],;])\s*scale=(?:w=|width=)?(-?\d+):(?:h=|height=)?(-?\d+)")
NEEDS_EVEN = re.compile(r"libx264|libx265|.*_nvenc")


def warnings(command: Command) -> list[str]:
    return [sentence for output in command.outputs for sentence in _of(output, command)]


def _of(output: Output, command: Command) -> Iterator[str]:
    codec = _video_codec(output)
    pixels = last(output.options, "pix_fmt") or ""
    flags = last(output.options, "movflags") or ""
    if _is_mp4(output) and "faststart" not in flags and "frag" not in flags:
        yield f"{output.name} is played only when it is loaded whole: add -movflags +faststart."
    if codec == "h264_nvenc" and TEN_BITS.fullmatch(pixels):
        yield f"h264_nvenc cannot encode {pixels}: use -pix_fmt yuv420p, or hevc_nvenc."
    if NEEDS_EVEN.fullmatch(codec or ("libx264" if MP4.search(output.name) else "")):
        yield from _odd_sizes(output, command)
    if codec == "copy" and _filters_video(output):
        yield f"The video of {output.name} is both copied and filtered, which ffmpeg refuses: name an encoder."


def _is_mp4(output: Output) -> bool:
    named = last(output.options, "f")
    return named in ("mp4", "mov", "ipod") if named else MP4.search(output.name) is not None


def _odd_sizes(output: Output, command: Command) -> Iterator[str]:
    graphs = (o.value or "" for o in (*output.options, *command.global_options) if o.name in ("vf", "filter_complex"))
    for width, height in (found for graph in graphs for found in SCALED.findall(graph)):
        if any(side == "-1" or (int(side) > 0 and int(side) % 2) for side in (width, height)):
            yield f"scale={width}:{height} may give an odd size, which yuv420p cannot have: use even numbers, and -2."


def _filters_video(output: Output) -> bool:
    return last(output.options, "vf") is not None


def _video_codec(output: Output) -> str | None:
    named = (o for o in reversed(output.options) if o.name in ("c", "codec", "vcodec"))
    return next((o.value for o in named if o.name == "vcodec" or (o.specifier or "v").startswith("v")), None)
