"""An upload: a file that a caller brings in parts, as data, and what follows from it alone.

How it comes to be and to an end is uploads.py's; UploadStore is the port to what keeps the bytes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

MOST_BYTES = 20 * 1024**3
ONE_PART_BYTES = 100 * 1024**2  # up to here it comes in one
_LEAST_PART_BYTES = 64 * 1024**2
_MOST_PARTS = 200  # so that the list of them, each with a signed link, stays small
_MIB = 1024**2


class UploadStatus(StrEnum):
    OPEN = "open"  # parts are taken
    COMPLETE = "complete"  # it is whole, never changes again, and can be an input
    DELETED = "deleted"  # for callers it is not there; the sweep makes sure that nothing is left, then forgets it


class Part(NamedTuple):
    number: int  # from 1
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    upload_id: str
    filename: str  # the caller's own, to be shown; nothing is stored under it
    size_bytes: int
    part_size_bytes: int  # of each part but the last
    transfer: str  # what the store calls it while it is open
    created_at: datetime
    expires_at: datetime
    status: UploadStatus = UploadStatus.OPEN
    key_name: str | None = None  # of the API key that made it
    task_ids: tuple[str, ...] = ()  # the newest tasks, and batches, that were registered with it

    @property
    def parts(self) -> tuple[Part, ...]:
        size = self.part_size_bytes
        starts = range(0, self.size_bytes, size)
        return tuple(Part(number, min(size, self.size_bytes - at)) for number, at in enumerate(starts, start=1))

    def missing(self, sizes: Mapping[int, int]) -> tuple[int, ...]:
        """The numbers of the parts that are not there whole; `sizes` has those of what is there."""
        return tuple(part.number for part in self.parts if sizes.get(part.number) != part.size_bytes)


def part_size_bytes(size_bytes: int) -> int:
    """Into parts of which size a file of that many bytes is cut."""
    if size_bytes <= ONE_PART_BYTES:
        return size_bytes
    whole_mib = -(-size_bytes // (_MOST_PARTS * _MIB)) * _MIB
    return max(_LEAST_PART_BYTES, whole_mib)


def dumps(upload: Upload) -> str:
    return json.dumps(asdict(upload), default=datetime.isoformat)


def loads(text: str) -> Upload:
    """What is unknown is ignored: a later version may have written it."""
    known = {field.name for field in fields(Upload)}
    data = {name: value for name, value in json.loads(text).items() if name in known}
    times = {name: datetime.fromisoformat(data[name]) for name in ("created_at", "expires_at")}
    return Upload(**{**data, **times, "status": UploadStatus(data["status"]), "task_ids": tuple(data["task_ids"])})


class Received(NamedTuple):
    """A part of an upload, as it is in the store."""

    size_bytes: int
    tag: str  # of its content, where the store has one


class UploadStore(Protocol):
    """Where files are taken from callers, in parts, past the API. A part is there as a whole or not at all."""

    def begin(self, upload_id: str) -> str:
        """Take parts from now on; returns what the store itself calls the transfer."""
        ...

    def link(self, upload_id: str, transfer: str, part: Part, *, expires_in_seconds: int) -> str:
        """A URL to which anybody who holds it can PUT the part, until it expires: again too, while it is open."""
        ...

    def received(self, upload_id: str, transfer: str) -> Mapping[int, Received] | None:
        """The parts that are there, by number; None when the transfer is over, by `finish` or by `delete`."""
        ...

    def finish(self, upload_id: str, transfer: str, parts: Mapping[int, Received]) -> bool:
        """Make these parts the one file, which never changes again. False when nothing was done: the transfer is over,
        by this or by `delete`, or a part is another one by now."""
        ...

    def size(self, upload_id: str) -> int | None:
        """In bytes, of the finished file; None when there is none."""
        ...

    def get_file(self, upload_id: str, path: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        """Store the finished file at `path`, as InputStore.get_file does. Raises InputGone, too."""
        ...

    def delete(self, upload_id: str, transfer: str) -> None:
        """Delete what there is of it, and take nothing any more. What is not there is no error."""
        ...
