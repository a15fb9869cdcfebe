"""Do something for each of many tasks, side by side, such that what goes wrong with one is nothing to the others."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from core.errors import Conflict, TaskNotFound
from core.task import Task

log = logging.getLogger(__name__)


def moved(tasks: Sequence[Task], attend: Callable[[Task], Task | None], *, parallel: int) -> int:
    """How many of them moved. `attend` gives the task as it is then, None when its record is gone."""

    def has_moved(task: Task) -> bool:
        try:
            left = attend(task)
            return left is None or left.version != task.version
        except (Conflict, TaskNotFound):
            return True  # by somebody else
        except Exception:
            log.exception("not attended to", extra={"action": "sweep_failed", "task_id": task.task_id})
            return False

    with ThreadPoolExecutor(parallel, thread_name_prefix="sweep") as pool:
        return sum(pool.map(has_moved, tasks))
