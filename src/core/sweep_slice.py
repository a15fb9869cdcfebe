"""The end of a worker for a slice of a batch: what it has left goes on at once, not when all other workers have ended.

That it has ended is hearsay, so the dispatcher is asked. Tasks to which it never came get their rows, and are handed
over by the sweep; those that have rows are for the caller to look at. The batch as a whole is sweep_batches.py's.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from core.batch import Batch, slice_job, task_id
from core.batches import get_batch
from core.errors import BatchNotFound, DispatchDelayed
from core.ports import JobState, Services
from core.sweep_batches import look_after_batch, make_rows

log = logging.getLogger(__name__)


def sweep_slice(services: Services, batch_id: str, number: int | None, *, now: datetime) -> Sequence[str]:
    """The ids of the slice's tasks that had rows; of those of the whole batch for None, where it is of one slice.

    Raises DispatchUnavailable.
    """
    try:
        batch = get_batch(services, batch_id)
    except BatchNotFound:
        log.warning("a job of a batch that is not there", extra={"action": "slice_ignored", "batch_id": batch_id})
        return []
    if number is None:
        look_after_batch(services, batch_id, now=now)
    only = 0 if batch.slices == 1 else number
    if only is None or batch.finished_at:
        return []
    known = {member.number for member in services.store.members(batch_id)}
    wanted = batch.slice(only)
    missing = [index for index in wanted if index not in known]
    if missing and not batch.canceled_at and _is_gone(services, batch, only):
        log.info("slice left", extra={"action": "slice_left", "batch_id": batch_id, "tasks": len(missing)})
        make_rows(services, batch, missing, now=now)
    return [task_id(batch_id, index) for index in wanted if index in known]


def _is_gone(services: Services, batch: Batch, number: int) -> bool:
    """Of a batch that was just handed over, and whose job is not noted yet, nothing is known."""
    if batch.job_id is None:
        return False
    worker = replace(batch.template, job_id=slice_job(batch.job_id, number))
    with suppress(DispatchDelayed):  # the sweep will ask again
        return services.dispatcher.look([worker])[worker.task_id].state is JobState.GONE
    return False
