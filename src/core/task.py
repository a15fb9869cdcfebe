"""What a task is: its state as data, and the few things that follow from it alone.

How it changes is moves.py's, where it is kept is the business of ports.TaskStore.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from core.destination import Destination

MAX_CLAIMS = 3
# How long the record of a task is kept when nothing else is to be done for it: not executed, or ended and cleared.
KEEP_RECORD = timedelta(days=30)


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

    @property
    def live(self) -> bool:
        """Whether it is to go on without anybody asking for it."""
        return self in (Status.QUEUED, Status.RUNNING)


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


# How often the same task is worth running again after such a failure; one that knows better says so itself.
RETRIES: Mapping[FailureCode, int] = {
    FailureCode.DOWNLOAD_FAILED: 2,  # the source may be back in a minute
    FailureCode.SOURCE_EXPIRED: 0,  # a link that ran out stays out
    FailureCode.SOURCE_TOO_LARGE: 0,
    FailureCode.MEDIA_INVALID: 0,
    FailureCode.TRANSCODE_FAILED: 0,
    FailureCode.OUTPUT_MISSING: 0,
    FailureCode.GPU_UNAVAILABLE: 2,  # another machine may have one
    FailureCode.OUT_OF_MEMORY: 1,  # a neighbour may have had it; twice is no accident
    FailureCode.DISK_FULL: 2,  # what filled it may be gone
    FailureCode.TIMED_OUT: 0,
    FailureCode.UPLOAD_FAILED: 2,
    FailureCode.WORKER_LOST: 2,
    FailureCode.INTERNAL_ERROR: 1,
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
            retryable=RETRIES[code] > 0 if retryable is None else retryable,
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
    key: str  # where it lies in the bucket
    size_bytes: int
    sha256: str
    media: Media | None = None  # None for a part of another output: a segment of a playlist


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where a task's time went, in seconds."""

    download_seconds: float | None = None
    transcode_seconds: float | None = None
    upload_seconds: float | None = None


class Ending(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"  # the worker said why
    RELEASED = "released"  # the worker was told to stop, and said so
    LOST = "lost"  # the worker was gone without a word
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One claim of the task: by which worker, and what became of it."""

    number: int  # the claim's fence
    owner: str
    started_at: datetime
    job_id: str | None = None
    finished_at: datetime | None = None
    ending: Ending | None = None  # None while the worker holds the task
    code: FailureCode | None = None
    message: str | None = None
    note: str | None = None  # what it did otherwise than asked, and why


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What was asked for of a preset that looks at the source; the worker makes the command of it."""

    preset: str
    text: str  # the preset's file, as it was when the task was registered
    parameters: Mapping[str, Any] = field(default_factory=dict)  # as given
    gpu: bool = False  # whether it is to be encoded by the card


class NoticeStatus(StrEnum):
    PENDING = "pending"  # to be sent, or sent again, once the task has ended
    DELIVERED = "delivered"
    ABANDONED = "abandoned"  # refused for good, or too often


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """That somebody is told of the task's end, by one channel: `webhook` or `event`."""

    channel: str
    status: NoticeStatus = NoticeStatus.PENDING
    tries: int = 0
    due_at: datetime | None = None  # None until the task has ended, and when nothing more is to be sent
    delivered_at: datetime | None = None
    error: str | None = None  # of the newest try


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
    batch_id: str | None = None  # of the batch that it is one of
    delete_input: str | None = None  # the name of the input that is deleted from where it lies once it has completed
    key_name: str | None = None  # of the API key that it was registered with, where there is sign-in
    fingerprint: str | None = None  # of what was asked for, when it came with an idempotency key
    callback_url: str | None = None
    recipe: Recipe | None = None  # what `command` is made of once the source is known; None: it is as registered
    compute: str = "gpu"  # what kind of worker it wants, gpu or cpu; rows from before there were two have none
    gpu_fallback: bool = False  # whether the CPU form of the command will do where no GPU can run it
    timeout_seconds: int | None = None  # of each run of ffmpeg; None is the service's own
    metadata: Mapping[str, str] = field(default_factory=dict)  # the caller's own words, which mean nothing to us
    destination: Destination | None = None  # where the outputs go; None is the service's own bucket
    result_ttl_seconds: int | None = None  # how long outputs are kept; None is for ever
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    dispatch_due_at: datetime | None = None
    lease_expires_at: datetime | None = None
    expires_at: datetime | None = None  # when the outputs are deleted
    purged_at: datetime | None = None  # when they were, and the logs with them
    tidy_due_at: datetime | None = None  # when to delete what workers have stored that was not published
    queue_reason: str | None = None  # why no worker takes it, in the dispatcher's own words
    stage: Stage | None = None
    progress: Progress = Progress()
    timings: Timings = Timings()
    attempts: tuple[Attempt, ...] = ()
    outputs: tuple[Output, ...] = ()
    output_count: int = 0  # all stored files; `outputs` lists the first of them
    error: Failure | None = None
    notices: tuple[Notice, ...] = ()
    # What a later version keeps and this one does not know: kept as it is when this one writes the task.
    unread: Mapping[str, Any] = field(default_factory=dict)

    @property
    def due_at(self) -> datetime | None:
        """When somebody should look after this task; None when there is nothing to look after."""
        if self.status is Status.QUEUED:
            return self.dispatch_due_at
        if self.status is Status.RUNNING:
            return self.lease_expires_at
        times = (*(notice.due_at for notice in self.notices), self.tidy_due_at, self.purge_due_at, self.forget_due_at)
        return min((time for time in times if time), default=None)

    @property
    def purge_due_at(self) -> datetime | None:
        """When the outputs are to be deleted, as long as they are not."""
        return None if self.purged_at else self.expires_at

    @property
    def forget_due_at(self) -> datetime | None:
        """When nobody will ask for the task any more; None while it lives, or while its outputs are kept by us."""
        if self.status is Status.PENDING:
            return self.created_at + KEEP_RECORD
        if self.status is Status.COMPLETED and self.destination is None:
            return self.purged_at and self.purged_at + KEEP_RECORD
        return self.finished_at and self.finished_at + KEEP_RECORD

    @property
    def waiting_since(self) -> datetime | None:
        """Since when a queued task has waited for its next worker."""
        return (self.attempts[-1].finished_at if self.attempts else None) or self.queued_at
