"""The tasks and batches as one caller sees them: another's are not there, nor may more tasks be live than it may have.

The verbs run on this in place of the whole store, so that none of them can forget to ask whose a task is. It stands
before the API only: the sweep and the workers look after the tasks of all.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from core.batch import Member
from core.batch_record import KIND, read
from core.errors import PermissionDenied, TaskNotFound, TooManyRequests
from core.ports import Newest, Page, Position, Record, RecordStore, Survey, TaskStore
from core.task import Status, Task

# When a task ends, nobody knows; asking more often than that is not worth it.
RETRY_AFTER_SECONDS = 10
# So many pages of all tasks are looked through for one page of a caller's, all but the first of them no smaller than.
_MOST_PAGES = 10
_NEXT_PAGES = 50


class Owned(Protocol):
    """What belongs to the API key that made it."""

    @property
    def key_name(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a request."""

    name: str | None  # of the key
    admin: bool = False  # sees the tasks of all
    most_live: int = 0  # tasks queued or running at once; 0 is any number

    def sees(self, thing: Owned) -> bool:
        return self.admin or (self.name is not None and thing.key_name == self.name)


ANYBODY = Caller(name=None, admin=True)  # where there is no sign-in
STRANGER = Caller(name=None)


@dataclass(frozen=True, slots=True)
class SeenTasks:
    """The TaskStore of one caller. `one_at_a_time` is shared by all of a process, so that of two tasks that are
    executed at once, one counts the other."""

    store: TaskStore
    caller: Caller
    one_at_a_time: AbstractContextManager[object]

    def create(self, task: Task) -> Task:
        return self.store.create(task)

    def get(self, task_id: str) -> Task:
        task = self.store.get(task_id)
        if not self.caller.sees(task):
            raise TaskNotFound(details={"task_id": task_id})  # the same as the store's own
        return task

    def replace(self, new: Task, previous: Task) -> Task:
        """Raises TooManyRequests, too, for a task that would become one live task too many."""
        if not self.caller.most_live or previous.status.live or not new.status.live:
            return self.store.replace(new, previous)
        with self.one_at_a_time:
            self._check_room(new.task_id)
            return self.store.replace(new, previous)

    def due(self, before: datetime, *, limit: int, live: bool = True) -> Sequence[Task]:
        return [task for task in self.store.due(before, limit=limit, live=live) if self.caller.sees(task)]

    def page(self, *, limit: int, below: Position | None = None, status: Status | None = None) -> Page:
        """Others' tasks are passed over: a key that has few among many may get a short page, and go on below it."""
        found: list[Task] = []
        for number in range(_MOST_PAGES):
            size = max(limit, _NEXT_PAGES) if number else limit
            page = self.store.page(limit=size, below=below, status=status)
            found += [task for task in page.tasks if self.caller.sees(task)]
            below = page.next
            if below is None or len(found) >= limit:
                break
        return Page(found[:limit], Position.of(found[limit - 1]) if len(found) > limit else below)

    def count_live(self, key_name: str, *, most: int) -> int:
        return self.store.count_live(key_name, most=most)

    def survey(self, *, ended_since: datetime, most: int) -> Survey:
        """It is about the tasks of all. Raises PermissionDenied to those who do not see them."""
        if not self.caller.admin:
            raise PermissionDenied
        return self.store.survey(ended_since=ended_since, most=most)

    def members(self, batch_id: str) -> Sequence[Member]:
        """Of a batch that the caller has found: whose it is, SeenRecords has seen to."""
        return self.store.members(batch_id)

    def forget(self, task: Task) -> None:
        self.store.forget(task)

    def check(self) -> str:
        return self.store.check()

    def _check_room(self, task_id: str) -> None:
        name, most = self.caller.name, self.caller.most_live
        if name and self.store.count_live(name, most=most) >= most:
            message = f"{most} tasks of this key are queued or running, which is all it may have: execute it later."
            details = {"task_id": task_id, "most_live_tasks": most, "retry_after_seconds": RETRY_AFTER_SECONDS}
            raise TooManyRequests(message, details=details)


@dataclass(frozen=True, slots=True)
class SeenRecords:
    """The RecordStore of one caller: of batches, its own. Records of other kinds are not a caller's."""

    store: RecordStore
    caller: Caller

    def create(self, record: Record) -> Record:
        return self.store.create(record)

    def find(self, kind: str, record_id: str) -> Record | None:
        found = self.store.find(kind, record_id)
        return found if found and self._sees(found) else None

    def replace(self, new: Record, previous: Record) -> Record:
        return self.store.replace(new, previous)

    def delete(self, record: Record) -> None:
        self.store.delete(record)

    def due(self, kind: str, before: datetime, *, limit: int) -> Sequence[Record]:
        return [found for found in self.store.due(kind, before, limit=limit) if self._sees(found)]

    def newest(self, kind: str, *, limit: int, below: Position | None = None, since: datetime | None = None) -> Newest:
        """Others' are passed over, and not made up for: who has few among many gets few, or none, and goes on below."""
        page = self.store.newest(kind, limit=limit, below=below, since=since)
        return page._replace(records=[found for found in page.records if self._sees(found)])

    def _sees(self, found: Record) -> bool:
        return found.kind != KIND or self.caller.sees(read(found))
