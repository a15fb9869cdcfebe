"""A TaskStore that judges each write that succeeds by the invariants, and remembers who wrote."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import local

from core.batch import Member
from core.ports import Page, Position, Survey, TaskStore
from core.task import Status, Task
from support import invariants


class WatchedStore:
    def __init__(self, inner: TaskStore) -> None:
        self._inner = inner
        self._writer = local()
        self.written: dict[tuple[str, int], Task] = {}  # by id and version
        self.broken: list[invariants.Broken] = []  # also where whoever wrote carries on after an error

    @contextmanager
    def written_by(self, fence: int) -> Iterator[None]:
        """What this thread writes meanwhile is the work of the worker with this fence."""
        self._writer.fence = fence
        try:
            yield
        finally:
            self._writer.fence = None

    def create(self, task: Task) -> Task:
        invariants.state(task)
        stored = self._inner.create(task)
        self.written[stored.task_id, stored.version] = stored
        return stored

    def get(self, task_id: str) -> Task:
        return self._inner.get(task_id)

    def replace(self, new: Task, previous: Task) -> Task:
        stored = self._inner.replace(new, previous)
        self.written[stored.task_id, stored.version] = stored
        try:
            invariants.step(previous, stored, by=getattr(self._writer, "fence", None))
        except invariants.Broken as broken:
            self.broken.append(broken)
            raise
        return stored

    def due(self, before: datetime, *, limit: int, live: bool = True) -> Sequence[Task]:
        return self._inner.due(before, limit=limit, live=live)

    def members(self, batch_id: str) -> Sequence[Member]:
        return self._inner.members(batch_id)

    def count_live(self, key_name: str, *, most: int) -> int:
        return self._inner.count_live(key_name, most=most)

    def survey(self, *, ended_since: datetime, most: int) -> Survey:
        return self._inner.survey(ended_since=ended_since, most=most)

    def page(self, *, limit: int, below: Position | None = None, status: Status | None = None) -> Page:
        return self._inner.page(limit=limit, below=below, status=status)

    def forget(self, task: Task) -> None:
        self._inner.forget(task)

    def check(self) -> str:
        return self._inner.check()
