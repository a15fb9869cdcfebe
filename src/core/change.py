"""Read, move, write; and again from the start when somebody else was faster."""

from collections.abc import Callable

from core.errors import InternalError, TaskChanged
from core.ports import TaskStore
from core.task import Task

# Each lost round means that somebody else moved the task on. It has few moves, and a worker's reports are seconds
# apart.
ROUNDS = 10


def change(store: TaskStore, task_id: str, move: Callable[[Task], Task]) -> Task:
    """The task as moved and stored. Raises TaskNotFound, and what the move raises."""
    for _ in range(ROUNDS):
        task = store.get(task_id)
        try:
            return store.replace(move(task), task)
        except TaskChanged:
            continue
    raise InternalError("The task changed too often.", details={"task_id": task_id})
