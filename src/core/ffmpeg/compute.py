"""Whether a command needs a GPU: it does when it names an encoder, a decoder or a filter of CUDA."""

import re
from typing import Literal

from core.ffmpeg.command import Command, Option

Compute = Literal["gpu", "cpu"]

CODEC = re.compile(r".*_(?:nvenc|cuvid)")
FILTER = re.compile(r"(?:^|[\],;])\s*[a-z0-9_]+_cuda\b")
CODEC_OPTIONS = frozenset({"c", "codec", "vcodec"})
GRAPH_OPTIONS = frozenset({"vf", "filter", "filter_complex", "lavfi"})


def needs(command: Command) -> Compute:
    """`-hwaccel auto` runs on either, so it asks for none."""
    return "gpu" if any(_asks(option) for option in command.options()) else "cpu"


def _asks(option: Option) -> bool:
    value = option.value or ""
    if option.name in CODEC_OPTIONS:
        return CODEC.fullmatch(value) is not None
    if option.name in GRAPH_OPTIONS:
        return FILTER.search(value) is not None
    return (option.name == "hwaccel" and value in ("cuda", "nvdec")) or (
        option.name == "init_hw_device" and value.startswith("cuda")
    )
