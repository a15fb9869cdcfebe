"""Records in the SQLite file that also has the tasks."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from core.errors import RecordChanged
from core.local.database import Database
from core.ports import Newest, Position, Record

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL,
    record_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    due_at TEXT,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, record_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_due ON records (kind, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_newest ON records (kind, created_at, record_id);
"""
_COLUMNS = "kind, record_id, version, created_at, due_at, body"
_TOP = Position(datetime.max.replace(tzinfo=UTC), "")


class SqliteRecordStore:
    """The RecordStore of one machine, in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    def create(self, record: Record) -> Record:
        stored = replace(record, version=1)
        with self._database.connection() as connection:
            try:
                connection.execute(f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", _row(stored))  # noqa: S608
            except sqlite3.IntegrityError as error:
                raise RecordChanged from error
        return stored

    def find(self, kind: str, record_id: str) -> Record | None:
        found = self._select("kind = ? AND record_id = ?", kind, record_id)
        return found[0] if found else None

    def replace(self, new: Record, previous: Record) -> Record:
        stored = replace(new, version=previous.version + 1)
        with self._database.connection() as connection:
            changed = connection.execute(
                f"UPDATE records SET ({_COLUMNS}) = (?, ?, ?, ?, ?, ?)"  # noqa: S608
                " WHERE kind = ? AND record_id = ? AND version = ?",
                (*_row(stored), previous.kind, previous.record_id, previous.version),
            ).rowcount
        if not changed:
            raise RecordChanged
        return stored

    def delete(self, record: Record) -> None:
        with self._database.connection() as connection:
            gone = connection.execute(
                "DELETE FROM records WHERE kind = ? AND record_id = ? AND version = ?",
                (record.kind, record.record_id, record.version),
            ).rowcount
        if not gone and self.find(record.kind, record.record_id):
            raise RecordChanged

    def due(self, kind: str, before: datetime, *, limit: int) -> Sequence[Record]:
        return self._select("kind = ? AND due_at <= ? ORDER BY due_at LIMIT ?", kind, _text(before), limit)

    def newest(self, kind: str, *, limit: int, below: Position | None = None, since: datetime | None = None) -> Newest:
        below = below or _TOP
        where = (
            "kind = ? AND (created_at, record_id) < (?, ?) AND created_at >= ?"
            " ORDER BY created_at DESC, record_id DESC LIMIT ?"
        )
        least = _text(since) if since else ""
        found = self._select(where, kind, _text(below.created_at), below.task_id, least, limit)
        return Newest.of(found, limit=limit)

    def close(self) -> None:
        """Close what is open; the store can be used again."""
        self._database.close()

    def _select(self, where: str, *values: object) -> list[Record]:
        with self._database.connection() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM records WHERE {where}", values).fetchall()  # noqa: S608
        return [_record(*row) for row in rows]


def _row(record: Record) -> tuple[object, ...]:
    due = _text(record.due_at) if record.due_at else None
    return record.kind, record.record_id, record.version, _text(record.created_at), due, record.body


def _record(kind: str, record_id: str, version: int, created_at: str, due_at: str | None, body: str) -> Record:
    return Record(
        kind=kind,
        record_id=record_id,
        version=version,
        created_at=datetime.fromisoformat(created_at),
        due_at=datetime.fromisoformat(due_at) if due_at else None,
        body=body,
    )


def _text(time: datetime) -> str:
    """Text that sorts as times do."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")
