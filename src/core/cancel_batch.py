"""Cancel a batch: call off all of its tasks that have not ended.

The record decides: from then on a task without a row is canceled by being of a canceled batch, and a worker that has
just given one its row looks at the record afterwards, and takes it back. So of rows that are made while we look, each
is either seen by us or undone by its maker; what lagging indexes hide from us is for the sweep.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from core import moves
from core.batch import Batch, task_id
from core.batch_view import count
from core.batches import change_batch, get_batch
from core.change import change
from core.errors import TaskEnded, TaskNotFound
from core.ports import Services
from core.stop import stop_batch, stop_job
from core.task import Status

# By then indexes show what there was.
LOOK_AGAIN_AFTER = timedelta(seconds=15)
PARALLEL = 8  # rows, of which there may be thousands


def cancel_batch(services: Services, batch_id: str, *, now: datetime) -> Batch:
    """The batch, canceled; done twice, nothing happens twice. Raises BatchNotFound, and TaskEnded when all of its
    tasks have ended."""
    if not get_batch(services, batch_id).canceled_at:
        batch = change_batch(services, batch_id, lambda batch: _canceled(services, batch, now=now))
    else:
        batch = get_batch(services, batch_id)
    if batch.finished_at:
        return batch
    stop_batch(services, batch)
    cancel_members(services, batch, now=now)
    return batch


def cancel_members(services: Services, batch: Batch, *, now: datetime) -> int:
    """Cancel the tasks that have a row and have not ended; returns how many there were."""
    members = services.store.members(batch.batch_id)
    live = [task_id(batch.batch_id, member.number) for member in members if not member.status.ended]

    def cancel_one(own_id: str) -> None:
        with suppress(TaskEnded, TaskNotFound):
            stop_job(services, change(services.store, own_id, lambda task: moves.cancel(task, now=now)))

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="cancel") as pool:
        each = [pool.submit(cancel_one, own_id) for own_id in live]
    for one in each:
        one.result()
    return len(live)


def _canceled(services: Services, batch: Batch, *, now: datetime) -> Batch:
    if batch.canceled_at:
        return batch
    counts = count(batch, services.store.members(batch.batch_id))
    if not (counts[Status.QUEUED] or counts[Status.RUNNING]):
        raise TaskEnded("The batch has ended; register a new one.", details={"batch_id": batch.batch_id})
    return replace(batch, canceled_at=now, dispatch_due_at=now + LOOK_AGAIN_AFTER)
