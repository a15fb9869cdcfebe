"""Delete: take away all that is stored for an ended task; the record stays, and says when.

The record is written first. If we die before the rest is done, or a worker still stores something, the sweep finds by
the record that there is something to clear away; the other way round, the task would show outputs that are gone.
"""

from datetime import datetime

from core import moves
from core.find import change_task
from core.ports import Services


def delete(services: Services, task_id: str, *, now: datetime) -> None:
    """Done twice, it deletes what came meanwhile. Raises TaskNotFound, and TaskNotReady when it has not ended."""
    task = change_task(services, task_id, lambda task: moves.delete(task, now=now))
    services.clear(task)
