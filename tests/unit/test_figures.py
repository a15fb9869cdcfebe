"""What the metrics are told of a task that has ended."""

from dataclasses import replace
from datetime import timedelta

import pytest

from core import moves
from core.task import Status, Timings
from support.builders import NOW, an_output, task_in
from support.lambda_module import imported

batch_events = imported("handlers.batch_events")


def test_a_completed_task_counts_with_its_time_and_what_its_worker_took() -> None:
    task = moves.claim(task_in(Status.QUEUED, compute="cpu"), now=NOW + timedelta(seconds=60), owner="worker-1")
    outputs = (an_output(task.task_id),)
    done = NOW + timedelta(seconds=100)
    task = moves.complete(task, now=done, fence=1, outputs=outputs, output_count=1, timings=Timings())
    assert batch_events.figures(task) == {"TasksCompleted": 1, "CpuWorkerSeconds": 40, "SecondsToDone": 100}


@pytest.mark.parametrize(("status", "name"), [(Status.FAILED, "TasksFailed"), (Status.CANCELED, "TasksCanceled")])
def test_a_task_that_came_to_nothing_counts_by_its_ending(status: Status, name: str) -> None:
    assert batch_events.figures(task_in(status, compute="gpu")) == {name: 1, "GpuWorkerSeconds": 0}


def test_all_attempts_cost() -> None:
    task = task_in(Status.FAILED, compute="gpu")
    (attempt,) = task.attempts
    lost = replace(attempt, started_at=NOW - timedelta(hours=1))
    assert batch_events.figures(replace(task, attempts=(lost, attempt)))["GpuWorkerSeconds"] == 3600
