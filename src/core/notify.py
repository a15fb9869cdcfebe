"""Notify: tell everybody once more that a task has ended; the sending itself is the aftermath's."""

from datetime import datetime

from core import moves
from core.change import change
from core.ports import TaskStore
from core.task import Task


def notify(store: TaskStore, task_id: str, *, now: datetime) -> Task:
    """The task, with all its notices due at once. Raises TaskNotFound, and TaskNotReady when it has not ended."""
    return change(store, task_id, lambda task: moves.notify(task, now=now))
