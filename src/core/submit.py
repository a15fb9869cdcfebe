"""Submit: hand a queued task to the dispatcher, and note that it was.

The step that execute and recover share. The task is stored as queued before anybody is asked for a worker, so that
whatever is lost on the way, the store still says that the task wants one.
"""

from contextlib import suppress
from datetime import datetime

from core import task as moves
from core.errors import Conflict, DispatchUnavailable
from core.ports import Services
from core.task import Task

RETRY_AFTER_SECONDS = 5


def submit(services: Services, task: Task, *, now: datetime) -> Task:
    """The task as it is after the hand-over. Raises DispatchUnavailable, with the task still stored as queued."""
    try:
        job_id = services.dispatcher.submit(task)
    except DispatchUnavailable as error:
        with suppress(Conflict):
            services.store.replace(moves.unsubmitted(task, now=now), task)
        details = {"task_id": task.task_id, "retry_after_seconds": RETRY_AFTER_SECONDS}
        raise DispatchUnavailable(error.message, details=details) from error
    try:
        return services.store.replace(moves.submitted(task, now=now, job_id=job_id), task)
    except Conflict:  # the worker was quicker than we were, which is fine
        return services.store.get(task.task_id)
