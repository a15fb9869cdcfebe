"""The things that differ between AWS and one machine, as the verbs and the worker see them.

Each port has two shipping implementations, `aws/` and `local/`, and one contract suite in tests/contract that both
must pass. Fetching a URL and running ffmpeg are the same everywhere, so they are functions, not ports. InputStore and
InputFolders have one implementation each: one machine has no role with which to read somebody's bucket, and AWS has no
folders. A Channel has no twin either: a webhook goes out alike everywhere, and events are AWS's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from core.batch import Batch, Member, Source
from core.errors import InternalError
from core.task import Status, Task
from core.upload import UploadStore

if TYPE_CHECKING:
    from core.presets import SharedShelf


BATCHES = "batches"  # the folder, among objects, that has a folder for each batch


class Position(NamedTuple):
    """Where a task stands among all: the later it was registered, the higher. It never moves."""

    created_at: datetime
    task_id: str  # or the record's

    @classmethod
    def of(cls, task: Task) -> "Position":
        return cls(task.created_at, task.task_id)


class Page(NamedTuple):
    """Tasks, the newest first; `next` is what to go on below, None when nothing is."""

    tasks: Sequence[Task]
    next: Position | None


class End(NamedTuple):
    """That a task has ended, and how long after it was executed; None where it never was."""

    status: Status
    finished_at: datetime
    seconds: float | None


class Survey(NamedTuple):
    """How many tasks are pending, queued and running; the ends that were asked for; who has waited the longest."""

    counts: Mapping[Status, int]
    ends: Sequence[End]  # in no order
    waiting_since: datetime | None  # of the queued task that has waited for a worker the longest


class TaskStore(Protocol):
    """Where tasks live. Every write is durable when the call returns, and conditional, so that none is unseen."""

    def create(self, task: Task) -> Task:
        """Store a new task; returns it as stored, with its version. Raises TaskExists."""
        ...

    def get(self, task_id: str) -> Task:
        """The task as it is now, never a stale copy. Raises TaskNotFound."""
        ...

    def replace(self, new: Task, previous: Task) -> Task:
        """Store `new` if the stored task is still in the version of `previous`; returns it as stored.

        Raises TaskChanged when somebody was faster, TaskNotFound when it is gone.
        """
        ...

    def due(self, before: datetime, *, limit: int, live: bool = True) -> Sequence[Task]:
        """Tasks whose `due_at` is at or before `before`, the longest due first: the live ones, or else the others.

        May lag behind by moments: whoever acts on an entry does so by `replace`.
        """
        ...

    def members(self, batch_id: str) -> Sequence[Member]:
        """What is stored of the batch's tasks, in any order; may lag behind by moments."""
        ...

    def count_live(self, key_name: str, *, most: int) -> int:
        """How many of the key's tasks are queued or running, counted up to `most`; may lag behind by moments."""
        ...

    def survey(self, *, ended_since: datetime, most: int) -> Survey:
        """How things stand, at a cost that does not grow with what is stored: of each status it counts up to about
        `most`, and of the ends since `ended_since` it has about `most`, the newest. May lag behind by moments."""
        ...

    def page(self, *, limit: int, below: Position | None = None, status: Status | None = None) -> Page:
        """At most `limit` tasks, those of the status only if one is given; there may be fewer, and still a next page.

        Page after page, each task that was there at the first is met once, however many are added meanwhile. One that
        was registered a moment ago may not be listed yet; with a status, tasks are met in it or not at all.
        """
        ...

    def forget(self, task: Task) -> None:
        """Delete the record, if the stored task is still in this version. Raises TaskChanged, TaskNotFound."""
        ...

    def check(self) -> str:
        """One line on what is in use, for the health page. Raises when it cannot be used."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the service keeps besides tasks: data of some kind under an id, as JSON. What is in it is its owner's."""

    kind: str  # letters; the ids of two kinds have nothing to do with each other
    record_id: str
    body: str
    created_at: datetime
    due_at: datetime | None = None  # when somebody should look after it; None when there is nothing to look after
    version: int = 0  # counts writes; kept by the store


class Newest(NamedTuple):
    """Some records, the newest first, and below what to go on; None when there are no more."""

    records: Sequence[Record]
    next: Position | None

    @classmethod
    def of(cls, records: Sequence[Record], *, limit: int) -> "Newest":
        """Those that were found when at most `limit` were asked for."""
        last = records[-1] if len(records) == limit else None
        return cls(records, Position(last.created_at, last.record_id) if last else None)


