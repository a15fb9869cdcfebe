"""Whether a command needs a GPU, and whether a card can do what it asks for.

It needs one when it names an encoder, a decoder or a filter of CUDA.
"""

import re
from collections.abc import Sequence
from typing import Literal

from core.ffmpeg.command import Command, Option

Compute = Literal["gpu", "cpu"]

CODEC = re.compile(r".*_(?:nvenc|cuvid)")
FILTER = re.compile(r"(?:^|[\],;])\s*[a-z0-9_]+_cuda\b")
CODEC_OPTIONS = frozenset({"c", "codec", "vcodec"})
GRAPH_OPTIONS = frozenset({"vf", "filter", "filter_complex", "lavfi"})

# Cards without any video encoder, and cards whose encoder knows no AV1, by what their model is called (NVIDIA's Video
# Encode and Decode Support Matrix). What is not listed is tried.
NO_ENCODER = re.compile(r"\b(?:A100|A30|H100|H200|H800|H20|GH200|B100|B200|GB200)\b")
NO_AV1_ENCODER = re.compile(r"\b(?:T4|T4G|V100|P4|P40|P100|M60|A10|A10G|A16|A2|A40|K80)\b")


def needs(command: Command) -> Compute:
    """`-hwaccel auto` runs on either, so it asks for none."""
    return "gpu" if any(_asks(option) for option in command.options()) else "cpu"


def refusal(command: Command, cards: Sequence[str]) -> str | None:
    """Why none of the `cards`, told by their models, can do what `command` asks for; None when one may.

    A card whose model is not known ("") is given a try.
    """
    if needs(command) == "cpu":
        return None
    if not cards:
        return "The command needs an NVIDIA GPU, and this worker has none."
    encoders = {encoder for option in command.options() if (encoder := _encoder(option))}
    if encoders and all(NO_ENCODER.search(card) for card in cards):
        return f"The worker's {cards[0]} has no video encoder."
    if "av1_nvenc" in encoders and all(NO_ENCODER.search(card) or NO_AV1_ENCODER.search(card) for card in cards):
        return f"The worker's {cards[0]} cannot encode AV1."
    return None


def _encoder(option: Option) -> str | None:
    value = option.value or ""
    return value if option.name in CODEC_OPTIONS and value.endswith("_nvenc") else None


def _asks(option: Option) -> bool:
    value = option.value or ""
    if option.name in CODEC_OPTIONS:
        return CODEC.fullmatch(value) is not None
    if option.name in GRAPH_OPTIONS:
        return FILTER.search(value) is not None
    return (option.name == "hwaccel" and value in ("cuda", "nvdec")) or (
        option.name == "init_hw_device" and value.startswith("cuda")
    )
