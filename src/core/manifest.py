"""The manifest of a batch: a line for each of its tasks, compressed, one object.

Lines are read when they are asked for: most who come want a few of thousands.
"""

import gzip
import json
import zlib
from collections.abc import Sequence
from typing import overload

from core.batch import Source

CONTENT_TYPE = "application/gzip"
MOST_BYTES = 64 * 1024**2


def write(sources: Sequence[Source]) -> bytes:
    """The same bytes for the same sources."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    return gzip.compress("".join(f"{encode(source)}\n" for source in sources).encode(), compresslevel=1, mtime=0)


class Manifest(Sequence[Source]):
    """What `write` has written. Raises ValueError for what it has not."""

    def __init__(self, content: bytes) -> None:
        try:
            self._lines = gzip.decompress(content).splitlines()
        except (OSError, EOFError, zlib.error) as fault:
            raise ValueError("This is no manifest.") from fault

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Source]: ...
    def __getitem__(self, index: int | slice) -> Source | Sequence[Source]:
        found = self._lines[index]
        return Source(*json.loads(found)) if isinstance(found, bytes) else [Source(*json.loads(line)) for line in found]
