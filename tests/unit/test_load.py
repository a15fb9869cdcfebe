"""The figures of the load, and the workers as they are seen."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from core import workers
from core.load import Ended, Load, figures
from core.local.record_store import SqliteRecordStore
from core.ports import End, Survey
from core.task import Status
from core.workers import BEAT, STALE, Gpu, Usage, Worker
from support.builders import NOW

SECOND = timedelta(seconds=1)
COUNTS = {Status.PENDING: 1, Status.QUEUED: 2, Status.RUNNING: 3}


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqliteRecordStore]:
    with closing(SqliteRecordStore(tmp_path / "tasks.db")) as store:
        yield store


def a_worker(task_id: str = "task-1", *, seen: timedelta = timedelta(0)) -> Worker:
    card = Gpu(use_percent=None, memory_used_bytes=5, memory_total_bytes=10)
    usage = Usage(cpu_cores=1.25, memory_bytes=1000, gpus=(card, Gpu()))
    return Worker(task_id=task_id, fence=2, host="host", started_at=NOW, seen_at=NOW + seen, usage=usage)


def test_figures_of_nothing_are_none() -> None:
    none = Ended(completed=0, failed=0, canceled=0, mean_seconds=None)
    assert figures(Survey(COUNTS, [], None), [], now=NOW) == Load(
        counts=COUNTS, oldest_queued_seconds=None, last_minute=none, last_hour=none, workers=[]
    )


def test_figures_tell_the_last_minute_from_the_last_hour() -> None:
    ends = [
        End(Status.COMPLETED, NOW - 10 * SECOND, 4.0),
        End(Status.COMPLETED, NOW - 59 * SECOND, 5.0),
        End(Status.COMPLETED, NOW - 60 * SECOND, 12.0),
        End(Status.FAILED, NOW - 1 * SECOND, 1000.0),
        End(Status.CANCELED, NOW - 600 * SECOND, None),
    ]

    found = figures(Survey(COUNTS, ends, NOW - 41.5 * SECOND), [a_worker()], now=NOW)

    assert found == Load(
        counts=COUNTS,
        oldest_queued_seconds=41.5,
        last_minute=Ended(completed=2, failed=1, canceled=0, mean_seconds=4.5),
        last_hour=Ended(completed=3, failed=1, canceled=1, mean_seconds=7.0),
        workers=[a_worker()],
    )


def test_a_clock_that_is_behind_makes_no_wait_negative() -> None:
    assert figures(Survey(COUNTS, [], NOW + SECOND), [], now=NOW).oldest_queued_seconds == 0


def test_a_worker_is_read_as_it_was_written() -> None:
    assert workers.from_record(workers.to_record(a_worker())) == a_worker()


def test_workers_are_seen_until_they_are_stale(records: SqliteRecordStore) -> None:
    records.create(workers.to_record(a_worker("early")))
    records.create(workers.to_record(a_worker("late", seen=BEAT)))

    def seen(at: timedelta) -> list[str]:
        return sorted(worker.task_id for worker in workers.seen(records, now=NOW + at))

    assert seen(STALE - SECOND) == ["early", "late"]
    assert seen(STALE) == ["late"]
    assert seen(STALE + BEAT) == []


def test_the_sweep_takes_away_who_is_stale_and_nobody_else(records: SqliteRecordStore) -> None:
    records.create(workers.to_record(a_worker("early")))
    records.create(workers.to_record(a_worker("late", seen=BEAT)))

    assert workers.sweep(records, now=NOW + STALE - SECOND) == 0
    assert workers.sweep(records, now=NOW + STALE) == 1
    assert [record.record_id for record in records.newest(workers.KIND, limit=9).records] == ["late.2"]