class RecordStore(Protocol):
    """Where records live: beside the tasks, under the same promises. None is large, and of a kind there are few."""

    def create(self, record: Record) -> Record:
        """Store a new record; returns it as stored, with its version. Raises RecordChanged when there is one."""
        ...

    def find(self, kind: str, record_id: str) -> Record | None:
        """The record as it is now, never a stale copy; None when there is none."""
        ...

    def replace(self, new: Record, previous: Record) -> Record:
        """Store `new`, of the same kind and id, if the stored record is still in the version of `previous`; returns it
        as stored. Raises RecordChanged when it is not, or is gone."""
        ...

    def delete(self, record: Record) -> None:
        """Raises RecordChanged when the stored record is in another version; one that is gone is no error."""
        ...

    def due(self, kind: str, before: datetime, *, limit: int) -> Sequence[Record]:
        """Records whose `due_at` is at or before `before`, the longest due first; may lag behind by moments."""
        ...

    def newest(
        self, kind: str, *, limit: int, below: Position | None = None, since: datetime | None = None
    ) -> "Newest":
        """At most `limit` records, the newest first: those below that position, and not older than `since`.

        May lag behind by moments.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    size_bytes: int
    sha256: str


class ObjectStore(Protocol):
    """Where outputs live. A key is a path with `/`; an object is there as a whole or not at all."""

    def put_file(
        self, key: str, path: Path, *, sha256: str, content_type: str, on_piece: Callable[[], None] = lambda: None
    ) -> None:
        """Store the file's bytes under `key`, replacing what was there. The bytes are streamed, never held whole.

        `on_piece` is called often, from any thread; what it raises ends the transfer, and nothing of it is left.
        """
        ...

    def head(self, key: str) -> StoredObject | None:
        """Size and checksum as stored; None when there is no such object."""
        ...

    def read(self, key: str, *, most_bytes: int) -> bytes | None:
        """The object's bytes, at most the first so many; None when there is no such object. For what is small."""
        ...

    def link(self, key: str, *, expires_in_seconds: int) -> str:
        """A URL from which anybody who holds it can GET the object, with Range, until it expires."""
        ...

    def uri(self, key: str) -> str | None:
        """The object's `s3://` name; None where there is no S3."""
        ...

    def delete(self, folder: str, *, keep: str | None = None) -> int:
        """Delete all that is below `folder`, save what is below the folder `keep`; returns how many objects went.

        Transfers that were begun there and never ended are given up too. What is not there is no error.
        """
        ...

    def check(self) -> str:
        """One line on what is in use, for the health page. Raises when it cannot be used."""
        ...


class InputUnreadable(Exception):
    """The message ends a sentence that begins with the object."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        self.retryable = retryable
        super().__init__(message)


class InputTooLarge(Exception):
    """The object has more bytes than are taken."""


class InputStore(Protocol):
    """Buckets that are not ours, from which inputs may be read. Only AWS has them."""

    def list(self, bucket: str, prefix: str, *, limit: int) -> Sequence[Source]:
        """The media below the prefix, in the order of their keys, at most `limit`. Raises InputUnreadable."""
        ...

    def delete(self, bucket: str, key: str) -> None:
        """Delete the object that get_file has read, if it is still the same; one that is not there is no error. Raises
        InputUnreadable when it is another one, or may not be deleted."""
        ...

    def get_file(self, bucket: str, key: str, path: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        """Store the object at `path`; returns its size in bytes.

        `on_piece` is called often, from any thread; what it raises ends the transfer. Raises InputUnreadable,
        InputTooLarge (and then nothing was transferred), or OSError when `path` cannot be written.
        """
        ...


class InputGone(InputUnreadable):
    """The object is not there, or not there any more."""


class InputFolders(Protocol):
    """Folders from which inputs may be read. Only one machine has them."""

    def list(self, folder: str, *, limit: int) -> Sequence[Source]:
        """The media below the folder, sorted by path, at most `limit`. Raises InputUnreadable."""
        ...

    def get_file(self, path: str, target: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        """Copy the file to `target`; returns its size in bytes. Raises as InputStore.get_file does."""
        ...

    def delete(self, path: str) -> None:
        """Delete the file that get_file has read, if it is still the same. Raises InputUnreadable when it is not, or
        may not be deleted; one that is not there is no error."""
        ...


class JobState(Enum):
    COMING = "coming"  # it waits for its turn, or is being started
    RUNNING = "running"
    GONE = "gone"  # it has ended, or nobody has ever heard of it


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the dispatcher says of a task's newest job, and in its own words why that waits, if it says so."""

    state: JobState
    reason: str | None = None


