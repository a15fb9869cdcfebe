"""When bytes that come slowly are a trickle, by clocks of the tests' own."""

import pytest

from core.flow import Flow


def flow() -> Flow:
    return Flow(least_bytes_per_second=100, window_seconds=60, began=1000)


@pytest.mark.parametrize(
    ("arrived", "after", "trickles"),
    [
        (0, 59.9, False),  # nobody is judged before a window is over
        (0, 60, True),
        (5_999, 60, True),
        (6_000, 60, False),
        (6_000, 61, True),  # which took longer than the window
        (10**9, 600, False),
    ],
)
def test_the_average_over_a_window_is_judged(arrived: int, after: float, trickles: bool) -> None:
    judged = flow()
    judged.count(arrived)
    assert judged.is_trickle(1000 + after) == trickles


def test_what_came_in_one_window_is_no_excuse_in_the_next() -> None:
    judged = flow()
    judged.count(10**9)
    assert not judged.is_trickle(1060)
    judged.count(5_999)
    assert not judged.is_trickle(1119.9)
    assert judged.is_trickle(1120)
