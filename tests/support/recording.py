"""A Dispatcher that starts nothing and remembers what it was asked for, or refuses."""

from collections.abc import Callable
from dataclasses import dataclass, field

from core.errors import DispatchUnavailable
from core.task import Task


@dataclass
class RecordingDispatcher:
    submitted: list[Task] = field(default_factory=list)
    refusing: bool = False
    meanwhile: Callable[[Task], object] | None = None  # what happens elsewhere before submit returns

    def submit(self, task: Task) -> str:
        if self.refusing:
            raise DispatchUnavailable
        self.submitted.append(task)
        if self.meanwhile:
            self.meanwhile(task)
        return f"job-{len(self.submitted)}"

    def check(self) -> str:
        return f"{len(self.submitted)} submitted"
