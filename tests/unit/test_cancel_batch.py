"""Canceling a batch: what has a row, what has none, and what gets one at that very moment."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from core import moves
from core.batch import Batch, Member, task_id
from core.batches import get_batch, view_batch
from core.cancel_batch import LOOK_AGAIN_AFTER, cancel_batch
from core.errors import BatchNotFound, ServiceUnavailable, TaskEnded
from core.find import find_task
from core.ports import Services, TaskStore
from core.settings import Settings
from core.sweep_batches import sweep_batches
from core.task import Status, Task, Timings
from core.worker import job, process, sandbox, slices
from support.batches import registered
from support.builders import NOW
from support.recording import RecordingDispatcher

SECOND = timedelta(seconds=1)


def a_worker(services: Services, prober: process.Conversation, scratch: Path) -> job.Worker:
    """One that gets no further than the claim: there is no ffmpeg."""
    return job.Worker(
        services=services,
        settings=Settings(data_dir=scratch),
        ffmpeg="/nowhere",
        prober=prober,
        layers=sandbox.Layers(),
        stop=Event(),
        now=lambda: NOW + SECOND,
        job_id="batch-job-1:0",
    )


@dataclass
class Meanwhile:
    """A store in which something else happens right before or after a row is made."""

    inner: TaskStore
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None

    def create(self, task: Task) -> Task:
        self.before()
        stored = self.inner.create(task)
        self.after()
        return stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def claimed(services: Services, batch: Batch, number: int) -> Task:
    task = find_task(services, task_id(batch.batch_id, number))
    return services.store.create(moves.claim(task, now=NOW, owner="worker", job_id="batch-job-1:0"))


def test_all_that_has_not_ended_is_canceled(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = registered(services, 4)
    done = moves.complete(claimed(services, batch, 0), now=NOW, fence=1, outputs=(), output_count=0, timings=Timings())
    services.store.replace(done, services.store.get(done.task_id))
    claimed(services, batch, 1)

    canceled = cancel_batch(services, batch.batch_id, now=NOW + SECOND)

    assert (canceled.canceled_at, canceled.dispatch_due_at) == (NOW + SECOND, NOW + SECOND + LOOK_AGAIN_AFTER)
    statuses = [find_task(services, task_id(batch.batch_id, number)).status for number in range(4)]
    assert statuses == [Status.COMPLETED, *[Status.CANCELED] * 3]
    assert [one.batch_id for one in dispatcher.stopped_batches] == [batch.batch_id]
    assert dispatcher.stopped == []
    view = view_batch(services, batch.batch_id)
    assert (view.status, view.counts[Status.COMPLETED], view.counts[Status.CANCELED]) == (Status.CANCELED, 1, 3)


def test_done_twice_it_is_done_once(services: Services) -> None:
    batch = registered(services)
    first = cancel_batch(services, batch.batch_id, now=NOW)
    assert cancel_batch(services, batch.batch_id, now=NOW + SECOND) == first


def test_the_workers_need_not_hear_of_it(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = registered(services)
    claimed(services, batch, 0)
    dispatcher.refusing = True
    assert cancel_batch(services, batch.batch_id, now=NOW).canceled_at == NOW
    assert find_task(services, task_id(batch.batch_id, 0)).status is Status.CANCELED


def test_a_task_that_cannot_be_reached_keeps_no_other_from_its_end(services: Services) -> None:
    """What is left is the sweep's, which the record tells."""
    batch = registered(services, 4)
    first, *others = (claimed(services, batch, number) for number in range(4))

    @dataclass
    class Throttled(Meanwhile):
        def replace(self, new: Task, previous: Task) -> Task:
            if new.task_id == first.task_id:
                raise ServiceUnavailable
            return self.inner.replace(new, previous)

    with pytest.raises(ServiceUnavailable):
        cancel_batch(replace(services, store=Throttled(services.store)), batch.batch_id, now=NOW)
    assert [services.store.get(one.task_id).status for one in others] == [Status.CANCELED] * 3

    sweep_batches(services, now=NOW + LOOK_AGAIN_AFTER)
    assert services.store.get(first.task_id).status is Status.CANCELED


def test_workers_that_are_asked_for_at_that_moment_are_stopped(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    """Else each of them would begin, on a machine of its own, and only then see that there is nothing to do."""
    dispatcher.delaying = True
    batch = registered(services)
    assert batch.dispatch_due_at
    dispatcher.delaying = False
    dispatcher.meanwhile = lambda _: cancel_batch(services, batch.batch_id, now=NOW)

    sweep_batches(services, now=batch.dispatch_due_at)

    assert [(one.batch_id, one.job_id) for one in dispatcher.stopped_batches] == [(batch.batch_id, "batch-job-1")]
    assert get_batch(services, batch.batch_id).canceled_at == NOW


def test_what_has_ended_is_not_canceled(services: Services) -> None:
    batch = registered(services, 1)
    task = claimed(services, batch, 0)
    services.store.replace(moves.cancel(task, now=NOW), task)
    with pytest.raises(TaskEnded):
        cancel_batch(services, batch.batch_id, now=NOW)
    with pytest.raises(BatchNotFound):
        cancel_batch(services, "3f0c1f60-0000-4000-8000-000000000000", now=NOW)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_row_that_is_made_at_that_moment_is_canceled(services: Services, tmp_path: Path, moment: str) -> None:
    """Before the row: its maker takes it back. After it: we see it."""
    batch = registered(services, 3)
    meanwhile = Meanwhile(services.store, **{moment: lambda: cancel_batch(services, batch.batch_id, now=NOW)})

    with closing(process.start_prober()) as prober:
        worker = a_worker(replace(services, store=meanwhile), prober, tmp_path)
        outcome = slices.run(worker, batch.batch_id, 0)

    assert outcome is job.Outcome.RECORDED
    rows = services.store.members(batch.batch_id)
    assert [(row.number, row.status) for row in rows] == [(0, Status.CANCELED)]


def test_a_worker_of_a_canceled_batch_makes_no_row(services: Services, tmp_path: Path) -> None:
    batch = registered(services, 3)
    cancel_batch(services, batch.batch_id, now=NOW)
    with closing(process.start_prober()) as prober:
        slices.run(a_worker(services, prober, tmp_path), batch.batch_id, 0)
    assert services.store.members(batch.batch_id) == []


def test_a_row_that_an_index_hid_from_us_is_canceled_by_the_sweep(services: Services) -> None:
    @dataclass
    class Lagging(Meanwhile):
        def members(self, batch_id: str) -> list[Member]:
            return []

    batch = registered(services, 2)
    claimed(services, batch, 0)
    cancel_batch(replace(services, store=Lagging(services.store)), batch.batch_id, now=NOW)
    assert find_task(services, task_id(batch.batch_id, 0)).status is Status.RUNNING

    due = NOW + LOOK_AGAIN_AFTER
    assert sweep_batches(services, now=due - SECOND) == 0
    assert sweep_batches(services, now=due) == 1

    assert find_task(services, task_id(batch.batch_id, 0)).status is Status.CANCELED
    # and once nothing lives, it has ended
    sweep_batches(services, now=due + timedelta(minutes=2))
    ended = get_batch(services, batch.batch_id)
    assert ended.counts == {"queued": 0, "running": 0, "completed": 0, "failed": 0, "canceled": 2}
