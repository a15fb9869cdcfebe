"""The program that looks into media files: a path a line on stdin, its facts as a line of JSON on stdout.

A process of its own, because media is hostile input and libav is a large parser. It is started before there is
anything to look at, so that its start costs nothing. By then it has loaded all that it needs. A line that names a
task's folder and the rules of the sandbox has it fork: the child takes these on before it opens anything, and looks
into files, their paths relative to that folder; we pass on lines and open none. `null` ends the child, so that the
next task gets one that has seen nothing of this one. PyAV stands in for ffprobe, which no wheel carries.
"""

import contextlib
import json
import os
import signal
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import av
import av.subtitles.codeccontext
import av.subtitles.stream
import av.subtitles.subtitle
from av.container import InputContainer

sys.path.insert(0, str(Path(__file__).parents[2]))
from core.worker import confine, kernel

MAX_STREAMS = 64
MAX_ANSWER_BYTES = 1024**2
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


class Child:
    """The process for one folder. It shares no pipe with us but its own two: what it says is an answer to what it was
    asked, and nothing that another task's files are asked later."""

    def __init__(self, folder: str, rules: list[str]) -> None:
        questions, self._questions = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _live_as_child(questions, answers, folder, rules)
        os.close(questions)
        os.close(answers)

    def ask(self, line: str) -> str:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._questions, line.encode() + b"\n")
        return self.answer()

    def answer(self) -> str:
        """One line; `null` when there is none, as it is gone."""
        data = b""
        while not data.endswith(b"\n") and len(data) < MAX_ANSWER_BYTES:
            part = os.read(self._answers, 65536)
            if not part:
                return "null"
            data += part
        return data.partition(b"\n")[0].decode(errors="replace")

    def end(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._questions)
        os.close(self._answers)


def _live_as_child(questions: int, answers: int, folder: str, rules: list[str]) -> NoReturn:
    try:
        os.dup2(questions, 0)
        os.dup2(answers, 1)
        os.closerange(3, 256)
        ours = [rule for rule in rules if not rule.startswith("parent=")]
        move_in(folder, [*ours, f"parent={os.getppid()}"])
        _say({"confined": True})
        while line := sys.stdin.readline():
            _say(_examined(line))
    finally:
        os._exit(1)


def _examined(line: str) -> dict[str, Any]:
    try:
        return facts(json.loads(line))
    except Exception as error:  # whatever a hostile file provokes is an answer, not an end
        return {"error": getattr(error, "strerror", None) or type(error).__name__}


def main() -> None:
    kernel.die_with(int(sys.argv[1]), with_signal=signal.SIGKILL)
    child: Child | None = None
    while line := sys.stdin.readline():
        wanted = json.loads(line)
        if isinstance(wanted, str):
            answer = child.ask(line.rstrip("\n")) if child else "null"
        else:
            if child:
                child.end()
            child = Child(wanted["folder"], wanted["rules"]) if wanted else None
            answer = child.answer() if child else "null"
        print(answer, flush=True)  # noqa: T201 - stdout is how it answers


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 - stdout is how it answers


if __name__ == "__main__":
    main()
