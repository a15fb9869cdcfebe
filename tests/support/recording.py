"""A Dispatcher that starts nothing and remembers what it was asked for, or refuses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from core.errors import DispatchUnavailable
from core.ports import JobState, Sighting
from core.task import Task


@dataclass
class RecordingDispatcher:
    submitted: list[Task] = field(default_factory=list)
    stopped: list[Task] = field(default_factory=list)
    jobs: dict[str, Sighting] = field(default_factory=dict)  # by job id; all others are gone
    refusing: bool = False
    meanwhile: Callable[[Task], object] | None = None  # what happens elsewhere before submit returns

    def submit(self, task: Task) -> str:
        if self.refusing:
            raise DispatchUnavailable
        self.submitted.append(task)
        if self.meanwhile:
            self.meanwhile(task)
        return f"job-{len(self.submitted)}"

    def look(self, tasks: Sequence[Task]) -> Mapping[str, Sighting]:
        if self.refusing:
            raise DispatchUnavailable
        return {task.task_id: self.jobs.get(task.job_id or "", Sighting(JobState.GONE)) for task in tasks}

    def stop(self, task: Task) -> None:
        if self.refusing:
            raise DispatchUnavailable
        self.stopped.append(task)

    def check(self) -> str:
        return f"{len(self.submitted)} submitted"
