"""How far a transcode is: ffmpeg's `-progress` lines, against what the output is expected to become.

What ffmpeg 9 reports as out_time is how far the slowest stream was *sent to* its encoder: it is N/A once all were
sent, runs ahead of the encoder before that, and follows the source's clock where streams are copied. So frames, which
count what was written, have their say too, and the lower of the two is the truth.
"""

import re
from dataclasses import dataclass, field, replace

from core.ffmpeg.expect import Expected, expected, seconds
from core.task import Progress

__all__ = ["Expected", "Meter", "expected", "seconds"]

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
MOST = 99.9  # 100 is said when the task is completed


@dataclass(slots=True)
class Meter:
    """Feed it ffmpeg's lines; where a report ends, it gives the Progress."""

    expected: Expected
    _report: dict[str, str] = field(default_factory=dict)

    def feed(self, line: str) -> Progress | None:
        key, _, value = line.strip().partition("=")
        if key != "progress":
            self._report[key] = value
            return None
        report, self._report = self._report, {}
        return _progress(report, self.expected)


def part(progress: Progress, index: int, of: int) -> Progress:
    """The progress of one run as that of all `of`, each of which counts alike; `index` is its number, from 0.

    What a run writes is the task's only if it is the last.
    """
    percent = None if progress.percent is None else round((100 * index + progress.percent) / of, 1)
    if index + 1 < of:
        return Progress(percent=percent, speed=progress.speed)
    return replace(progress, percent=percent)


def _progress(report: dict[str, str], expected: Expected) -> Progress:
    out_time_us = _number(report, "out_time_us") if expected.clock else None
    out_time = None if out_time_us is None else max(out_time_us, 0.0) / 1e6
    frame = _number(report, "frame")
    fps = _number(report, "fps") or None  # 0.00 until a second has passed
    speed = _number(report, "speed") if expected.clock else None
    percent, eta = _least(
        _way(out_time, expected.duration_seconds, speed),
        _way(frame, expected.frames, fps),
    )
    return Progress(
        percent=percent,
        frame=None if frame is None else int(frame),
        fps=fps,
        speed=speed,
        out_time_seconds=out_time,
        eta_seconds=eta,
    )


def _number(report: dict[str, str], key: str) -> float | None:
    found = NUMBER.match(report.get(key, "").strip())
    return float(found[0]) if found else None


def _way(done: float | None, whole: float | None, rate: float | None) -> tuple[float, float | None] | None:
    """The percentage and the seconds left; None without both ends of the way."""
    if done is None or not whole:
        return None
    left = max(whole - done, 0.0)
    return min(round(100 * done / whole, 1), MOST), round(left / rate, 1) if rate else None


def _least(*ways: tuple[float, float | None] | None) -> tuple[float | None, float | None]:
    known = [way for way in ways if way is not None]
    return min(known, key=lambda way: way[0]) if known else (None, None)
