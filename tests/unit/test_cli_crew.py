"""Threads that do the same work are waited for, also by one who is interrupted meanwhile."""

import itertools
import signal
import threading
from types import FrameType

import pytest

from handlers.client.crew import Crew


class Alarm(Exception):
    pass


def test_crew_is_still_at_work_after_an_interruption() -> None:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Alarm

    def work() -> None:
        if next(numbers):  # the first has nothing to do
            free.wait(60)

    def wait_and_be_interrupted(crew: Crew) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        crew.wait(60)

    free, numbers = threading.Event(), itertools.count()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        crew = Crew(2, work)
        with pytest.raises(Alarm):
            wait_and_be_interrupted(crew)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert not crew.wait(0.05)
    free.set()
    assert crew.wait(60)


def test_crew_of_nobody_is_done() -> None:
    assert Crew(0, lambda: None).wait(0)
