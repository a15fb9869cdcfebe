"""Recover, on a real SQLite store: whatever a worker left behind, its task goes on or ends."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from core.recover import recover, recover_all, recover_due

from core import moves
from core.errors import DispatchUnavailable, TaskNotFound
from core.local.object_store import FolderObjectStore
from core.local.task_store import SqliteTaskStore
from core.ports import Services
from core.task import LEASE, MAX_CLAIMS, QUEUE_PATIENCE, FailureCode, Progress, Status, Task, Timings
from support.builders import NOW, task_in
from support.recording import RecordingDispatcher

LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def dispatcher() -> RecordingDispatcher:
    return RecordingDispatcher()


@pytest.fixture
def services(tmp_path: Path, dispatcher: RecordingDispatcher) -> Iterator[Services]:
    store = SqliteTaskStore(tmp_path / "tasks.db")
    objects = FolderObjectStore(tmp_path / "objects", base_url="http://127.0.0.1:1", secret=b"secret")
    yield Services(store=store, objects=objects, dispatcher=dispatcher)
    store.close()


def test_a_task_whose_worker_died_gets_another_one(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(replace(task_in(Status.RUNNING), progress=Progress(percent=50.0)))
    result = recover(services, task.task_id, now=LATER)
    queued = replace(moves.lose(task, now=LATER, fence=1), version=2)
    assert dispatcher.submitted == [queued]
    assert result == replace(queued, version=3, job_id="job-1", dispatch_due_at=LATER + QUEUE_PATIENCE)
    assert services.store.get(task.task_id) == result


def test_a_task_that_its_worker_released_gets_another_one(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(replace(task_in(Status.RUNNING), job_id="job-0"))
    released = services.store.replace(moves.release(task, now=LATER, fence=1), task)
    assert recover(services, task.task_id, now=LATER).job_id == "job-1"
    assert dispatcher.submitted == [released]


def test_a_task_that_lost_its_last_worker_fails(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(replace(task_in(Status.RUNNING), fence=MAX_CLAIMS))
    result = recover(services, task.task_id, now=LATER)
    assert result.error is not None
    assert (result.status, result.error.code) == (Status.FAILED, FailureCode.WORKER_LOST)
    assert dispatcher.submitted == []


def test_a_worker_that_kills_its_host_process_is_not_started_for_ever(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    task = services.store.create(task_in(Status.QUEUED))
    for _ in range(MAX_CLAIMS):
        assert task.status is Status.QUEUED
        services.store.replace(moves.claim(task, now=LATER, owner="w"), task)
        task = recover(services, task.task_id, now=LATER)
    assert (task.status, task.fence, len(dispatcher.submitted)) == (Status.FAILED, MAX_CLAIMS, MAX_CLAIMS - 1)


def test_a_worker_that_ends_before_it_claims_is_not_started_at_once_again(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    """Or a worker that cannot start would be started in a tight loop. The task stays due."""
    task = services.store.create(moves.submitted(task_in(Status.QUEUED), now=NOW, job_id="job-0"))
    result = recover(services, task.task_id, now=LATER)
    assert result == replace(task, version=2, dispatch_due_at=LATER)
    assert dispatcher.submitted == []
    assert services.store.due(LATER, limit=10) == [result]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELED])
def test_an_ended_task_stays_as_it_is(services: Services, dispatcher: RecordingDispatcher, status: Status) -> None:
    task = services.store.create(task_in(status))
    assert recover(services, task.task_id, now=LATER) == services.store.get(task.task_id) == task
    assert dispatcher.submitted == []


def test_an_unknown_task_is_said_to_be(services: Services) -> None:
    with pytest.raises(TaskNotFound):
        recover(services, "unknown", now=LATER)


def test_a_lost_task_stays_queued_and_due_when_nobody_takes_it(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    task = services.store.create(task_in(Status.RUNNING))
    dispatcher.refusing = True
    with pytest.raises(DispatchUnavailable):
        recover(services, task.task_id, now=LATER)
    kept = services.store.get(task.task_id)
    assert (kept.status, kept.due_at) == (Status.QUEUED, LATER)


def test_recover_decides_again_when_the_task_moved_under_it(tmp_path: Path, dispatcher: RecordingDispatcher) -> None:
    store = _Moving(tmp_path / "tasks.db")
    objects = FolderObjectStore(tmp_path / "objects", base_url="http://127.0.0.1:1", secret=b"secret")
    task = store.create(task_in(Status.RUNNING))
    result = recover(Services(store=store, objects=objects, dispatcher=dispatcher), task.task_id, now=LATER)
    assert (result.status, dispatcher.submitted) == (Status.COMPLETED, [])
    store.close()


class _Moving(SqliteTaskStore):
    """A store in which the worker's last write arrives between our reading and our writing."""

    late = True

    def replace(self, new: Task, previous: Task) -> Task:
        if self.late:
            self.late = False
            done = moves.complete(previous, now=NOW, fence=1, outputs=(), output_count=0, timings=Timings())
            super().replace(done, previous)
        return super().replace(new, previous)


