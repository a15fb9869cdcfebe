"""Tasks in one SQLite file, shared by the service and its workers.

Every write is a single conditional statement, so that processes need no lock but SQLite's own. What a task is, and
which moves it may make, is core.task's business.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from core import record
from core.batch import Member, place_of
from core.errors import TaskChanged, TaskExists, TaskNotFound
from core.local.database import Database
from core.ports import End, Page, Position, Survey
from core.task import Status, Task

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    task_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    status TEXT NOT NULL,
    due_at REAL,
    created_at REAL NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_due ON tasks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS tasks_listed ON tasks (created_at, task_id);
CREATE INDEX IF NOT EXISTS tasks_listed_by_status ON tasks (status, created_at, task_id);
CREATE INDEX IF NOT EXISTS tasks_by_batch ON tasks (json_extract(body, '$.batch_id'))
WHERE json_extract(body, '$.batch_id') IS NOT NULL;
CREATE INDEX IF NOT EXISTS tasks_live_by_key ON tasks (json_extract(body, '$.key_name'))
WHERE status IN ('queued', 'running');
CREATE INDEX IF NOT EXISTS tasks_waiting ON tasks (
    coalesce(json_extract(body, '$.attempts[#-1].finished_at'), json_extract(body, '$.queued_at'))
) WHERE status = 'queued';
CREATE INDEX IF NOT EXISTS tasks_ended ON tasks (json_extract(body, '$.finished_at'))
WHERE status IN ('completed', 'failed', 'canceled');
"""
# Times in a body are text in UTC, with or without microseconds, and sort as they are.
COUNT = "SELECT count(*) FROM (SELECT 1 FROM tasks WHERE status = ? LIMIT ?)"
WAITING = """
SELECT coalesce(json_extract(body, '$.attempts[#-1].finished_at'), json_extract(body, '$.queued_at')) AS since
FROM tasks INDEXED BY tasks_waiting WHERE status = 'queued' AND since IS NOT NULL ORDER BY since LIMIT 1
"""
ENDS = """
SELECT status, json_extract(body, '$.finished_at') AS ended, json_extract(body, '$.queued_at') FROM tasks
INDEXED BY tasks_ended WHERE status IN ('completed', 'failed', 'canceled') AND ended >= ? ORDER BY ended DESC LIMIT ?
"""
COUNT_LIVE = """
SELECT count(*) FROM (
    SELECT 1 FROM tasks WHERE status IN ('queued', 'running') AND json_extract(body, '$.key_name') = ? LIMIT ?
)
"""
MEMBERS = """
SELECT task_id, status, json_extract(body, '$.finished_at'), json_extract(body, '$.progress.percent'),
    json_extract(body, '$.error.message')
FROM tasks WHERE json_extract(body, '$.batch_id') = ?
"""
_TOP = Position(datetime.max.replace(tzinfo=UTC), "")
_LIVE = {True: "status IN ('queued', 'running')", False: "status NOT IN ('queued', 'running')"}


