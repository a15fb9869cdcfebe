"""A page of all tasks, put together from rows and from the tasks of batches that have no row yet.

A task of a batch stands among all tasks, by its batch's time and its own id, where its row will stand once it has one.
So nothing moves while tasks get their rows, and a task that is met as both is met once. Pure: what there is, is read by
task_list.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from heapq import merge
from itertools import groupby, islice
from typing import NamedTuple

from core.batch import Batch, task_id
from core.ports import Page, Position
from core.task import Status, Task


class Rowless(NamedTuple):
    """A task of a batch that has no row of its own."""

    batch: Batch
    number: int

    @property
    def position(self) -> Position:
        return Position(self.batch.created_at, task_id(self.batch.batch_id, self.number))


def first_of(batch: Batch) -> Position:
    """Below all tasks of the batch, and above those of any batch before it."""
    return Position(batch.created_at, batch.batch_id)


def above(batch: Batch) -> Position:
    """What its newest task is below."""
    return Position(batch.created_at, task_id(batch.batch_id, batch.count))


def may_lack_rows(batch: Batch, status: Status | None) -> bool:
    """Whether tasks of the batch may be in the status, or in any, without a row."""
    return batch.may_lack_rows and status in (None, Status.CANCELED if batch.canceled_at else Status.QUEUED)


def rowless(
    batch: Batch, *, below: Position | None, down_to: Position | None, stored: Collection[int] = ()
) -> Iterator[Rowless]:
    """The tasks of the batch below the one position and not below the other, the newest first, but the `stored`."""
    start = _place(batch, down_to) if down_to else 0
    end = _place(batch, below) if below else batch.count
    return (Rowless(batch, number) for number in range(end - 1, start - 1, -1) if number not in stored)


def merged(rows: Page, others: Iterable[Rowless], *, limit: int) -> tuple[list[Task | Rowless], Position | None]:
    """At most `limit` of both, each in order, and what to go on below. What is in both is there by its row."""
    both: tuple[Iterable[Task | Rowless], ...] = (rows.tasks, others)
    every = merge(*both, key=_position, reverse=True)
    once = (next(same) for _, same in groupby(every, key=_position))
    found = list(islice(once, limit + 1))
    return found[:limit], _position(found[limit - 1]) if len(found) > limit else rows.next


def cut(rows: Page, *, at: Position, following: Position | None) -> Page:
    """What of the page is not below the position; where it ends there, it goes on at `following`."""
    if rows.next and rows.next > at:
        return rows
    return Page([task for task in rows.tasks if Position.of(task) >= at], following)


def _place(batch: Batch, position: Position) -> int:
    """How many of the batch's tasks are below the position."""
    return bisect_left(range(batch.count), position, key=lambda number: Rowless(batch, number).position)


def _position(one: Task | Rowless) -> Position:
    return Position.of(one) if isinstance(one, Task) else one.position
