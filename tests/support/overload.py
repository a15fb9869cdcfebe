"""A dispatcher and a store that are asked for more than they can do: they refuse now and then, and count it.

Both are the twins that other tests use, with a refusal in front; what they refuse, and when, is the test's to say.
"""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from core.batch import Member
from core.errors import DispatchDelayed, ServiceError
from core.ports import JobState, Page, Position, Sighting, Survey, TaskStore
from core.task import Status, Task
from support.recording import RecordingDispatcher


def every(number: int) -> Callable[[], bool]:
    """True on every `number`th call, from whatever thread."""
    calls = itertools.count(1)
    return lambda: next(calls) % number == 0


@dataclass
class BusyDispatcher(RecordingDispatcher):
    """Takes no task while `busy`, and has every job that it took still before it."""

    busy: Callable[[], bool] = lambda: True
    refused: int = 0

    def submit(self, task: Task) -> str:
        if self.busy():
            self.refused += 1
            raise DispatchDelayed
        return super().submit(task)

    def look(self, tasks: Sequence[Task]) -> Mapping[str, Sighting]:
        taken = {task.task_id for task in self.submitted}
        known = {True: Sighting(JobState.COMING), False: Sighting(JobState.GONE)}
        return {task.task_id: known[task.task_id in taken] for task in tasks}


@dataclass
class BusyStore:
    """A TaskStore in front of another one. `refusal` gives what a call raises instead of being made, if anything;
    `deafness` what it raises although it was made, as when the answer is lost."""

    inner: TaskStore
    refusal: Callable[[], ServiceError | None] = lambda: None
    deafness: Callable[[], ServiceError | None] = lambda: None
    refused: Counter[str] = field(default_factory=Counter)  # by call, or as `answer lost`
    unnoted: Counter[str] = field(default_factory=Counter)  # by task id: hand-overs that could not be noted
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, task: Task) -> Task:
        self._refuse("create")
        return self._heard(self.inner.create(task))

    def get(self, task_id: str) -> Task:
        self._refuse("get")
        return self.inner.get(task_id)

    def replace(self, new: Task, previous: Task) -> Task:
        try:
            self._refuse("replace")
        except ServiceError:
            if new.job_id and not previous.job_id:
                self._count(self.unnoted, new.task_id)
            raise
        return self._heard(self.inner.replace(new, previous))

    def due(self, before: datetime, *, limit: int, live: bool = True) -> Sequence[Task]:
        return self.inner.due(before, limit=limit, live=live)

    def members(self, batch_id: str) -> Sequence[Member]:
        return self.inner.members(batch_id)

    def count_live(self, key_name: str, *, most: int) -> int:
        return self.inner.count_live(key_name, most=most)

    def survey(self, *, ended_since: datetime, most: int) -> Survey:
        return self.inner.survey(ended_since=ended_since, most=most)

    def page(self, *, limit: int, below: Position | None = None, status: Status | None = None) -> Page:
        return self.inner.page(limit=limit, below=below, status=status)

    def forget(self, task: Task) -> None:
        self.inner.forget(task)

    def check(self) -> str:
        return self.inner.check()

    def _refuse(self, call: str) -> None:
        if error := self.refusal():
            self._count(self.refused, call)
            raise error

    def _heard(self, task: Task) -> Task:
        if error := self.deafness():
            self._count(self.refused, "answer lost")
            raise error
        return task

    def _count(self, counter: Counter[str], name: str) -> None:
        with self._lock:
            counter[name] += 1
