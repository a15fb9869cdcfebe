"""Notify: tell everybody once more that a task has ended; the sending itself is the aftermath's."""

from datetime import datetime

from core import moves
from core.find import change_task
from core.ports import Services
from core.task import Task


def notify(services: Services, task_id: str, *, now: datetime) -> Task:
    """The task, with all its notices due at once. Raises TaskNotFound, and TaskNotReady when it has not ended."""
    return change_task(services, task_id, lambda task: moves.notify(task, now=now))
