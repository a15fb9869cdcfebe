"""Pages of rows and of batches' tasks without one, put together."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.batch import Batch, Source, task_id
from core.batch_page import Rowless, above, cut, first_of, may_lack_rows, merged, rowless
from core.ports import Page, Position
from core.task import Status, Task
from support.builders import NOW, a_task

SOURCE = Source("a.mp4", "https://media.example/a.mp4")
SECOND = timedelta(seconds=1)


def a_batch(number: int = 1, count: int = 3, second: int = 0) -> Batch:
    batch_id = f"{number:08x}-0000-4000-8000-000000000000"
    created_at = NOW + second * SECOND
    return Batch(
        batch_id=batch_id,
        template=a_task(created_at=created_at, batch_id=batch_id),
        count=count,
        per_slice=2,
        created_at=created_at,
        correlation_id="corr-1",
    )


def row_of(batch: Batch, number: int) -> Task:
    return batch.task(number, SOURCE)


def of_rows(rows: list[Task], *, limit: int, below: Position | None) -> Page:
    """What a store answers."""
    left = [task for task in sorted(rows, key=Position.of, reverse=True) if below is None or Position.of(task) < below]
    return Page(left[:limit], Position.of(left[limit - 1]) if len(left) > limit else None)


def pages(rows: list[Task], batches: list[Batch], *, limit: int) -> Iterator[list[Position]]:
    below: Position | None = None
    in_order = sorted(batches, key=first_of, reverse=True)
    for _ in range(200):
        page = of_rows(rows, limit=limit, below=below)
        others = [rowless(batch, below=below, down_to=page.next) for batch in in_order]
        found, following = merged(page, chain.from_iterable(others), limit=limit)
        yield [Position.of(one) if isinstance(one, Task) else one.position for one in found]
        if following is None:
            return
        assert below is None or following < below
        below = following
    raise AssertionError("it never ends")


@given(
    singles=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), unique=True, max_size=12),
    batches=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(0, 3)), max_size=4),
    stored=st.sets(st.tuples(st.integers(1, 4), st.integers(0, 8))),
    limit=st.integers(1, 7),
)
def test_page_after_page_has_each_task_once_and_in_order(
    singles: list[tuple[int, int]],
    batches: list[tuple[int, int, int]],
    stored: set[tuple[int, int]],
    limit: int,
) -> None:
    """Of whatever tasks, in whatever order their ids and times are, whichever of the batches' have rows."""
    made = {number: a_batch(number, count, second) for number, count, second in batches}
    rows = [
        a_task(
            task_id=f"0000000{number}-0000-4000-{7 + number % 2 * 2}000-{number:012x}", created_at=NOW + second * SECOND
        )
        for second, number in singles
    ]
    every = {*map(Position.of, rows)}
    every |= {Rowless(batch, number).position for batch in made.values() for number in range(batch.count)}
    rows += [row_of(made[one], number) for one, number in stored if one in made and number < made[one].count]

    met = list(pages(rows, list(made.values()), limit=limit))

    assert [position for page in met for position in page] == sorted(every, reverse=True)
    assert [len(page) for page in met[:-1]] == [limit] * (len(met) - 1)


@given(st.lists(st.sets(st.integers(0, 8)), min_size=1, max_size=9), st.integers(1, 4))
def test_tasks_that_get_their_rows_meanwhile_are_met_once(growing: list[set[int]], limit: int) -> None:
    batch = a_batch(count=9)
    rows: list[Task] = [a_task(created_at=NOW + SECOND), a_task(created_at=NOW - SECOND)]
    every = sorted({*map(Position.of, rows), *(Rowless(batch, number).position for number in range(9))}, reverse=True)
    following, met = pages(rows, [batch], limit=limit), []
    for page in following:
        met += page
        there = {task.task_id for task in rows}
        more = growing.pop(0) if growing else set()
        rows += [row_of(batch, number) for number in more if task_id(batch.batch_id, number) not in there]
    assert met == every


def test_a_task_with_a_row_is_there_by_its_row() -> None:
    batch = a_batch()
    row = replace(row_of(batch, 1), status=Status.RUNNING)

    found, following = merged(Page([row], None), rowless(batch, below=None, down_to=None), limit=10)

    assert (found, following) == ([Rowless(batch, 2), row, Rowless(batch, 0)], None)


def test_what_is_stored_is_left_out() -> None:
    batch = a_batch(count=4)
    assert [one.number for one in rowless(batch, below=None, down_to=None, stored={0, 2})] == [3, 1]


def test_the_ends_of_a_batch_are_around_its_tasks_and_nobody_elses() -> None:
    batch, before, after = a_batch(2, 10_000), a_batch(1, 10_000), a_batch(3, 10_000)

    def numbers(one: Batch) -> list[int]:
        return [found.number for found in rowless(one, below=above(batch), down_to=first_of(batch))]

    assert numbers(batch) == list(range(9_999, -1, -1))
    assert numbers(before) == numbers(after) == []


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (([7, 6], 6), ([7, 6], 6)),
        (([7, 6, 5], 5), ([7, 6, 5], None)),
        (([7, 6, 5, 4, 3], 3), ([7, 6, 5], None)),
        (([7, 3], None), ([7], None)),
        (([7], None), ([7], None)),
        (([3], 3), ([], None)),
    ],
)
def test_a_page_goes_no_further_than_it_is_cut(
    page: tuple[list[int], int | None], expected: tuple[list[int], int | None]
) -> None:
    tasks = {second: a_task(created_at=NOW + second * SECOND) for second in range(8)}

    def made(seconds: list[int], following: int | None) -> Page:
        return Page([tasks[second] for second in seconds], None if following is None else Position.of(tasks[following]))

    at = Position.of(tasks[5])
    assert cut(made(*page), at=at, following=None) == made(*expected)
    on = expected[1] or 5
    assert cut(made(*page), at=at, following=at) == made(expected[0], on)


@pytest.mark.parametrize("status", [None, *Status])
def test_only_of_a_batch_that_goes_on_or_was_canceled_tasks_lack_rows(status: Status | None) -> None:
    going_on = a_batch()
    ended = replace(going_on, finished_at=NOW)
    canceled = replace(going_on, canceled_at=NOW)

    assert may_lack_rows(going_on, status) is (status in (None, Status.QUEUED))
    assert may_lack_rows(ended, status) is False
    for one in (canceled, replace(canceled, finished_at=NOW)):
        assert may_lack_rows(one, status) is (status in (None, Status.CANCELED))
