"""Tasks to begin with: `a_task()` as registered, `task_in(status)` as its moves made it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from core import moves
from core.task import Failure, FailureCode, Output, Status, Task, Timings

NOW = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)


def an_id(number: int) -> str:
    """The same in each run: for where it matters how ids are spread over the shards of an index."""
    return f"00000000-0000-4000-8000-{number:012}"


def a_task(**changes: Any) -> Task:
    """A registered task, with an id of its own."""
    task = Task(
        task_id=str(uuid4()),
        status=Status.PENDING,
        command="-i input.mp4 -c:v libx264 -crf 23 output.mp4",
        input_files={"input.mp4": "https://media.example/input.mp4"},
        output_files=("output.mp4",),
        correlation_id="corr-1",
        created_at=NOW,
    )
    return replace(task, **changes)


def an_output(task_id: str, **changes: Any) -> Output:
    output = Output(filename="output.mp4", key=f"outputs/{task_id}/1/output.mp4", size_bytes=1234, sha256="ab" * 32)
    return replace(output, **changes)


def task_in(status: Status, *, now: datetime = NOW, **changes: Any) -> Task:
    """A task that came to `status` by its ordinary moves, each of them at `now`: the real one where a process is
    about to look at it, which gives up what is a day old."""
    task = a_task(**{"created_at": now, **changes})
    if status is Status.PENDING:
        return task
    if status is Status.CANCELED:
        return moves.cancel(task, now=now)
    task = moves.execute(task, now=now)
    if status is Status.QUEUED:
        return task
    task = moves.claim(task, now=now, owner="worker-1")
    if status is Status.RUNNING:
        return task
    if status is Status.COMPLETED:
        outputs = (an_output(task.task_id),)
        return moves.complete(task, now=now, fence=1, outputs=outputs, output_count=1, timings=Timings())
    error = Failure.of(FailureCode.MEDIA_INVALID, "The input is not a video.")
    return moves.fail(task, now=now, fence=1, error=error, timings=Timings(), retry_after=timedelta(0))