class Dispatcher(Protocol):
    """What starts a worker for a task. Two workers for one task do no harm: the claim lets one of them work."""

    def submit(self, task: Task) -> str:
        """Ask for a worker; returns at once with the job's id.

        Raises DispatchDelayed when it may well have been asked for, or can be in a moment (no answer, too many
        requests), and DispatchUnavailable when somebody has to do something about it first.
        """
        ...

    def look(self, tasks: Sequence[Task]) -> Mapping[str, Sighting]:
        """By task id, how the newest job of each task is. Raises DispatchDelayed, DispatchUnavailable."""
        ...

    def stop(self, task: Task) -> None:
        """End the newest job of the task, whether it waits or runs; returns before it has ended.

        A running one is told first and killed some seconds later. One that has ended already is no error, and one
        that is for others too, of a batch, is let be. Raises DispatchDelayed, DispatchUnavailable.
        """
        ...

    def submit_batch(self, batch: Batch) -> str:
        """Ask for a worker for each slice; returns at once with the one job's id. Raises as `submit` does."""
        ...

    def look_batch(self, batch: Batch) -> Sighting:
        """How its newest job is: gone when no slice has a worker or waits for one. Raises as `look` does."""
        ...

    def stop_batch(self, batch: Batch) -> None:
        """End its newest job, all of its workers, as `stop` does."""
        ...

    def check(self) -> str:
        """One line on what is in use, for the health page. Raises when it cannot be used."""
        ...


class NotDelivered(Exception):
    """A notice did not arrive; the message says why. `final` when it never will, however often it is sent."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        self.final = final
        super().__init__(message)


class Channel(Protocol):
    """A way to tell others that a task has ended: `webhook`, `event`."""

    def deliver(self, task: Task) -> None:
        """Returns when it has arrived; the same notice may be delivered more than once. Raises NotDelivered."""
        ...


def _no_buckets(name: str) -> ObjectStore:
    raise InternalError("Only the service's own bucket can be used here.")


@dataclass(frozen=True, slots=True)
class Services:
    store: TaskStore
    records: RecordStore
    objects: ObjectStore  # the service's own bucket
    dispatcher: Dispatcher
    inputs: InputStore | None = None
    uploads: UploadStore | None = None  # only where files are taken from callers
    folders: InputFolders | None = None
    channels: Mapping[str, Channel] = field(default_factory=dict)  # by name; only where notices are sent
    output_prefix: str = "outputs"
    buckets: Callable[[str], ObjectStore] = _no_buckets  # those of others, by name
    presets: "SharedShelf | None" = None  # where an operator's own are in a bucket; only where they are asked for

    def objects_of(self, task: Task) -> ObjectStore:
        """Where the outputs of the task are stored; its logs are in `objects`."""
        return self.buckets(task.destination.bucket) if task.destination else self.objects

    def folder(self, task: Task) -> str:
        """Below which all outputs of the task are stored."""
        prefix = task.destination.prefix if task.destination else self.output_prefix
        return f"{prefix}/{task.task_id}" if prefix else task.task_id

    def logs(self, task: Task) -> str:
        """Below which the logs of the task are stored: apart, since what is not published is deleted, and they stay."""
        return f"{self.output_prefix}/logs/{task.task_id}"

    def log_key(self, task: Task, fence: int) -> str:
        """The log of one attempt."""
        return f"{self.logs(task)}/{fence}.log"

    def batch_folder(self, batch_id: str) -> str:
        """Beside the outputs, which have a time of their own."""
        return f"{BATCHES}/{batch_id}"

    def manifest_key(self, batch: Batch) -> str:
        """The list of what the batch's tasks are about."""
        return f"{self.batch_folder(batch.batch_id)}/{batch.manifest}"

    def clear(self, task: Task) -> None:
        """Delete all that is stored for the task."""
        self.objects.delete(self.logs(task))
        self.objects_of(task).delete(self.folder(task))
