"""What a task is, and the moves that it can make.

Pure: a move takes a task and facts (time, ids, numbers) and returns the next task, or raises why not.
Storing the result, and losing to somebody who was faster, is the business of ports.TaskStore and its callers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from core.errors import FenceLost, TaskEnded, TaskNotReady

N = TypeVar("N", int, float)

MAX_CLAIMS = 3
LEASE = timedelta(seconds=90)
HEARTBEAT = timedelta(seconds=20)
# Time for whoever executed a task to hand it to the dispatcher, before anybody else may do it for them.
SUBMIT_GRACE = timedelta(seconds=15)
# How long a submitted task may wait for a worker before it is submitted again.
QUEUE_PATIENCE = timedelta(hours=1)


class Status(StrEnum):
    PENDING = "pending"  # registered; nothing happens until it is executed
    QUEUED = "queued"  # waiting for a worker
    RUNNING = "running"  # a worker holds it
    COMPLETED = "completed"  # the outputs are in the store
    FAILED = "failed"  # it ended without outputs; `error` says why
    CANCELED = "canceled"  # it was called off

    @property
    def ended(self) -> bool:
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELED)


class Stage(StrEnum):
    DOWNLOADING = "downloading"
    TRANSCODING = "transcoding"
    UPLOADING = "uploading"


class FailureCode(StrEnum):
    """Why a task failed; the closed list that callers may build on."""

    DOWNLOAD_FAILED = "DOWNLOAD_FAILED"
    SOURCE_EXPIRED = "SOURCE_EXPIRED"
    SOURCE_TOO_LARGE = "SOURCE_TOO_LARGE"
    MEDIA_INVALID = "MEDIA_INVALID"
    TRANSCODE_FAILED = "TRANSCODE_FAILED"
    OUTPUT_MISSING = "OUTPUT_MISSING"
    GPU_UNAVAILABLE = "GPU_UNAVAILABLE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DISK_FULL = "DISK_FULL"
    TIMED_OUT = "TIMED_OUT"
    UPLOAD_FAILED = "UPLOAD_FAILED"
    WORKER_LOST = "WORKER_LOST"
    INTERNAL_ERROR = "INTERNAL_ERROR"


# Whether the same task may well succeed when it is run again; a failure that knows better says so itself.
RETRYABLE: Mapping[FailureCode, bool] = {
    FailureCode.DOWNLOAD_FAILED: True,  # the source may be back in a minute
    FailureCode.SOURCE_EXPIRED: False,  # a link that ran out stays out
    FailureCode.SOURCE_TOO_LARGE: False,
    FailureCode.MEDIA_INVALID: False,
    FailureCode.TRANSCODE_FAILED: False,
    FailureCode.OUTPUT_MISSING: False,
    FailureCode.GPU_UNAVAILABLE: True,  # another machine may have one
    FailureCode.OUT_OF_MEMORY: True,
    FailureCode.DISK_FULL: True,
    FailureCode.TIMED_OUT: False,
    FailureCode.UPLOAD_FAILED: True,
    FailureCode.WORKER_LOST: True,
    FailureCode.INTERNAL_ERROR: True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A sentence a person can act on, under a code a program can."""

    code: FailureCode
    message: str
    retryable: bool
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, code: FailureCode, message: str, *, retryable: bool | None = None, details: Mapping[str, Any] | None = None
    ) -> "Failure":
        return cls(
            code=code,
            message=message,
            retryable=RETRYABLE[code] if retryable is None else retryable,
            details=details or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the transcode is. `None` is "not known": nothing here is ever guessed."""

    percent: float | None = None  # 0 to 99.9; 100 only when the task is completed
    frame: int | None = None
    fps: float | None = None
    speed: float | None = None  # media seconds per second
    out_time_seconds: float | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    type: str  # video, audio, subtitle, data, attachment
    codec: str
    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    pixel_format: str | None = None
    sample_aspect_ratio: str | None = None
    channels: int | None = None
    channel_layout: str | None = None
    sample_rate: int | None = None
    bit_rate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """What a file holds, as probed. Bit rates in bits per second."""

    container: str
    duration_seconds: float | None = None
    bit_rate: int | None = None
    streams: tuple[Stream, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    filename: str
    key: str  # where it lies in the object store
    size_bytes: int
    sha256: str
    media: Media | None = None  # None for a part of another output: a segment of a playlist


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where a task's time went, in seconds."""

    download_seconds: float | None = None
    transcode_seconds: float | None = None
    upload_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One ffmpeg command over named inputs that produces named outputs. All times are in UTC."""

    task_id: str
    status: Status
    command: str
    input_files: Mapping[str, str]  # name in the command -> URL
    output_files: tuple[str, ...]  # names the command writes, as declared
    correlation_id: str
    created_at: datetime
    version: int = 0  # counts writes; kept by the store
    fence: int = 0  # counts claims; only the holder of the newest may write
    owner: str | None = None
    job_id: str | None = None  # the dispatcher's name for the newest worker
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    dispatch_due_at: datetime | None = None
    lease_expires_at: datetime | None = None
    stage: Stage | None = None
    progress: Progress = Progress()
    timings: Timings = Timings()
    outputs: tuple[Output, ...] = ()
    output_count: int = 0  # all stored files; `outputs` lists the first of them
    error: Failure | None = None

    @property
    def due_at(self) -> datetime | None:
        """When somebody should look whether this task is still moving; None when there is nothing to look after."""
        return {Status.QUEUED: self.dispatch_due_at, Status.RUNNING: self.lease_expires_at}.get(self.status)


# The statuses from which each move may start. `due_at` and the fence narrow some of them further.
MOVES: Mapping[str, frozenset[Status]] = {
    "execute": frozenset({Status.PENDING}),
    "submitted": frozenset({Status.QUEUED}),
    "unsubmitted": frozenset({Status.QUEUED}),
    "claim": frozenset({Status.QUEUED, Status.RUNNING}),
    "report": frozenset({Status.RUNNING}),
    "complete": frozenset({Status.RUNNING}),
    "fail": frozenset({Status.RUNNING}),
    "release": frozenset({Status.RUNNING}),
    "lose": frozenset({Status.RUNNING}),
}


def _allow(task: Task, move: str) -> None:
    if task.status in MOVES[move]:
        return
    details = {"task_id": task.task_id, "status": task.status.value}
    if task.status.ended:
        raise TaskEnded(f"The task has ended as {task.status}; register a new one.", details=details)
    raise TaskNotReady(f"The task is {task.status}, which does not allow to {move} it.", details=details)


def _allow_holder(task: Task, move: str, fence: int) -> None:
    _allow(task, move)
    if task.fence != fence:
        raise FenceLost(details={"task_id": task.task_id, "fence": fence, "newest": task.fence})


def execute(task: Task, *, now: datetime) -> Task:
    """T2: from now on the task wants a worker."""
    _allow(task, "execute")
    return replace(task, status=Status.QUEUED, queued_at=now, dispatch_due_at=now + SUBMIT_GRACE)


def submitted(task: Task, *, now: datetime, job_id: str) -> Task:
    """T3: the dispatcher has it under `job_id`."""
    _allow(task, "submitted")
    return replace(task, job_id=job_id, dispatch_due_at=now + QUEUE_PATIENCE)


def unsubmitted(task: Task, *, now: datetime) -> Task:
    """The dispatcher would not take it: whoever looks next may try again at once."""
    _allow(task, "unsubmitted")
    return replace(task, dispatch_due_at=now)


def claim(task: Task, *, now: datetime, owner: str) -> Task:
    """T4, T5: a worker takes the task, under a fence of its own; from a live owner it cannot be taken."""
    _allow(task, "claim")
    if task.status is Status.RUNNING and task.lease_expires_at is not None and task.lease_expires_at > now:
        raise TaskNotReady("Another worker holds the task.", details={"task_id": task.task_id})
    if task.fence >= MAX_CLAIMS:
        raise TaskNotReady(f"The task was claimed {task.fence} times already.", details={"task_id": task.task_id})
    return replace(
        task,
        status=Status.RUNNING,
        fence=task.fence + 1,
        owner=owner,
        started_at=now,
        lease_expires_at=now + LEASE,
        dispatch_due_at=None,
        stage=Stage.DOWNLOADING,
        progress=Progress(),
        timings=Timings(),
    )


def report(task: Task, *, now: datetime, fence: int, stage: Stage, progress: Progress, timings: Timings) -> Task:
    """T6: the heartbeat, with the progress so far; progress never goes back within one fence."""
    _allow_holder(task, "report", fence)
    return replace(
        task, stage=stage, progress=_forward(task.progress, progress), timings=timings, lease_expires_at=now + LEASE
    )


def complete(
    task: Task, *, now: datetime, fence: int, outputs: tuple[Output, ...], output_count: int, timings: Timings
) -> Task:
    """T7: the outputs are in the store, verified; this publishes them."""
    _allow_holder(task, "complete", fence)
    progress = replace(task.progress, percent=100.0, eta_seconds=0.0)
    return _ended(
        replace(task, outputs=outputs, output_count=output_count, timings=timings, progress=progress),
        Status.COMPLETED,
        now=now,
    )


def fail(task: Task, *, now: datetime, fence: int, error: Failure, timings: Timings) -> Task:
    """T8: the worker says why there will be no output."""
    _allow_holder(task, "fail", fence)
    return _ended(replace(task, error=error, timings=timings), Status.FAILED, now=now)


def release(task: Task, *, now: datetime, fence: int) -> Task:
    """T8: the worker was told to stop before it was done; another one may take over at once."""
    _allow_holder(task, "release", fence)
    return _requeued(task, now=now)


def lose(task: Task, *, now: datetime, fence: int) -> Task:
    """T10: the worker that held `fence` is gone without a word."""
    _allow_holder(task, "lose", fence)
    return _requeued(task, now=now)


def _requeued(task: Task, *, now: datetime) -> Task:
    if task.fence >= MAX_CLAIMS:
        lost = f"The worker was lost {task.fence} times; the source may be more than it can hold."
        return _ended(replace(task, error=Failure.of(FailureCode.WORKER_LOST, lost)), Status.FAILED, now=now)
    return replace(
        task,
        status=Status.QUEUED,
        owner=None,
        job_id=None,
        stage=None,
        progress=Progress(),
        lease_expires_at=None,
        dispatch_due_at=now,
    )


def _ended(task: Task, status: Status, *, now: datetime) -> Task:
    return replace(
        task, status=status, finished_at=now, stage=None, owner=None, lease_expires_at=None, dispatch_due_at=None
    )


def _forward(old: Progress, new: Progress) -> Progress:
    return replace(
        new,
        percent=_later(old.percent, new.percent),
        frame=_later(old.frame, new.frame),
        out_time_seconds=_later(old.out_time_seconds, new.out_time_seconds),
    )


def _later(old: N | None, new: N | None) -> N | None:
    if old is None or new is None:
        return new if old is None else old
    return max(old, new)
