"""A sprite: small pictures of a film at equal distances in one, and the WebVTT that says which of them is when.

The grid follows from the film's length; where each picture lies follows from the size of what came out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

MOST_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class Grid:
    every: int  # seconds from one picture to the next
    count: int
    columns: int
    rows: int


def grid(seconds: float | None, *, every: int, most: int) -> Grid:
    """At most `most` pictures, further apart than `every` seconds where the film is too long for that."""
    if seconds is None:
        return _grid(every, most)
    apart = max(every, math.ceil(seconds / most))
    return _grid(apart, max(1, math.ceil(seconds / apart)))


def vtt(there: Grid, *, seconds: float, sprite: str, width: int, height: int) -> str:
    """A cue for each picture, with where it lies in the file `sprite`, of `width` and `height`."""
    return "\n\n".join(("WEBVTT", *_cues(there, seconds, quote(sprite), width, height))) + "\n"


def _grid(every: int, count: int) -> Grid:
    columns = min(MOST_COLUMNS, math.ceil(math.sqrt(count)))
    return Grid(every=every, count=count, columns=columns, rows=math.ceil(count / columns))


def _cues(there: Grid, seconds: float, sprite: str, width: int, height: int) -> Iterator[str]:
    wide, high = width // there.columns, height // there.rows
    for number in range(there.count):
        begin, end = number * there.every, min((number + 1) * there.every, seconds)
        row, column = divmod(number, there.columns)
        place = f"{column * wide},{row * high},{wide},{high}"
        yield f"{_clock(begin)} --> {_clock(end)}\n{sprite}#xywh={place}"


def _clock(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{thousandths:03}"
