"""The three things that differ between AWS and one machine, as the verbs and the worker see them.

Each port has two shipping implementations, `aws/` and `local/`, and one contract suite in tests/contract that both
must pass. Fetching a URL and running ffmpeg are the same everywhere, so they are functions, not ports. InputStore has
one implementation only: one machine has no role with which to read somebody's bucket.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from core.task import Task


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

    def due(self, before: datetime, *, limit: int) -> Sequence[Task]:
        """Queued and running tasks whose `due_at` is at or before `before`, the longest due first.

        May lag behind by moments: whoever acts on an entry does so by `replace`.
        """
        ...

    def check(self) -> str:
        """One line on what is in use, for the health page. Raises when it cannot be used."""
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    size_bytes: int
    sha256: str


class ObjectStore(Protocol):
    """Where outputs live. A key is a path with `/`; an object is there as a whole or not at all."""

    def put_file(self, key: str, path: Path, *, sha256: str, content_type: str) -> None:
        """Store the file's bytes under `key`, replacing what was there. The bytes are streamed, never held whole."""
        ...

    def head(self, key: str) -> StoredObject | None:
        """Size and checksum as stored; None when there is no such object."""
        ...

    def link(self, key: str, *, expires_in_seconds: int) -> str:
        """A URL from which anybody who holds it can GET the object, with Range, until it expires."""
        ...

    def uri(self, key: str) -> str | None:
        """The object's `s3://` name; None where there is no S3."""
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

    def get_file(self, bucket: str, key: str, path: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        """Store the object at `path`; returns its size in bytes.

        `on_piece` is called often, from any thread; what it raises ends the transfer. Raises InputUnreadable,
        InputTooLarge (and then nothing was transferred), or OSError when `path` cannot be written.
        """
        ...


class Dispatcher(Protocol):
    """What starts a worker for a task. Two workers for one task do no harm: the claim lets one of them work."""

    def submit(self, task: Task) -> str:
        """Ask for a worker; returns at once with the job's id. Raises DispatchUnavailable."""
        ...

    def check(self) -> str:
        """One line on what is in use, for the health page. Raises when it cannot be used."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    store: TaskStore
    objects: ObjectStore
    dispatcher: Dispatcher
    inputs: InputStore | None = None
