"""Pace: how many requests a caller may make, by a token bucket that is kept as one time. Pure.

A bucket holds a minute's requests and fills evenly. All there is to know about it is when it will be full: each
request puts that off by its share of a minute, and one that would put it off by more than a minute is too many.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

MINUTE = timedelta(minutes=1)


class Taken(NamedTuple):
    full_at: datetime  # of the bucket, after this
    wait: timedelta  # until a request is admitted; none: this one was


def take(full_at: datetime | None, per_minute: int, *, now: datetime) -> Taken:
    """One request of `per_minute`, at least 1, at `now`; `full_at` is None for who comes for the first time."""
    # A clock that was set back must lock nobody out for longer than an empty bucket does.
    full_at = min(max(full_at or now, now), now + MINUTE)
    after = full_at + MINUTE / per_minute
    wait = after - MINUTE - now
    return Taken(full_at, wait) if wait > timedelta(0) else Taken(after, timedelta(0))
