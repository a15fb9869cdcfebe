"""Recover: what becomes of a task whose worker process is gone, on one machine.

Here a worker's end is known for certain, so nobody has to wait for its lease. On AWS, where it is not, the lease and
the claim of the next worker do this.
"""

from contextlib import suppress
from datetime import UTC, datetime

from core import task as moves
from core.errors import Conflict, DispatchUnavailable, InternalError, TaskChanged, TaskNotFound
from core.ports import Services
from core.submit import submit
from core.task import Status, Task

_ROUNDS = 10
_EVER = datetime.max.replace(tzinfo=UTC)
_ALL = 2**31


def recover(services: Services, task_id: str, *, now: datetime) -> Task:
    """The task after its worker has ended: as that left it, or queued for another one, or failed when it was the last.

    Only for a task that has no living worker. Raises TaskNotFound, and DispatchUnavailable with the task queued.
    """
    task = _without_worker(services, task_id, now=now)
    if task.status is Status.QUEUED and task.job_id is None:
        return submit(services, task, now=now)
    return task


def recover_all(services: Services, *, now: datetime) -> list[Task]:
    """Set everything going again at the start of a service, when no worker lives: queued tasks, and lost ones.

    They are submitted in the order in which they were executed.
    """
    found = services.store.due(_EVER, limit=_ALL)
    tasks = [_without_worker(services, task.task_id, now=now) for task in found]
    queued = [task for task in tasks if task.status is Status.QUEUED]
    return [submit(services, task, now=now) for task in sorted(queued, key=lambda task: task.queued_at or now)]


def recover_due(services: Services, *, now: datetime, limit: int = 100) -> None:
    """T10: hand over again what was due to move and did not; at most `limit` tasks, the longest due first."""
    for task in services.store.due(now, limit=limit):
        with suppress(Conflict, TaskNotFound, DispatchUnavailable):  # it moved after all, or stays due
            _hand_over_again(services, task, now=now)


def _hand_over_again(services: Services, task: Task, *, now: datetime) -> None:
    if task.status is Status.RUNNING:
        task = services.store.replace(moves.lose(task, now=now, fence=task.fence), task)
    if task.status is Status.QUEUED:
        submit(services, task, now=now)


def _without_worker(services: Services, task_id: str, *, now: datetime) -> Task:
    for _ in range(_ROUNDS):
        task = services.store.get(task_id)
        try:
            return _settled(services, task, now=now)
        except TaskChanged:
            continue
    raise InternalError("The task changed too often to be recovered.", details={"task_id": task_id})


def _settled(services: Services, task: Task, *, now: datetime) -> Task:
    if task.status is Status.RUNNING:
        return services.store.replace(moves.lose(task, now=now, fence=task.fence), task)
    if task.status is Status.QUEUED and task.job_id is not None:
        # A worker that ended without claiming would do so again at once: leave the task to whoever looks next.
        return services.store.replace(moves.unsubmitted(task, now=now), task)
    return task
