"""The sweep of batches: sees that each goes on, whatever was lost on the way, and comes to an end.

What of a batch has a row is looked after as any task is; here it is about what has none, and about the whole. Any
number may run at once: rows are made where there is none yet, and records are written conditionally.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import islice, takewhile

from core import batch_record, each
from core.batch import Batch, Member
from core.batch_record import KIND
from core.batch_view import count
from core.batches import get_batch, read_manifest, replace_batch
from core.cancel_batch import cancel_members
from core.errors import BatchNotFound, ListGone, TaskExists
from core.ports import JobState, Record, Services
from core.stop import stop_batch
from core.submit import submit_batch

log = logging.getLogger(__name__)

MOST_ROWS = 200  # that a pass makes: each wants a worker of its own
PAUSE = timedelta(seconds=30)  # between two such passes
AGAIN_AFTER = timedelta(seconds=60)
KEPT_FOR = timedelta(days=1)  # at a time, where rows outlive the time of their batch
_EVER = datetime.max.replace(tzinfo=UTC)
_ALL = 2**31


class Step(Enum):
    SUBMIT = "submit"
    WAIT = "wait"  # its workers are there, or tasks with a row go on by themselves
    MAKE_ROWS = "make_rows"  # no worker will come: what has no row is handed over task by task
    CANCEL = "cancel"  # and some of it still lives
    FINISH = "finish"
    KEEP = "keep"  # its time is over, that of some of its tasks is not
    FORGET = "forget"


def decide(batch: Batch, *, job: JobState, members: Sequence[Member]) -> Step:
    """The next step for a batch that is due."""
    if batch.finished_at:
        return Step.KEEP if members else Step.FORGET
    lives = any(not member.status.ended for member in members)
    if batch.canceled_at:
        return Step.CANCEL if lives else Step.FINISH
    if len(members) == batch.count:
        return Step.WAIT if lives else Step.FINISH
    if batch.job_id is None:
        return Step.SUBMIT
    return Step.MAKE_ROWS if job is JobState.GONE else Step.WAIT


def sweep_batches(
    services: Services, *, now: datetime, limit: int = 20, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Attend to the batches that are due, the longest due first, at most `limit`; returns how many of them moved.

    Begins with no further batch once `stopped` says so: to one there may be hundreds of writes.
    """

    def has_moved(found: Record) -> bool:
        """Also one that cannot be read keeps us from no other."""
        return each.has_moved(
            found, lambda one: attend_batch(services, batch_record.read(one), now=now), batch_id=found.record_id
        )

    due = takewhile(lambda _: not stopped(), services.records.due(KIND, now, limit=limit))
    return sum(map(has_moved, due))


def look_after_batch(services: Services, batch_id: str, *, now: datetime) -> None:
    """Attend to one batch at once, due or not, of which the caller has heard something."""
    with suppress(BatchNotFound):
        batch = get_batch(services, batch_id)
        if not batch.finished_at:
            each.has_moved(batch, lambda one: attend_batch(services, one, now=now), batch_id=batch_id)


def reconcile_batches(services: Services, *, now: datetime) -> list[Batch]:
    """Set every batch going again at the start of a service whose workers are all gone."""
    found = (batch_record.read(one) for one in services.records.due(KIND, _EVER, limit=_ALL))
    alive = sorted((one for one in found if not (one.finished_at or one.canceled_at)), key=lambda one: one.created_at)
    return [submit_batch(services, batch, now=now) for batch in alive if _wants_workers(services, batch)]


def clear_lists(services: Services, batch_ids: Iterable[str]) -> None:
    """Delete the lists of batches that have no record: who was to write it died. Not while batches are registered."""
    for batch_id in batch_ids:
        if services.records.find(KIND, batch_id) is None:
            log.info("a list of no batch", extra={"action": "list_cleared", "batch_id": batch_id})
            services.objects.delete(services.batch_folder(batch_id))


def _wants_workers(services: Services, batch: Batch) -> bool:
    return len(services.store.members(batch.batch_id)) < batch.count


def attend_batch(services: Services, batch: Batch, *, now: datetime) -> Batch | None:
    """The batch after what could be done for it now; None when it is gone.

    Raises Conflict when somebody else moved it meanwhile, DispatchUnavailable and DispatchDelayed.
    """
    members = services.store.members(batch.batch_id)
    asked = batch.job_id and not batch.canceled_at and not batch.finished_at
    job = services.dispatcher.look_batch(batch).state if asked else JobState.GONE
    step = decide(batch, job=job, members=members)
    log.info("sweep", extra={"action": f"sweep_batch_{step.value}", "batch_id": batch.batch_id})
    if step is Step.SUBMIT:
        return submit_batch(services, batch, now=now)
    if step is Step.FORGET:
        _forget(services, batch)
        return None
    if step is Step.FINISH:
        counts = {status.value: number for status, number in count(batch, members).items()}
        return replace_batch(services, replace(batch, finished_at=now, counts=counts, dispatch_due_at=None), batch)
    if step is Step.MAKE_ROWS:
        known = {member.number for member in members}
        make_rows(services, batch, (number for number in range(batch.count) if number not in known), now=now)
        return replace_batch(services, replace(batch, dispatch_due_at=now + PAUSE), batch)
    if step is Step.CANCEL:
        stop_batch(services, batch)
        cancel_members(services, batch, now=now)
    after = KEPT_FOR if step is Step.KEEP else AGAIN_AFTER
    return replace_batch(services, replace(batch, dispatch_due_at=now + after), batch)


def make_rows(services: Services, batch: Batch, numbers: Iterable[int], *, now: datetime) -> None:
    """Have the tasks of these numbers, MOST_ROWS of them at most, handed over one by one; none of a batch whose list
    is gone, which may be put back, and until then can be looked at, and canceled."""
    try:
        manifest = read_manifest(services, batch)
    except ListGone as error:
        log.error(error.message, extra={"action": "list_gone", "batch_id": batch.batch_id})
        return
    for number in islice(numbers, MOST_ROWS):
        with suppress(TaskExists):
            services.store.create(replace(batch.task(number, manifest[number]), dispatch_due_at=now))


def _forget(services: Services, batch: Batch) -> None:
    """The record last: as long as it is there, somebody comes to delete the rest."""
    services.objects.delete(services.batch_folder(batch.batch_id))
    services.records.delete(batch_record.write(batch))
