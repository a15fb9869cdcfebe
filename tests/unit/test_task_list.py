"""The list of tasks, those of batches without a row among them: real stores, and workers that come at any moment."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import moves
from core.batch import URL, Batch, Source, task_id
from core.batch_view import LIST_GONE
from core.batches import change_batch, create_batch
from core.errors import TaskExists
from core.find import find_task
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.ports import Newest, Page, Position, RecordStore, Services
from core.seen import Caller, SeenRecords, SeenTasks
from core.task import Status, Task
from core.task_list import list_batch, list_tasks
from support.builders import NOW, a_task, task_in

SECOND = timedelta(seconds=1)


def a_batch(services: Services, count: int = 3, *, second: int = 0, key_name: str | None = None) -> Batch:
    created_at = NOW + second * SECOND
    batch_id = f"{a_task().task_id[:-4]}0000"
    template = a_task(
        task_id=batch_id,
        command="-i '{name}' -c:v libx264 '{stem}.mp4'",
        input_files={"{name}": "{url}"},
        output_files=("{stem}.mp4",),
        created_at=created_at,
        key_name=key_name,
    )
    batch = Batch(
        batch_id=batch_id,
        template=template,
        count=count,
        per_slice=2,
        created_at=created_at,
        correlation_id="corr-1",
        key_name=key_name,
    )
    return create_batch(services, batch, [source(number) for number in range(count)])


def source(number: int) -> Source:
    return Source(f"{number}.mov", f"https://media.example/{number}.mov")


def row(services: Services, batch: Batch, number: int, status: Status = Status.RUNNING) -> Task:
    """The row that a worker makes."""
    task = batch.task(number, source(number))
    if status is not Status.QUEUED:
        task = moves.claim(task, now=NOW, owner="worker-1")
    if status is Status.CANCELED:
        task = moves.cancel(task, now=NOW)
    return services.store.create(task)


def completed_row(services: Services, batch: Batch, number: int) -> Task:
    own: dict[str, Any] = {
        "task_id": task_id(batch.batch_id, number),
        "batch_id": batch.batch_id,
        "created_at": batch.created_at,
    }
    return services.store.create(task_in(Status.COMPLETED, **own))


def listed(
    services: Services, *, limit: int = 200, status: Status | None = None, batch: Batch | None = None
) -> list[Task]:
    if batch:
        return tasks_of(pages(partial(list_batch, services, batch), limit=limit, status=status))
    return tasks_of(pages(partial(list_tasks, services), limit=limit, status=status))


def tasks_of(found: Iterator[Page]) -> list[Task]:
    return [task for page in found for task in page.tasks]


def pages(read: Callable[..., Page], *, limit: int, **wanted: Any) -> Iterator[Page]:
    below: Position | None = None
    for _ in range(100):
        page = read(limit=limit, below=below, **wanted)
        assert len(page.tasks) <= limit
        yield page
        if page.next is None:
            return
        assert below is None or page.next < below
        below = page.next
    raise AssertionError("it never ends")


def test_a_batchs_tasks_are_listed_whole_from_the_first_moment(services: Services) -> None:
    before = services.store.create(a_task(created_at=NOW - SECOND))
    batch = a_batch(services)
    after = services.store.create(a_task(created_at=NOW + SECOND))

    expected = [batch.task(number, source(number)) for number in (2, 1, 0)]

    assert listed(services) == [after, *expected, before]
    assert listed(services, batch=batch) == expected
    assert expected[0].command == "-i 2.mov -c:v libx264 2.mp4"
    assert [find_task(services, task.task_id) for task in expected] == expected


def test_a_task_with_a_row_is_listed_by_it_and_at_its_place(services: Services) -> None:
    batch = a_batch(services)
    running = row(services, batch, 1)

    expected = [batch.task(2, source(2)), running, batch.task(0, source(0))]

    assert listed(services) == listed(services, batch=batch) == expected
    for status, these in ((Status.QUEUED, expected[::2]), (Status.RUNNING, [running]), (Status.CANCELED, [])):
        assert listed(services, status=status) == listed(services, status=status, batch=batch) == these


def test_a_queued_row_is_listed_once(services: Services) -> None:
    batch = a_batch(services)
    queued = row(services, batch, 1, Status.QUEUED)

    expected = [batch.task(2, source(2)), queued, batch.task(0, source(0))]

    assert listed(services, status=Status.QUEUED) == listed(services, status=Status.QUEUED, batch=batch) == expected


def test_what_has_no_row_in_a_canceled_batch_is_canceled(services: Services) -> None:
    batch = a_batch(services)
    completed = completed_row(services, batch, 0)
    canceled = row(services, batch, 2, Status.CANCELED)
    batch = change_batch(services, batch.batch_id, lambda batch: replace(batch, canceled_at=NOW + SECOND))

    without_row = batch.task(1, source(1))

    assert (without_row.status, without_row.finished_at) == (Status.CANCELED, NOW + SECOND)
    assert listed(services) == [canceled, without_row, completed]
    assert listed(services, status=Status.CANCELED) == [canceled, without_row]
    assert listed(services, status=Status.QUEUED) == []


def test_an_ended_batch_has_no_tasks_but_those_of_its_rows(services: Services) -> None:
    batch = a_batch(services)
    completed = completed_row(services, batch, 0)
    batch = change_batch(services, batch.batch_id, lambda batch: replace(batch, finished_at=NOW + SECOND))

    assert listed(services) == listed(services, batch=batch) == [completed]


@contextmanager
def others(services: Services, folder: Path) -> Iterator[Services]:
    """Services with other stores, which are empty."""
    path = folder / f"{uuid4()}.db"
    with closing(SqliteTaskStore(path)) as store, closing(SqliteRecordStore(path)) as records:
        yield replace(services, store=store, records=records)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=12),
    limit=st.integers(1, 5),
    status=st.sampled_from([None, Status.QUEUED, Status.RUNNING]),
    most=st.sampled_from([1, 2, 100]),
)
def test_page_after_page_has_each_task_once_while_workers_come(
    services: Services,
    tmp_path: Path,
    sizes: list[int],
    rows: list[tuple[int, int]],
    limit: int,
    status: Status | None,
    most: int,
) -> None:
    """With no status each is met, and with one none twice; and none is missed that stays in it."""
    with others(services, tmp_path) as services:
        batches = [a_batch(services, size, second=number // 2) for number, size in enumerate(sizes)]
        singles = [task_in(Status.QUEUED, created_at=NOW + second * SECOND) for second in range(-1, 3)]
        coming = [(batches[one], number) for one, number in rows if one < len(batches) and number < batches[one].count]
        every = {Position.of(services.store.create(task)) for task in singles}
        every |= {place(batch, number) for batch in batches for number in range(batch.count)}
        claimed = {place(batch, number) for batch, number in coming}

        met: list[Position] = []
        for page in pages(partial(list_tasks, services, most_batches=most), limit=limit, status=status):
            met += map(Position.of, page.tasks)
            assert {task.status for task in page.tasks} <= ({status} if status else set(Status))
            for batch, number in coming[:2]:
                with suppress(TaskExists):
                    row(services, batch, number)
            coming = coming[2:]

        assert met == sorted(set(met), reverse=True)
        assert set(met) <= (every if status is not Status.RUNNING else claimed)
        if status is not Status.RUNNING:
            assert (every if status is None else every - claimed) <= set(met)


def place(batch: Batch, number: int) -> Position:
    return Position(batch.created_at, task_id(batch.batch_id, number))


def test_a_page_looks_at_so_many_batches_and_goes_on_below_them(services: Services) -> None:
    batches = [a_batch(services, 2, second=second) for second in range(5)]
    oldest = services.store.create(a_task(created_at=NOW - SECOND))
    for batch in batches[1:]:
        change_batch(services, batch.batch_id, lambda batch: replace(batch, finished_at=NOW))

    found = list(pages(partial(list_tasks, services, most_batches=2), limit=10))

    left = [batches[0].task(1, source(1)), batches[0].task(0, source(0)), oldest]
    assert [page.tasks for page in found] == [[], [], left]


def test_a_status_that_no_task_without_a_row_is_in_needs_no_look_at_batches(services: Services) -> None:
    never: Any = None
    without = replace(services, records=never)
    for status in set(Status) - {Status.QUEUED, Status.CANCELED}:
        task = services.store.create(task_in(status))
        assert list_tasks(without, limit=10, status=status) == Page([task], None)


def test_a_batch_whose_manifest_is_gone_is_listed_by_indexes(services: Services) -> None:
    batch = a_batch(services)
    task = services.store.create(a_task(created_at=NOW - SECOND))
    services.objects.delete(f"batches/{batch.batch_id}")
    made = [batch.task(number, Source(f"file-{number}", URL)) for number in reversed(range(batch.count))]

    assert listed(services) == [*(replace(one, queue_reason=LIST_GONE) for one in made), task]

    change_batch(services, batch.batch_id, lambda batch: replace(batch, canceled_at=NOW, finished_at=NOW))
    canceled = [replace(one, status=Status.CANCELED, finished_at=NOW) for one in made]
    assert listed(services) == [*canceled, task]


def seen(services: Services, caller: Caller) -> Services:
    return replace(
        services,
        store=SeenTasks(services.store, caller, Lock()),
        records=SeenRecords(services.records, caller),
    )


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_a_key_lists_its_own_batches_however_many_others_there_are(services: Services, limit: int) -> None:
    names = ["alice", "bob", "bob", "bob", "alice", None, "bob"]
    batches = [a_batch(services, 2, second=second, key_name=name) for second, name in enumerate(names)]
    rows = [row(services, batches[number], 1) for number in (0, 1, 4)]
    single = services.store.create(a_task(created_at=NOW + SECOND, key_name="alice"))

    def own(name: str | None) -> list[Task]:
        stored = {task.task_id: task for task in rows}
        tasks = [batch.task(n, source(n)) for batch in batches for n in (0, 1) if name in (None, batch.key_name)]
        tasks = [stored.get(task.task_id, task) for task in tasks] + ([single] if name != "bob" else [])
        return sorted(tasks, key=Position.of, reverse=True)

    for caller, name in (
        (Caller(name="alice"), "alice"),
        (Caller(name="bob"), "bob"),
        (Caller(name="a", admin=True), None),
    ):
        for most in (2, 3, 100):
            read = partial(list_tasks, seen(services, caller), most_batches=most)
            assert tasks_of(pages(read, limit=limit)) == own(name)
    assert listed(seen(services, Caller(name="carol"))) == []


def test_a_page_looks_at_so_many_batches_also_of_others(services: Services) -> None:
    own = a_batch(services, 2, second=-1, key_name="bob")
    for second in range(5):
        a_batch(services, 2, second=second, key_name="alice")
    watched: Any = Watched(services.records)
    bobs = seen(replace(services, records=watched), Caller(name="bob"))

    found = list(pages(partial(list_tasks, bobs, most_batches=2), limit=10))

    assert [page.tasks for page in found] == [[], [], [own.task(1, source(1)), own.task(0, source(0))], []]
    assert watched.read == [2, 2, 2, 0]


@dataclass
class Watched:
    """Records, and how many were read by each question."""

    records: RecordStore
    read: list[int] = field(default_factory=list)

    def newest(self, kind: str, **wanted: Any) -> Newest:
        found = self.records.newest(kind, **wanted)
        self.read.append(len(found.records))
        return found


def test_a_page_without_batches_costs_one_look_at_records_however_many_there_are_below(services: Services) -> None:
    never: Any = None
    for second in range(1, 4):
        a_batch(services, second=-second)
    tasks = [services.store.create(a_task(created_at=NOW + second * SECOND)) for second in range(3)]
    watched: Any = Watched(services.records)

    page = list_tasks(replace(services, records=watched, objects=never, dispatcher=never), limit=2)

    assert (page.tasks, page.next) == ([tasks[2], tasks[1]], Position.of(tasks[1]))
    assert watched.read == [0]
