"""Measures what this worker uses, ffmpeg and the prober included, and the cards of its machine."""

import os
import time
from collections.abc import Callable
from contextlib import suppress

from core.workers import Gpu, Usage


class Meter:
    """Each `read` measures since the one before. `cards` asks the driver; it answers nothing where there are none."""

    def __init__(self, cards: Callable[[], tuple[Gpu, ...]] = tuple) -> None:
        self._cards = cards
        self._before = (time.monotonic(), sum(os.times()[:4]))

    def read(self) -> Usage:
        now = time.monotonic()
        seconds, memory = _family()
        (then, used), self._before = self._before, (now, seconds)
        # One that has ended and was not yet waited for is in neither sum for a moment.
        cores = max(0.0, seconds - used) / (now - then) if now > then else None
        return Usage(cpu_cores=None if cores is None else round(cores, 2), memory_bytes=memory, gpus=self._cards())


def _family() -> tuple[float, int]:
    """Seconds of processor time, those of ended children included, and bytes of memory, of us and all below us."""
    import psutil  # only here: most workers end before they are first measured

    us = psutil.Process()
    times = us.cpu_times()
    seconds, memory = sum(times[:4]), us.memory_info().rss
    for child in us.children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            seconds += sum(child.cpu_times()[:4])
            memory += child.memory_info().rss
    return seconds, memory
