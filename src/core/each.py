"""Attend to one of many tasks or batches, such that what goes wrong with it is nothing to the others."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from core.errors import Conflict, NotFound
from core.task import Task

log = logging.getLogger(__name__)


class Versioned(Protocol):
    @property
    def version(self) -> int: ...


T = TypeVar("T", bound=Versioned)


def has_moved(thing: T, attend: Callable[[T], Versioned | None], **named: str) -> bool:
    """Whether it moved. `attend` gives it as it is then, None when its record is gone; `named` is for the log."""
    try:
        left = attend(thing)
        return left is None or left.version != thing.version
    except (Conflict, NotFound):
        return True  # by somebody else
    except Exception:
        log.exception("not attended to", extra={"action": "sweep_failed", **named})
        return False


def moved(tasks: Sequence[Task], attend: Callable[[Task], Task | None], *, parallel: int) -> int:
    """How many of them moved, attended to side by side."""

    def one_has(task: Task) -> bool:
        return has_moved(task, attend, task_id=task.task_id)

    with ThreadPoolExecutor(parallel, thread_name_prefix="sweep") as pool:
        return sum(pool.map(one_has, tasks))
