"""The workers as they last said of themselves: what task, on what machine, and how much of it they use.

It is for people to look at: nothing is decided by it, and the lease alone says whether a task has a worker. A worker
writes one record, again and again, and takes it away at its end; what it could not take away goes stale.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from core.errors import RecordChanged
from core.ports import Record, RecordStore

KIND = "worker"
BEAT = timedelta(seconds=20)
STALE = 3 * BEAT
MOST_SHOWN = 100
_SWEPT_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A card, as its driver measures it; None is what it does not tell."""

    use_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a worker and all that it has started use."""

    cpu_cores: float | None = None  # of processor time, seconds a second; None before there is anything to compare
    memory_bytes: int | None = None  # resident
    gpus: tuple[Gpu, ...] = ()  # the cards that it sees; other programs may use them too


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    task_id: str
    fence: int
    host: str
    started_at: datetime
    seen_at: datetime
    usage: Usage


def to_record(worker: Worker) -> Record:
    times = {"seen_at": worker.seen_at.isoformat()}
    return Record(
        kind=KIND,
        record_id=f"{worker.task_id}.{worker.fence}",
        body=json.dumps({"host": worker.host, **times, **asdict(worker.usage)}),
        created_at=worker.started_at,
        due_at=worker.seen_at + STALE,
    )


def from_record(record: Record) -> Worker:
    data = json.loads(record.body)
    task_id, _, fence = record.record_id.rpartition(".")
    return Worker(
        task_id=task_id,
        fence=int(fence),
        host=data["host"],
        started_at=record.created_at,
        seen_at=datetime.fromisoformat(data["seen_at"]),
        usage=Usage(
            cpu_cores=data["cpu_cores"],
            memory_bytes=data["memory_bytes"],
            gpus=tuple(Gpu(**card) for card in data["gpus"]),
        ),
    )


def seen(records: RecordStore, *, now: datetime) -> Sequence[Worker]:
    """Those that have been heard of lately, at most MOST_SHOWN, the newest first."""
    found = (from_record(record) for record in records.newest(KIND, limit=MOST_SHOWN).records)
    return [worker for worker in found if now - worker.seen_at < STALE]


def sweep(records: RecordStore, *, now: datetime) -> int:
    """Delete what workers that are gone have left; returns how many records."""
    stale = records.due(KIND, now, limit=_SWEPT_AT_ONCE)
    for record in stale:
        with suppress(RecordChanged):  # it was only slow
            records.delete(record)
    return len(stale)