def test_recover_all_sets_everything_going_in_the_order_of_execution(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    def ago(minutes: int, status: Status, **changes: object) -> str:
        task = replace(task_in(status), queued_at=NOW - timedelta(minutes=minutes), **changes)  # type: ignore[arg-type]
        return services.store.create(task).task_id

    lost = ago(3, Status.RUNNING)
    far_off = ago(5, Status.QUEUED, job_id="job-0", dispatch_due_at=NOW + QUEUE_PATIENCE)
    fresh = ago(1, Status.QUEUED)
    last = ago(9, Status.RUNNING, fence=MAX_CLAIMS)
    untouched = [services.store.create(task_in(status)) for status in Status if status.ended or status == "pending"]

    results = recover_all(services, now=NOW)

    assert [task.task_id for task in dispatcher.submitted] == [far_off, lost, fresh]
    assert [(task.task_id, task.status, task.job_id) for task in results] == [
        (far_off, Status.QUEUED, "job-1"),
        (lost, Status.QUEUED, "job-2"),
        (fresh, Status.QUEUED, "job-3"),
    ]
    assert services.store.get(last).status is Status.FAILED
    assert [services.store.get(task.task_id) for task in untouched] == untouched


def test_recover_all_finds_nothing_in_a_new_store(services: Services) -> None:
    assert recover_all(services, now=NOW) == []


def test_recover_due_hands_over_what_is_due_and_nothing_else(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    due = services.store.create(task_in(Status.QUEUED))
    late = services.store.create(task_in(Status.RUNNING))
    submitted = services.store.create(moves.submitted(task_in(Status.QUEUED), now=NOW, job_id="job-0"))
    recover_due(services, now=NOW + LEASE - timedelta(seconds=1))
    assert [task.task_id for task in dispatcher.submitted] == [due.task_id]
    recover_due(services, now=NOW + LEASE)
    assert [task.task_id for task in dispatcher.submitted] == [due.task_id, late.task_id]
    assert services.store.get(late.task_id).status is Status.QUEUED
    assert services.store.get(submitted.task_id) == submitted


def test_recover_due_goes_on_when_one_is_refused(services: Services, dispatcher: RecordingDispatcher) -> None:
    tasks = [services.store.create(task_in(Status.RUNNING)) for _ in range(3)]
    dispatcher.refusing = True
    recover_due(services, now=NOW + LEASE)
    assert {services.store.get(task.task_id).status for task in tasks} == {Status.QUEUED}
    dispatcher.refusing = False
    recover_due(services, now=NOW + LEASE)
    assert len(dispatcher.submitted) == 3


def test_recover_due_ends_a_task_that_lost_its_last_worker(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(replace(task_in(Status.RUNNING), fence=MAX_CLAIMS))
    recover_due(services, now=NOW + LEASE)
    assert services.store.get(task.task_id).status is Status.FAILED
    assert dispatcher.submitted == []
