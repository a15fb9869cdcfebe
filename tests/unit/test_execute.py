"""Execute, on a real SQLite store: handed over once, however often and by however many it is asked for."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core import moves
from core.errors import DispatchUnavailable, TaskEnded, TaskNotFound
from core.execute import execute
from core.local.object_store import FolderObjectStore
from core.local.task_store import SqliteTaskStore
from core.ports import Services
from core.task import QUEUE_PATIENCE, SUBMIT_GRACE, Status, Task
from support.builders import NOW, a_task, task_in
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


def test_execute_stores_then_submits_then_notes_the_job(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(a_task())
    at_submit: list[Task] = []
    dispatcher.meanwhile = lambda submitted: at_submit.append(services.store.get(submitted.task_id))
    result = execute(services, task.task_id, now=LATER)
    queued = replace(task, version=2, status=Status.QUEUED, queued_at=LATER, dispatch_due_at=LATER + SUBMIT_GRACE)
    assert dispatcher.submitted == at_submit == [queued]
    assert result == replace(queued, version=3, job_id="job-1", dispatch_due_at=LATER + QUEUE_PATIENCE)
    assert services.store.get(task.task_id) == result


def test_execute_again_changes_nothing(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(a_task())
    first = execute(services, task.task_id, now=NOW)
    assert execute(services, task.task_id, now=LATER) == first
    assert len(dispatcher.submitted) == 1


def test_execute_while_somebody_else_submits_leaves_it_to_them(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    task = services.store.create(task_in(Status.QUEUED))
    assert execute(services, task.task_id, now=NOW + SUBMIT_GRACE - timedelta(seconds=1)) == task
    assert dispatcher.submitted == []


def test_execute_by_many_at_once_submits_once(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(a_task())
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda _: execute(services, task.task_id, now=NOW), range(20)))
    assert {result.status for result in results} == {Status.QUEUED}
    assert len(dispatcher.submitted) == 1


def test_execute_repeats_a_hand_over_that_was_lost(services: Services, dispatcher: RecordingDispatcher) -> None:
    lost = services.store.create(task_in(Status.QUEUED))
    now = NOW + SUBMIT_GRACE
    assert execute(services, lost.task_id, now=now) == replace(
        lost, version=2, job_id="job-1", dispatch_due_at=now + QUEUE_PATIENCE
    )
    assert dispatcher.submitted == [lost]


def test_execute_of_a_running_task_gives_it_as_it_is(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(task_in(Status.RUNNING))
    assert execute(services, task.task_id, now=LATER) == task
    assert dispatcher.submitted == []


@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_execute_of_an_ended_task_is_refused(
    services: Services, dispatcher: RecordingDispatcher, status: Status
) -> None:
    task = services.store.create(task_in(status))
    with pytest.raises(TaskEnded) as caught:
        execute(services, task.task_id, now=LATER)
    assert caught.value.details == {"task_id": task.task_id, "status": status.value}
    assert services.store.get(task.task_id) == task
    assert dispatcher.submitted == []


def test_execute_of_an_unknown_task_says_so(services: Services) -> None:
    with pytest.raises(TaskNotFound):
        execute(services, "unknown", now=NOW)


def test_execute_without_a_dispatcher_keeps_the_task_queued_and_due(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    task = services.store.create(a_task())
    dispatcher.refusing = True
    with pytest.raises(DispatchUnavailable) as caught:
        execute(services, task.task_id, now=NOW)
    assert caught.value.details == {"task_id": task.task_id, "retry_after_seconds": 5}
    kept = services.store.get(task.task_id)
    assert kept == replace(moves.execute(task, now=NOW), version=3, dispatch_due_at=NOW)
    dispatcher.refusing = False
    assert execute(services, task.task_id, now=NOW).job_id == "job-1"


def test_execute_is_content_when_the_worker_claims_first(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(a_task())

    def claim(submitted: Task) -> None:
        services.store.replace(moves.claim(submitted, now=NOW, owner="quick"), submitted)

    dispatcher.meanwhile = claim
    result = execute(services, task.task_id, now=NOW)
    assert (result.status, result.owner, result.job_id) == (Status.RUNNING, "quick", None)
    assert services.store.get(task.task_id) == result


def test_execute_that_loses_to_another_one_leaves_the_rest_to_it(
    services: Services, dispatcher: RecordingDispatcher, tmp_path: Path
) -> None:
    store = _Overtaken(tmp_path / "tasks.db")
    task = store.create(a_task())
    result = execute(replace(services, store=store), task.task_id, now=LATER)
    assert result == replace(moves.execute(task, now=LATER), version=2, correlation_id="the other one")
    assert dispatcher.submitted == []
    store.close()


class _Overtaken(SqliteTaskStore):
    """A store in which another execute comes between our reading and our writing."""

    ours = True

    def replace(self, new: Task, previous: Task) -> Task:
        if self.ours:
            self.ours = False
            super().replace(replace(new, correlation_id="the other one"), previous)
        return super().replace(new, previous)
