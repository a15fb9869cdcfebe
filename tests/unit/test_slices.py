"""The worker of a slice: which tasks it takes, which it passes over, and how it ends. There is no ffmpeg to run."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from core import moves
from core.batch import Batch, task_id
from core.batches import change_batch
from core.find import find_task
from core.ports import Services
from core.settings import Settings
from core.task import Ending, FailureCode, Status, Task
from core.worker import job, process, sandbox, slices
from core.worker.job import Outcome, Worker
from core.worker.slices import TaskStop
from support.batches import registered

NOW = datetime.now(UTC)
JOB = "job-1:0"


@pytest.fixture
def worker(services: Services, tmp_path: Path) -> Iterator[Worker]:
    with closing(process.start_prober()) as prober:
        yield Worker(
            services=services,
            settings=Settings(data_dir=tmp_path, backend="local"),
            ffmpeg="/nowhere",
            prober=prober,
            layers=sandbox.Layers(),
            stop=Event(),
            now=lambda: NOW,
            job_id=JOB,
        )


@pytest.fixture
def batch(services: Services) -> Batch:
    """Of one slice, of files in a bucket that is not open, so that each fails at once and for good."""
    batch = registered(services, 4, now=NOW)
    template = replace(batch.template, input_files={"{name}": "s3://closed/clip.mp4"})
    return change_batch(services, batch.batch_id, lambda found: replace(found, template=template, per_slice=4))


def row(services: Services, batch: Batch, number: int) -> Task:
    return services.store.get(task_id(batch.batch_id, number))


def stored(services: Services, batch: Batch, number: int, **changes: object) -> Task:
    return services.store.create(replace(find_task(services, task_id(batch.batch_id, number)), **changes))  # type: ignore[arg-type]


def held(services: Services, batch: Batch, number: int, job_id: str) -> Task:
    fresh = find_task(services, task_id(batch.batch_id, number))
    return services.store.create(moves.claim(fresh, now=NOW, owner="another", job_id=job_id))


def test_each_task_has_its_row_and_its_end(worker: Worker, services: Services, batch: Batch) -> None:
    told: list[str] = []

    outcome = slices.run(worker, batch.batch_id, 0, on_task=told.append)

    assert outcome is Outcome.RECORDED
    assert told == [task_id(batch.batch_id, number) for number in range(4)]
    for number in range(4):
        task = row(services, batch, number)
        assert (task.status, task.fence, task.job_id) == (Status.FAILED, 1, JOB)
        assert task.error
        assert task.error.code is FailureCode.DOWNLOAD_FAILED
    assert list((worker.settings.scratch).iterdir()) == []


def test_a_second_attempt_goes_on_where_the_first_was(worker: Worker, services: Services, batch: Batch) -> None:
    # given one that has ended, one that the same job held, one that waits for its next try, one that another holds
    canceled = stored(services, batch, 0)
    services.store.replace(moves.cancel(canceled, now=NOW), canceled)
    held(services, batch, 1, JOB)
    stored(services, batch, 2, dispatch_due_at=NOW + timedelta(seconds=30))
    held(services, batch, 3, "job-2")

    assert slices.run(worker, batch.batch_id, 0) is Outcome.RECORDED

    assert [row(services, batch, number).fence for number in range(4)] == [0, 2, 0, 1]
    assert [one.ending for one in row(services, batch, 1).attempts] == [Ending.LOST, Ending.FAILED]
    assert [row(services, batch, number).status for number in range(4)] == [
        Status.CANCELED,
        Status.FAILED,
        Status.QUEUED,
        Status.RUNNING,
    ]


def test_one_that_is_due_is_taken(worker: Worker, services: Services, batch: Batch) -> None:
    stored(services, batch, 2, dispatch_due_at=NOW)
    slices.run(worker, batch.batch_id, 0)
    assert row(services, batch, 2).status is Status.FAILED


def test_a_worker_that_is_told_to_stop_takes_nothing(worker: Worker, services: Services, batch: Batch) -> None:
    worker.stop.set()
    assert slices.run(worker, batch.batch_id, 0) is Outcome.GIVEN_UP
    assert services.store.members(batch.batch_id) == []


def test_a_worker_that_is_told_to_stop_gives_back_what_it_has(worker: Worker, services: Services, batch: Batch) -> None:
    outcome = slices.run(worker, batch.batch_id, 0, on_task=lambda task_id: worker.stop.set())

    assert outcome is Outcome.GIVEN_UP
    assert [(one.number, one.status) for one in services.store.members(batch.batch_id)] == [(0, Status.QUEUED)]
    assert row(services, batch, 0).attempts[-1].ending is Ending.RELEASED


def test_an_unknown_batch_is_nothing_to_work_on(worker: Worker) -> None:
    assert slices.run(worker, "3f0c1f60-0000-4000-8000-000000000000", 0) is Outcome.NOT_OURS


def test_a_batch_whose_list_is_gone_is_left_alone(worker: Worker, services: Services, batch: Batch) -> None:
    services.objects.delete(services.batch_folder(batch.batch_id))
    assert slices.run(worker, batch.batch_id, 0) is Outcome.NOT_OURS
    assert services.store.members(batch.batch_id) == []


def test_a_broken_prober_is_replaced(worker: Worker, services: Services, batch: Batch) -> None:
    worker.prober.close()
    assert slices.run(worker, batch.batch_id, 0) is Outcome.RECORDED
    assert row(services, batch, 3).status is Status.FAILED
    assert {row(services, batch, number).error.code for number in range(4)} == {FailureCode.DOWNLOAD_FAILED}  # type: ignore[union-attr]


def test_the_stop_of_one_task_is_not_that_of_the_worker() -> None:
    whole = Event()
    one, other = TaskStop(whole), TaskStop(whole)

    one.set()
    assert (one.is_set(), other.is_set(), whole.is_set()) == (True, False, False)
    whole.set()
    assert other.is_set()


def test_what_deletes_no_input_says_so_and_goes_on(worker: Worker) -> None:
    job._delete_input(worker, "s3://closed/clip.mp4")
    job._delete_input(worker, "file:///etc/passwd")
    job._delete_input(worker, "")
    assert Path("/etc/passwd").exists()
