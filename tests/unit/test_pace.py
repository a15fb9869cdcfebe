"""The token bucket: how many requests are admitted, and that the wait it names is the true one."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from core import pace
from core.pace import MINUTE
from support.builders import NOW

MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)


def admitted(full_at: datetime | None, per_minute: int, *, now: datetime) -> tuple[datetime, int]:
    """How many requests in a row are admitted at one moment, and the bucket after them."""
    for number in range(per_minute + 2):
        full_at, wait = pace.take(full_at, per_minute, now=now)
        if wait:
            return full_at, number
    raise AssertionError("there is no end to it")


def test_a_minutes_requests_may_come_at_once_and_no_more() -> None:
    full_at, number = admitted(None, 5, now=NOW)
    assert number == 5
    assert pace.take(full_at, 5, now=NOW).wait == timedelta(seconds=12)


def test_the_bucket_fills_evenly() -> None:
    full_at, _ = admitted(None, 60, now=NOW)
    full_at, number = admitted(full_at, 60, now=NOW + 7 * SECOND)
    assert number == 7
    _, number = admitted(full_at, 60, now=NOW + timedelta(hours=1))
    assert number == 60


def test_who_is_refused_loses_nothing() -> None:
    full_at, _ = admitted(None, 1, now=NOW)
    for _ in range(100):
        assert pace.take(full_at, 1, now=NOW).full_at == full_at


def test_a_clock_that_is_set_back_costs_a_minute_at_most() -> None:
    full_at, _ = admitted(None, 10, now=NOW)
    earlier = NOW - timedelta(days=1)
    assert pace.take(full_at, 10, now=earlier).wait == timedelta(seconds=6)


@given(
    per_minute=st.integers(1, 100_000),
    gaps=st.lists(st.timedeltas(min_value=timedelta(0), max_value=timedelta(seconds=90)), max_size=60),
)
def test_the_wait_is_true_to_the_microsecond(per_minute: int, gaps: list[timedelta]) -> None:
    full_at, now = None, NOW
    for gap in gaps:
        now += gap
        full_at, wait = pace.take(full_at, per_minute, now=now)
        if wait:
            assert wait <= MINUTE / per_minute
            assert pace.take(full_at, per_minute, now=now + wait - MICROSECOND).wait
            assert not pace.take(full_at, per_minute, now=now + wait).wait


@given(
    per_minute=st.integers(1, 30),
    gaps=st.lists(st.timedeltas(min_value=timedelta(0), max_value=timedelta(seconds=20)), max_size=80),
)
def test_never_more_than_the_bucket_and_what_flowed_in(per_minute: int, gaps: list[timedelta]) -> None:
    full_at, now, number = None, NOW, 0
    for gap in gaps:
        now += gap
        full_at, wait = pace.take(full_at, per_minute, now=now)
        number += not wait
    assert number <= per_minute + (now - NOW) / MINUTE * per_minute + 1e-6
