"""Find a task, also one of a batch to which nobody has come yet: it has no row, and is made from its batch.

Whoever changes such a task gives it its row by that.
"""

from collections.abc import Callable

from core.batch import place_of
from core.batches import get_batch, read_files, without_row
from core.change import ROUNDS
from core.errors import BatchNotFound, InternalError, TaskChanged, TaskExists, TaskNotFound
from core.ports import Services
from core.task import Task


def find_task(services: Services, task_id: str) -> Task:
    """The task as it is now; in version 0 where it has no row. Raises TaskNotFound."""
    try:
        return services.store.get(task_id)
    except TaskNotFound:
        task = _of_batch(services, task_id)
        if task is None:
            raise
        return task


def change_task(services: Services, task_id: str, move: Callable[[Task], Task]) -> Task:
    """The task as moved and stored. Raises TaskNotFound, and what the move raises."""
    for _ in range(ROUNDS):
        task = find_task(services, task_id)
        moved = move(task)
        try:
            return services.store.replace(moved, task) if task.version else services.store.create(moved)
        except (TaskChanged, TaskExists):
            continue
    raise InternalError("The task changed too often.", details={"task_id": task_id})


def _of_batch(services: Services, task_id: str) -> Task | None:
    place = place_of(task_id)
    if place is None:
        return None
    batch_id, index = place
    try:
        batch = get_batch(services, batch_id)
    except BatchNotFound:
        return None
    if index >= batch.count or not batch.may_lack_rows:  # it had a row, whose time was over
        return None
    return without_row(batch, index, read_files(services, batch))
