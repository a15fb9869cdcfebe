"""An upload: a file that a caller brings in parts, as data, and what follows from it alone.

How it comes to be and to an end is uploads.py's; the bytes are kept by ports.UploadStore.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

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
    task_ids: tuple[str, ...] = ()  # the newest tasks that were registered with it

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
