"""The program that looks into media files: a path a line on stdin, its facts as a line of JSON on stdout.

A process of its own, because media is hostile input and libav is a large parser. It is started before there is
anything to look at, so that its start costs nothing. By then it has loaded all that it needs; the first line names
the task's folder and the rules of the sandbox, which it takes on before it opens anything. Paths are relative to that
folder. PyAV stands in for ffprobe, which no wheel carries.
"""

import json
import os
import signal
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import av.subtitles.codeccontext
import av.subtitles.stream
import av.subtitles.subtitle
from av.container import InputContainer

sys.path.insert(0, str(Path(__file__).parents[2]))
from core.worker import confine, kernel

MAX_STREAMS = 64
MAX_PACKETS_SEEN = 1000  # enough to meet the first packet that has bytes, if there is one


def facts(path: str) -> dict[str, Any]:
    with av.open(path, mode="r", options={"protocol_whitelist": "file"}) as container:
        return {
            "format": container.format.name,
            "duration_seconds": container.duration / av.time_base if container.duration else None,
            "bit_rate": container.bit_rate or None,
            "streams": [_stream(stream) for stream in islice(container.streams, MAX_STREAMS)],
            "packets": _has_packets(container),
        }


def _stream(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    described = {
        "type": stream.type,
        "codec": context.name if context else "unknown",
        "bit_rate": (context.bit_rate if context else None) or None,
    }
    if stream.type == "video" and context:
        described |= {
            "codec": context.codec.canonical_name,
            "width": context.width or None,  # PyAV cannot look into animated WebP
            "height": context.height or None,
            "pixel_format": context.pix_fmt,
            "frame_rate": _rounded(stream.average_rate),
            "sample_aspect_ratio": _ratio(stream.sample_aspect_ratio),
        }
    if stream.type == "audio" and context:
        described |= {
            "codec": context.codec.canonical_name,
            "channels": context.channels,
            "channel_layout": context.layout.name,
            "sample_rate": context.sample_rate,
        }
    return described


def _has_packets(container: InputContainer) -> bool:
    for count, packet in enumerate(container.demux()):
        if packet.size:
            return True
        if count >= MAX_PACKETS_SEEN:
            break
    return False


def _rounded(rate: Fraction | None) -> float | None:
    return round(float(rate), 3) if rate else None


def _ratio(ratio: Fraction | None) -> str | None:
    return f"{ratio.numerator}:{ratio.denominator}" if ratio else None


def move_in(folder: str, rules: list[str]) -> None:
    """Live by the rules from here on, in the folder; to be called while there is one thread to hold to them."""
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208
        raise RuntimeError("a thread runs already, and would not be confined")
    os.chdir(folder)
    confine.apply(rules)


def main() -> None:
    kernel.die_with(int(sys.argv[1]), with_signal=signal.SIGKILL)
    first = json.loads(sys.stdin.readline() or "null")
    if first is None:
        return
    move_in(first["folder"], first["rules"])
    _say({"confined": True})
    for line in sys.stdin:
        try:
            answer = facts(json.loads(line))
        except Exception as error:  # whatever a hostile file provokes is an answer, not an end
            answer = {"error": getattr(error, "strerror", None) or type(error).__name__}
        _say(answer)


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 - stdout is how it answers


if __name__ == "__main__":
    main()
