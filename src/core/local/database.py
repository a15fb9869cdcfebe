"""The SQLite file that the service and its workers share.

A write is on the disk when the call returns (WAL, synchronous=FULL). A connection is opened when a call needs one and
kept for the next. What stands in the file is for the stores to say.
"""

import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from core.errors import InternalError, ServiceUnavailable

# How long a write waits for another process's; each takes milliseconds.
_BUSY_SECONDS = 20.0
_PASSING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})


class Database:
    """The file at `path`; it is made when it is first used, with its folder. `schema` makes what is not there yet."""

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._schema = schema
        # One connection for each call that runs at the same time: threads come and go, connections are kept.
        self._idle: deque[sqlite3.Connection] = deque()

    def close(self) -> None:
        """Close what is open; the file can be used again."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Raises ServiceUnavailable while the disk is full or others write, and InternalError for whatever else SQLite
        has against it, save what the caller catches."""
        try:
            connection = self._idle.pop() if self._idle else self._open()
        except IndexError:  # another thread took the last idle one
            connection = self._open()
        try:
            yield connection
        except sqlite3.Error as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:  # the rest of it tells kinds of the same apart
                raise ServiceUnavailable from error
            raise InternalError("The task store cannot be used.") from error
        except BaseException:
            self._idle.append(connection)
            raise
        self._idle.append(connection)

    def _open(self) -> sqlite3.Connection:
        try:
            if not self._path.exists():
                self._make()
            connection = _connect(self._path)
            try:
                connection.executescript(self._schema)
            except BaseException:
                connection.close()
                raise
            return connection
        except (OSError, sqlite3.Error) as error:
            raise InternalError("The task store cannot be opened.") from error

    def _make(self) -> None:
        """A new file, linked into place when it is whole: of processes that start together one wins."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(f"{self._path.name}.{uuid4().hex}")
        try:
            with closing(_connect(draft)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(self._schema)
            with suppress(FileExistsError):
                os.link(draft, self._path)
        finally:
            draft.unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection
