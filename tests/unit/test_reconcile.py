"""What sweep.py does about workers that outlive their service, or hang, on a real SQLite store."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core import moves, sweep
from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.ports import JobState, Services, Sighting
from core.task import Ending, Status, Task
from support.builders import NOW, task_in
from support.recording import RecordingDispatcher

LATER = NOW + timedelta(minutes=2)


class Interrupted(SqliteTaskStore):
    """A store in which the worker has its last word between our reading and our writing."""

    last_word = staticmethod(lambda task: moves.release(task, now=LATER, fence=1))
    said = False

    def replace(self, new: Task, previous: Task) -> Task:
        if not self.said:
            self.said = True
            super().replace(self.last_word(previous), previous)
        return super().replace(new, previous)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    store = Interrupted(tmp_path / "tasks.db")
    objects = FolderObjectStore(tmp_path / "objects", base_url="http://127.0.0.1:1", secret=b"secret")
    yield Services(
        store=store, records=SqliteRecordStore(tmp_path / "tasks.db"), objects=objects, dispatcher=RecordingDispatcher()
    )
    store.close()


def test_reconcile_lives_with_a_worker_that_gives_its_task_back_meanwhile(services: Services) -> None:
    services.store.create(task_in(Status.RUNNING))

    (task,) = sweep.reconcile(services, now=LATER)

    assert (task.status, task.job_id, task.attempts[0].ending) == (Status.QUEUED, "job-1", Ending.RELEASED)


def test_reconcile_lives_with_a_worker_that_reports_meanwhile(services: Services) -> None:
    services.store.last_word = lambda task: replace(task, lease_expires_at=LATER)  # type: ignore[attr-defined]
    services.store.create(task_in(Status.RUNNING))

    (task,) = sweep.reconcile(services, now=LATER)

    assert (task.status, task.job_id, task.attempts[0].ending) == (Status.QUEUED, "job-1", Ending.LOST)


def test_job_that_hangs_is_stopped_before_another_is_asked_for(tmp_path: Path) -> None:
    # given a worker that runs, and has let its lease go by
    store, dispatcher = SqliteTaskStore(tmp_path / "tasks.db"), RecordingDispatcher()
    objects = FolderObjectStore(tmp_path / "objects", base_url="http://127.0.0.1:1", secret=b"secret")
    services = Services(
        store=store, records=SqliteRecordStore(tmp_path / "tasks.db"), objects=objects, dispatcher=dispatcher
    )
    hanging = store.create(replace(task_in(Status.RUNNING), job_id="job-0"))
    dispatcher.jobs["job-0"] = Sighting(JobState.RUNNING)

    # then it is first given time, for it may be about to claim the task again
    sweep.sweep(services, now=LATER)
    assert (store.get(hanging.task_id).status, dispatcher.stopped) == (Status.QUEUED, [])

    # and then no more
    sweep.sweep(services, now=LATER + sweep.CLAIM_GRACE)
    assert [task.job_id for task in dispatcher.stopped] == ["job-0"]
    assert store.get(hanging.task_id).job_id == "job-1"
    store.close()
