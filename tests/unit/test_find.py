"""Tasks of a batch that have no row: found, canceled, and asked for as any task is."""

from dataclasses import replace
from datetime import datetime
from threading import Lock

import pytest

from core.batch import Batch, task_id
from core.batches import change_batch
from core.cancel import cancel
from core.delete import delete
from core.errors import BatchNotFound, TaskEnded, TaskNotFound, TaskNotReady
from core.execute import execute
from core.find import change_task, find_task
from core.ports import Record, Services
from core.seen import ANYBODY, Caller, SeenRecords, SeenTasks
from core.task import KEEP_RECORD, Status, Task
from support.batches import registered
from support.builders import NOW, a_task
from support.recording import RecordingDispatcher


def test_a_task_without_a_row_is_made_from_its_batch(services: Services) -> None:
    batch = registered(services, 3)

    task = find_task(services, task_id(batch.batch_id, 2))

    assert (task.version, task.status, task.command) == (
        0,
        Status.QUEUED,
        "-i clip-2.mp4 -c:v libx264 -crf 23 clip-2.mkv",
    )
    assert services.store.page(limit=9).tasks == []
    for nobody in (task_id(batch.batch_id, 3), batch.batch_id, a_task().task_id):
        with pytest.raises(TaskNotFound):
            find_task(services, nobody)


def test_a_row_says_more_than_its_batch(services: Services) -> None:
    batch = registered(services)
    stored = services.store.create(replace(find_task(services, task_id(batch.batch_id, 0)), owner="somebody"))
    assert find_task(services, stored.task_id) == stored


def test_what_was_canceled_without_a_row_is_there_as_long_as_its_batch_would_be(services: Services) -> None:
    """Also where the batch is kept beyond that, for a row that there still is."""
    batch = registered(services, 2)

    def over(one: Batch, kept_until: datetime | None) -> Batch:
        return replace(one, canceled_at=NOW, finished_at=NOW, dispatch_due_at=kept_until)

    ended = change_batch(services, batch.batch_id, lambda one: over(one, None))
    own = task_id(batch.batch_id, 0)
    assert (find_task(services, own).status, ended.due_at) == (Status.CANCELED, NOW + KEEP_RECORD)

    change_batch(services, batch.batch_id, lambda one: over(one, NOW))

    with pytest.raises(TaskNotFound):
        find_task(services, own)


def test_executing_it_changes_nothing(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = registered(services)
    task = execute(services, task_id(batch.batch_id, 0), now=NOW)
    assert (task.status, task.version, dispatcher.submitted) == (Status.QUEUED, 0, [])


def test_canceling_it_gives_it_its_row(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = registered(services)
    own = task_id(batch.batch_id, 1)

    cancel(services, own, now=NOW)

    assert services.store.get(own).status is Status.CANCELED
    assert [(member.number, member.status) for member in services.store.members(batch.batch_id)] == [
        (1, Status.CANCELED)
    ]
    assert dispatcher.stopped == []
    with pytest.raises(TaskEnded):
        cancel(services, own, now=NOW)


def test_canceling_one_that_a_worker_takes_meanwhile_loses_nothing(services: Services) -> None:
    batch = registered(services)
    own = task_id(batch.batch_id, 1)
    seen: list[int] = []

    def slow(task: Task) -> Task:
        if not seen:
            services.store.create(replace(task, owner="worker"))
        seen.append(task.version)
        return replace(task, status=Status.CANCELED)

    change_task(services, own, slow)

    assert seen == [0, 1]
    assert (services.store.get(own).owner, services.store.get(own).status) == ("worker", Status.CANCELED)


def test_the_job_of_a_slice_is_not_stopped_for_one_task(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = registered(services)
    task = find_task(services, task_id(batch.batch_id, 0))
    services.store.create(replace(task, job_id="job-1:0"))
    services.store.create(replace(task, task_id=task_id(batch.batch_id, 1), job_id="job-7"))

    for number in (0, 1):
        cancel(services, task_id(batch.batch_id, number), now=NOW)

    assert [task.job_id for task in dispatcher.stopped] == ["job-7"]


def test_what_has_not_ended_cannot_be_deleted(services: Services) -> None:
    batch = registered(services)
    with pytest.raises(TaskNotReady):
        delete(services, task_id(batch.batch_id, 0), now=NOW)


def test_with_a_canceled_batch_its_tasks_are_canceled(services: Services) -> None:
    batch = registered(services)
    change_batch(services, batch.batch_id, lambda batch: replace(batch, canceled_at=NOW))
    task = find_task(services, task_id(batch.batch_id, 0))
    assert (task.status, task.finished_at) == (Status.CANCELED, NOW)


def test_a_row_whose_time_is_over_is_not_made_anew(services: Services) -> None:
    batch = registered(services)
    change_batch(services, batch.batch_id, lambda batch: replace(batch, finished_at=NOW))
    with pytest.raises(TaskNotFound):
        find_task(services, task_id(batch.batch_id, 0))


def test_another_s_batch_is_not_there(services: Services) -> None:
    batch = registered(services, key_name="alice")

    def as_seen_by(caller: Caller) -> Services:
        store = SeenTasks(services.store, caller, Lock())
        return replace(services, store=store, records=SeenRecords(services.records, caller))

    own = task_id(batch.batch_id, 0)
    for caller in (Caller(name="alice"), Caller(name="root", admin=True), ANYBODY):
        assert find_task(as_seen_by(caller), own).key_name == "alice"
    bob = as_seen_by(Caller(name="bob"))
    with pytest.raises(TaskNotFound):
        find_task(bob, own)
    with pytest.raises(BatchNotFound):
        change_batch(bob, batch.batch_id, lambda batch: batch)
    assert bob.records.newest("batch", limit=9).records == []
    assert len(as_seen_by(Caller(name="alice")).records.newest("batch", limit=9).records) == 1
    # what is no batch is nobody's
    bob.records.create(Record(kind="setting", record_id="one", body="{}", created_at=NOW))
    assert bob.records.find("setting", "one")
