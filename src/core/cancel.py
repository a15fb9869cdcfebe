"""Cancel: call a task off.

The stored task decides: from the moment that it is canceled, no worker can publish anything for it. Only then the job
is stopped, best effort; a worker that nobody could tell learns it from its next heartbeat.
"""

from datetime import datetime

from core import moves
from core.find import change_task
from core.ports import Services
from core.stop import stop_job
from core.task import Task


def cancel(services: Services, task_id: str, *, now: datetime) -> Task:
    """The task, canceled. Raises TaskNotFound, and TaskEnded when something else was its end."""
    task = change_task(services, task_id, lambda task: moves.cancel(task, now=now))
    stop_job(services, task)
    return task
