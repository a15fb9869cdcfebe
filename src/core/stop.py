"""Stop the job of a task or batch that was canceled: best effort, for who is not told learns it from the store."""

import logging

from core.batch import Batch, has_own_job
from core.errors import DispatchDelayed, DispatchUnavailable
from core.ports import Services
from core.task import Task

log = logging.getLogger(__name__)


def stop_job(services: Services, task: Task) -> None:
    """That of a slice goes on: others are in it, too."""
    if not has_own_job(task):
        return
    try:
        services.dispatcher.stop(task)
    except (DispatchDelayed, DispatchUnavailable) as error:
        log.warning("job not stopped", extra={"action": "stop", "task_id": task.task_id}, exc_info=error)


def stop_batch(services: Services, batch: Batch) -> None:
    """All of its workers."""
    if batch.job_id is None:
        return
    try:
        services.dispatcher.stop_batch(batch)
    except (DispatchDelayed, DispatchUnavailable) as error:
        log.warning("batch not stopped", extra={"action": "stop", "batch_id": batch.batch_id}, exc_info=error)
