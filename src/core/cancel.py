"""Cancel: call a task off.

The stored task decides: from the moment that it is canceled, no worker can publish anything for it. Only then the job
is stopped, best effort; a worker that nobody could tell learns it from its next heartbeat.
"""

import logging
from datetime import datetime

from core import moves
from core.change import change
from core.errors import DispatchDelayed, DispatchUnavailable
from core.ports import Services
from core.task import Task

log = logging.getLogger(__name__)


def cancel(services: Services, task_id: str, *, now: datetime) -> Task:
    """The task, canceled. Raises TaskNotFound, and TaskEnded when something else was its end."""
    task = change(services.store, task_id, lambda task: moves.cancel(task, now=now))
    if task.job_id:
        try:
            services.dispatcher.stop(task)
        except (DispatchDelayed, DispatchUnavailable) as error:
            log.warning("job not stopped", extra={"action": "stop", "task_id": task.task_id}, exc_info=error)
    return task
