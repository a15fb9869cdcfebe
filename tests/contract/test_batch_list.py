"""The list of tasks with batches in it, on both twins: each task once, by its row where it has one."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core import moves
from core.aws.record_store import DynamoRecordStore
from core.aws.task_store import DynamoTaskStore
from core.batch import Batch, Source, task_id
from core.batches import change_batch, create_batch
from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.ports import Position, Services
from core.task import Status, Task
from core.task_list import list_batch, list_tasks
from support import moto_server
from support.builders import NOW, a_task, task_in
from support.recording import RecordingDispatcher

SOURCES = [Source(f"{number}.mov", f"https://media.example/{number}.mov") for number in range(5)]


@pytest.fixture(params=["local", "aws"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    objects = FolderObjectStore(tmp_path / "objects", base_url="http://127.0.0.1:1", secret=b"a secret")
    if request.param == "aws":
        request.getfixturevalue("aws")
        tasks, records = DynamoTaskStore(moto_server.TABLE), DynamoRecordStore(moto_server.TABLE)
        yield Services(store=tasks, records=records, objects=objects, dispatcher=RecordingDispatcher())
        return
    path = tmp_path / "tasks.db"
    rows, kept = SqliteTaskStore(path), SqliteRecordStore(path)
    yield Services(store=rows, records=kept, objects=objects, dispatcher=RecordingDispatcher())
    rows.close()
    kept.close()


def a_batch(services: Services, minute: int) -> Batch:
    created_at = NOW + timedelta(minutes=minute)
    batch_id = f"{a_task().task_id[:-4]}0000"
    template = a_task(
        task_id=batch_id,
        command="-i '{name}' '{stem}.mp4'",
        input_files={"{name}": "{url}"},
        output_files=("{stem}.mp4",),
        created_at=created_at,
    )
    batch = Batch(
        batch_id=batch_id,
        template=template,
        count=len(SOURCES),
        per_slice=2,
        created_at=created_at,
        correlation_id="corr-1",
    )
    return create_batch(services, batch, SOURCES)


def listed(services: Services, batch: Batch | None = None, *, limit: int, **wanted: Any) -> list[Task]:
    found: list[Task] = []
    below: Position | None = None
    for _ in range(100):
        if batch:
            page = list_batch(services, batch, limit=limit, below=below, **wanted)
        else:
            page = list_tasks(services, limit=limit, below=below, **wanted)
        found += page.tasks
        below = page.next
        if below is None:
            return found
    raise AssertionError("it never ends")


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_each_task_of_each_batch_is_listed_once_and_in_order(services: Services, limit: int) -> None:
    older, newer, ended = a_batch(services, 1), a_batch(services, 3), a_batch(services, 5)
    singles = [services.store.create(task_in(Status.QUEUED, created_at=NOW + timedelta(minutes=m))) for m in (4, 2, 0)]
    rows = [
        services.store.create(moves.claim(batch.task(number, SOURCES[number]), now=NOW, owner="worker-1"))
        for batch, number in ((older, 0), (newer, 4), (newer, 2))
    ]
    ended = change_batch(services, ended.batch_id, lambda batch: replace(batch, finished_at=NOW))
    stored = {task.task_id: task for task in (*rows, *singles)}

    def expected(batch: Batch) -> list[Task]:
        made = (batch.task(number, SOURCES[number]) for number in (4, 3, 2, 1, 0))
        return [stored.get(task.task_id, task) for task in made]

    every = [singles[0], *expected(newer), singles[1], *expected(older), singles[2]]
    assert listed(services, limit=limit) == every
    for status in (Status.QUEUED, Status.RUNNING, Status.CANCELED):
        assert listed(services, limit=limit, status=status) == [task for task in every if task.status is status]
        wanted = [task for task in expected(newer) if task.status is status]
        assert listed(services, newer, limit=limit, status=status) == wanted
    assert listed(services, newer, limit=limit) == expected(newer)
    assert listed(services, ended, limit=limit) == []


def test_what_a_canceled_batch_has_no_row_of_is_listed_as_canceled(services: Services) -> None:
    batch = a_batch(services, 1)
    running = services.store.create(moves.claim(batch.task(3, SOURCES[3]), now=NOW, owner="worker-1"))
    batch = change_batch(services, batch.batch_id, lambda batch: replace(batch, canceled_at=NOW))

    canceled = [task_id(batch.batch_id, number) for number in (4, 2, 1, 0)]

    assert [task.task_id for task in listed(services, limit=3, status=Status.CANCELED)] == canceled
    assert listed(services, limit=3, status=Status.RUNNING) == [running]
    assert len(listed(services, limit=3)) == len(SOURCES)
