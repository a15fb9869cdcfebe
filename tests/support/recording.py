"""A Dispatcher and a Channel that do nothing and remember what they were asked for, or refuse."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.batch import Batch
from core.errors import DispatchDelayed, DispatchUnavailable
from core.ports import JobState, NotDelivered, Sighting
from core.task import Task


@dataclass
class RecordingDispatcher:
    submitted: list[Task] = field(default_factory=list)
    stopped: list[Task] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    stopped_batches: list[Batch] = field(default_factory=list)
    asked: int = 0
    jobs: dict[str, Sighting] = field(default_factory=dict)  # by job id; all others are gone
    refusing: bool = False  # somebody has to mend something
    delaying: bool = False  # too many requests
    losing: bool = False  # it takes the task, and its answer is lost
    meanwhile: Callable[[Any], object] | None = None  # what happens elsewhere before submit, or submit_batch, returns

    def submit(self, task: Task) -> str:
        self._answer()
        self.submitted.append(task)
        if self.meanwhile:
            self.meanwhile(task)
        if self.losing:
            raise DispatchDelayed("No answer.")
        return f"job-{len(self.submitted)}"

    def look(self, tasks: Sequence[Task]) -> Mapping[str, Sighting]:
        self.asked += 1
        self._answer()
        return {task.task_id: self.jobs.get(task.job_id or "", Sighting(JobState.GONE)) for task in tasks}

    def stop(self, task: Task) -> None:
        self._answer()
        self.stopped.append(task)

    def submit_batch(self, batch: Batch) -> str:
        self._answer()
        self.batches.append(batch)
        if self.meanwhile:
            self.meanwhile(batch)
        if self.losing:
            raise DispatchDelayed("No answer.")
        return f"batch-job-{len(self.batches)}"

    def look_batch(self, batch: Batch) -> Sighting:
        self.asked += 1
        self._answer()
        return self.jobs.get(batch.job_id or "", Sighting(JobState.GONE))

    def stop_batch(self, batch: Batch) -> None:
        self._answer()
        self.stopped_batches.append(batch)

    def check(self) -> str:
        return f"{len(self.submitted)} submitted"

    def _answer(self) -> None:
        if self.refusing:
            raise DispatchUnavailable
        if self.delaying:
            raise DispatchDelayed("Too many requests.")


@dataclass
class RecordingChannel:
    delivered: list[Task] = field(default_factory=list)
    failure: Exception | None = None  # what becomes of the next ones, NotDelivered or a crash

    def deliver(self, task: Task) -> None:
        self.delivered.append(task)
        if self.failure:
            raise self.failure


REFUSED = NotDelivered("The receiver answered 500.")
REFUSED_FOR_GOOD = NotDelivered("The receiver answered 410.", final=True)