class SqliteTaskStore:
    """The TaskStore of one machine, in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    def create(self, task: Task) -> Task:
        stored = replace(task, version=1)
        with self._database.connection() as connection:
            try:
                connection.execute("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?)", _row(stored))
            except sqlite3.IntegrityError as error:
                raise TaskExists(details={"task_id": task.task_id}) from error
        return stored

    def get(self, task_id: str) -> Task:
        with self._database.connection() as connection:
            row = connection.execute("SELECT body FROM tasks WHERE task_id = ?", (task_id,)).fetchone()
        if row is None:
            raise TaskNotFound(details={"task_id": task_id})
        return record.loads(row[0])

    def replace(self, new: Task, previous: Task) -> Task:
        stored = replace(new, version=previous.version + 1)
        with self._database.connection() as connection:
            changed = connection.execute(
                "UPDATE tasks SET (task_id, version, status, due_at, created_at, body) = (?, ?, ?, ?, ?, ?)"
                " WHERE task_id = ? AND version = ?",
                (*_row(stored), previous.task_id, previous.version),
            ).rowcount
        if not changed:
            self.get(previous.task_id)
            raise TaskChanged(details={"task_id": previous.task_id})
        return stored

    def due(self, before: datetime, *, limit: int, live: bool = True) -> Sequence[Task]:
        query = f"SELECT body FROM tasks WHERE due_at <= ? AND {_LIVE[live]} ORDER BY due_at LIMIT ?"  # noqa: S608
        with self._database.connection() as connection:
            rows = connection.execute(query, (before.timestamp(), limit)).fetchall()
        return [record.loads(body) for (body,) in rows]

    def members(self, batch_id: str) -> Sequence[Member]:
        with self._database.connection() as connection:
            return [_member(*row) for row in connection.execute(MEMBERS, (batch_id,))]

    def count_live(self, key_name: str, *, most: int) -> int:
        with self._database.connection() as connection:
            (number,) = connection.execute(COUNT_LIVE, (key_name, most)).fetchone()
        return int(number)

    def survey(self, *, ended_since: datetime, most: int) -> Survey:
        since = ended_since.astimezone(UTC).replace(microsecond=0).isoformat()  # sorts before all of its second
        with self._database.connection() as connection:
            counts = {
                status: int(connection.execute(COUNT, (status.value, most)).fetchone()[0])
                for status in (Status.PENDING, Status.QUEUED, Status.RUNNING)
            }
            waiting = connection.execute(WAITING).fetchone()
            ends = [_end(*row) for row in connection.execute(ENDS, (since, most))]
        return Survey(
            counts=counts,
            ends=[end for end in ends if end.finished_at >= ended_since],
            waiting_since=datetime.fromisoformat(waiting[0]) if waiting else None,
        )

    def page(self, *, limit: int, below: Position | None = None, status: Status | None = None) -> Page:
        below = below or _TOP
        where, of_status = ("status = ? AND ", (status.value,)) if status else ("", ())
        query = (
            f"SELECT body FROM tasks WHERE {where}(created_at, task_id) < (?, ?)"  # noqa: S608
            " ORDER BY created_at DESC, task_id DESC LIMIT ?"
        )
        with self._database.connection() as connection:
            values = (*of_status, below.created_at.timestamp(), below.task_id, limit + 1)
            tasks = [record.loads(body) for (body,) in connection.execute(query, values)]
        return Page(tasks[:limit], Position.of(tasks[limit - 1]) if len(tasks) > limit else None)

    def forget(self, task: Task) -> None:
        with self._database.connection() as connection:
            gone = connection.execute(
                "DELETE FROM tasks WHERE task_id = ? AND version = ?", (task.task_id, task.version)
            ).rowcount
        if not gone:
            self.get(task.task_id)
            raise TaskChanged(details={"task_id": task.task_id})

    def check(self) -> str:
        with self._database.connection() as connection:
            connection.execute("SELECT task_id FROM tasks LIMIT 1").fetchone()
        return f"SQLite {sqlite3.sqlite_version}"

    def close(self) -> None:
        """Close what is open; the store can be used again."""
        self._database.close()


def _end(status: str, finished_at: str, queued_at: str | None) -> End:
    ended = datetime.fromisoformat(finished_at)
    seconds = (ended - datetime.fromisoformat(queued_at)).total_seconds() if queued_at else None
    return End(Status(status), ended, seconds)


def _member(task_id: str, status: str, finished_at: str | None, percent: float | None, error: str | None) -> Member:
    place = place_of(task_id)
    assert place  # an id that its batch has given it
    ended = datetime.fromisoformat(finished_at) if finished_at else None
    return Member(place[1], Status(status), ended, percent, error)


def _row(task: Task) -> tuple[object, ...]:
    due = task.due_at.timestamp() if task.due_at else None
    return task.task_id, task.version, task.status.value, due, task.created_at.timestamp(), record.dumps(task)
