"""The load: how many tasks wait, run and have ended of late, who has waited for how long, and which workers there are.

`figures` is pure; `load` asks the stores, at a cost that is bounded however much is stored. What the machine itself is
busy with is asked by whoever runs on one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core import batch_record, workers
from core.ports import End, Services, Survey
from core.task import Status
from core.workers import Worker

MOST = 10_000  # so far each status is counted: by then nobody cares for the rest
MOST_BATCHES = 100  # that are looked at for tasks without a row; older ones have none as a rule
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What has ended within some time."""

    completed: int
    failed: int
    canceled: int
    mean_seconds: float | None  # of the completed ones, from execute to the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    counts: Mapping[Status, int]  # of pending, queued and running: as they are now, up to MOST
    oldest_queued_seconds: float | None  # for how long somebody has waited for a worker, at most
    last_minute: Ended
    last_hour: Ended
    workers: Sequence[Worker]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """How many workers there may be, how many there are, and how many tasks wait for one."""

    size: int
    running: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine, as a whole: other programs use it too."""

    cores: int
    load_average: float  # of the last minute
    memory_total_bytes: int
    memory_available_bytes: int
    disks: Mapping[str, Disk]  # by what is kept there: data, scratch
    pool: Pool


def load(services: Services, *, now: datetime) -> Load:
    survey = _with_batches(services, services.store.survey(ended_since=now - HOUR, most=MOST))
    return figures(survey, workers.seen(services.records, now=now), now=now)


def _with_batches(services: Services, survey: Survey) -> Survey:
    """The survey with the tasks of batches that wait without a row of their own."""
    newest = services.records.newest(batch_record.KIND, limit=MOST_BATCHES)
    found = (batch_record.read(record) for record in newest.records)
    waiting = {
        batch.created_at: batch.count - len(services.store.members(batch.batch_id))
        for batch in found
        if not (batch.finished_at or batch.canceled_at)
    }
    queued = survey.counts[Status.QUEUED] + sum(waiting.values())
    since = min(
        (at for at in (*(at for at, number in waiting.items() if number), survey.waiting_since) if at), default=None
    )
    return survey._replace(counts={**survey.counts, Status.QUEUED: min(queued, MOST)}, waiting_since=since)


def figures(survey: Survey, workers: Sequence[Worker], *, now: datetime) -> Load:
    since = survey.waiting_since
    return Load(
        counts=survey.counts,
        oldest_queued_seconds=max(0.0, (now - since).total_seconds()) if since else None,
        last_minute=_ended([end for end in survey.ends if now - end.finished_at < MINUTE]),
        last_hour=_ended(survey.ends),
        workers=workers,
    )


def _ended(ends: Sequence[End]) -> Ended:
    numbers = {status: sum(end.status is status for end in ends) for status in ENDED}
    took = [end.seconds for end in ends if end.status is Status.COMPLETED and end.seconds is not None]
    return Ended(
        completed=numbers[Status.COMPLETED],
        failed=numbers[Status.FAILED],
        canceled=numbers[Status.CANCELED],
        mean_seconds=round(sum(took) / len(took), 3) if took else None,
    )
