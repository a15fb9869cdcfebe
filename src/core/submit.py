"""Submit: hand a queued task, or a batch, to the dispatcher, and note that it was.

The step that execute and the sweep share. The task is stored as queued before anybody is asked for a worker, so that
whatever is lost on the way, the store still says that the task wants one.
"""

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from core import moves
from core.batch import Batch
from core.batches import get_batch, replace_batch
from core.errors import Conflict, DispatchDelayed, DispatchUnavailable
from core.ports import Services
from core.task import Task

log = logging.getLogger(__name__)

# Where nobody has to do anything but wait, the sweep hands the task over again after about so long.
AGAIN_AFTER = timedelta(seconds=20)


def submit(services: Services, task: Task, *, now: datetime, chance: Callable[[], float] = random.random) -> Task:
    """The task as it is after the hand-over, or still queued and due again when the dispatcher was too busy.

    Raises DispatchUnavailable, with the task queued and due again all the same.
    """
    delay = moves.backoff(1, first=AGAIN_AFTER, chance=chance())
    try:
        job_id = services.dispatcher.submit(task)
    except DispatchDelayed as error:
        log.warning("hand-over delayed", extra={"action": "submit_delayed", "task_id": task.task_id}, exc_info=error)
        return _noted(services, moves.unsubmitted(task, now=now, delay=delay, reason=error.message), task)
    except DispatchUnavailable as error:
        with suppress(Conflict):
            services.store.replace(moves.unsubmitted(task, now=now, delay=delay, reason=error.message), task)
        details = {"task_id": task.task_id, "retry_after_seconds": round(delay.total_seconds())}
        raise DispatchUnavailable(error.message, details=details) from error
    return _noted(services, moves.submitted(task, now=now, job_id=job_id), task)


def _noted(services: Services, new: Task, task: Task) -> Task:
    try:
        return services.store.replace(new, task)
    except Conflict:  # the worker was quicker than we were, which is fine
        return services.store.get(task.task_id)


def submit_batch(
    services: Services, batch: Batch, *, now: datetime, chance: Callable[[], float] = random.random
) -> Batch:
    """The batch as it is after the hand-over, or due again where the dispatcher did not take it."""
    try:
        job_id = services.dispatcher.submit_batch(batch)
    except (DispatchDelayed, DispatchUnavailable) as error:
        log.warning("not handed over", extra={"action": "submit_delayed", "batch_id": batch.batch_id}, exc_info=error)
        delay = moves.backoff(1, first=AGAIN_AFTER, chance=chance())
        new = replace(batch, job_id=None, dispatch_due_at=now + delay)
    else:
        new = replace(batch, job_id=job_id, dispatch_due_at=now + moves.QUEUE_PATIENCE)
    try:
        return replace_batch(services, new, batch)
    except Conflict:
        found = get_batch(services, batch.batch_id)
        if found.canceled_at:  # by somebody who could not know of this job
            with suppress(DispatchDelayed, DispatchUnavailable):
                services.dispatcher.stop_batch(new)
        return found
