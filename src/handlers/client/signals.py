"""Ctrl-C: the first one ends what is going on, politely; a second one leaves at once.

What is going on in the main thread is interrupted where it stands. Other threads look at the `Stop` that they share.
"""

import os
import signal
import threading
from types import FrameType

from handlers.client.faults import INTERRUPTED, Interrupted

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = b"\x1b[?25h"


class Stop:
    """Whether to end. Waiting for it is how everything here waits."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Raises Interrupted."""
        if self._event.is_set():
            raise Interrupted(signal.SIGINT)

    def wait(self, seconds: float) -> None:
        """Raises Interrupted, as soon as it is set."""
        self._event.wait(seconds)
        self.check()


def install() -> None:
    """What was ignored when we were started, as under nohup, stays ignored."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _first)


def _first(number: int, frame: FrameType | None) -> None:
    for one in _ENDING:
        signal.signal(one, _second)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # of a terminal that goes, a shell tells once more
    raise Interrupted(number)


def _second(number: int, frame: FrameType | None) -> None:
    if os.isatty(2):
        os.write(2, _SHOW_CURSOR)
    os._exit(INTERRUPTED + number)
