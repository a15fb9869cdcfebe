"""Execute: from registered to handed over.

First the task is stored as queued, then the dispatcher is asked: if we die between the two, the store knows that a
worker is wanted and until when it was ours to ask for one. The other way round, a worker could start for a task that
nobody may claim.
"""

from datetime import datetime

from core import moves
from core.change import ROUNDS
from core.errors import InternalError, TaskChanged
from core.find import find_task
from core.ports import Services
from core.submit import submit
from core.task import Status, Task


def execute(services: Services, task_id: str, *, now: datetime) -> Task:
    """The task, queued or already further. Done twice, nothing happens twice.

    Raises TaskNotFound, TaskEnded, and DispatchUnavailable when the task is queued but somebody has to mend something
    before it can have a worker.
    """
    for _ in range(ROUNDS):
        task = find_task(services, task_id)
        if _was_not_handed_over(task, now=now):
            return submit(services, task, now=now)
        if task.status in (Status.QUEUED, Status.RUNNING):
            return task
        try:
            queued = services.store.replace(moves.execute(task, now=now), task)
        except TaskChanged:
            continue
        return submit(services, queued, now=now)
    raise InternalError("The task changed too often to be executed.", details={"task_id": task_id})


def _was_not_handed_over(task: Task, *, now: datetime) -> bool:
    """Whether whoever should have done it did not. What became of a job that there was is for the sweep to ask."""
    due = task.dispatch_due_at is not None and task.dispatch_due_at <= now
    return task.status is Status.QUEUED and task.job_id is None and due
