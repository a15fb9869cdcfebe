"""A worker lets itself be seen while it works, and measures what it uses; nothing of it is in the task's way."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from core import workers
from core.errors import ServiceUnavailable
from core.local.record_store import SqliteRecordStore
from core.ports import Record
from core.worker import presence
from core.worker.usage import Meter
from core.workers import Gpu, Usage, Worker
from support.builders import NOW

SEEN = Usage(cpu_cores=1.0, memory_bytes=2)
US = Worker(task_id="task-1", fence=1, host="here", started_at=NOW, seen_at=NOW, usage=Usage())
WAIT = 60.0  # seconds; only a failing test waits that long


class Clock:
    """Goes by a second each time that it is looked at."""

    def __init__(self) -> None:
        self._now = NOW

    def __call__(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


class Records(SqliteRecordStore):
    """Cannot be written to while it is away."""

    away = False
    refused = 0

    def create(self, record: Record) -> Record:
        self._answer()
        return super().create(record)

    def replace(self, new: Record, previous: Record) -> Record:
        self._answer()
        return super().replace(new, previous)

    def delete(self, record: Record) -> None:
        self._answer()
        super().delete(record)

    def _answer(self) -> None:
        if self.away:
            self.refused += 1
            raise ServiceUnavailable


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with closing(Records(tmp_path / "tasks.db")) as store:
        yield store


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def seen(records: Records) -> list[Worker]:
    return [workers.from_record(record) for record in records.newest(workers.KIND, limit=9).records]


def test_a_worker_is_seen_again_and_again_until_its_end(records: Records) -> None:
    with presence.shown(records, US, measure=lambda: SEEN, now=Clock(), first_seconds=0, every_seconds=0.02):
        until(lambda: seen(records))
        assert replace(seen(records)[0], seen_at=NOW) == replace(US, usage=SEEN)
        until(lambda: seen(records)[0].seen_at > NOW + timedelta(seconds=3))
        assert len(seen(records)) == 1
    assert seen(records) == []
    assert "presence" not in {thread.name for thread in threading.enumerate()}


def test_a_task_of_a_moment_writes_nothing(records: Records) -> None:
    records.away = True
    with presence.shown(records, US, measure=lambda: SEEN, now=Clock(), first_seconds=60):
        pass
    assert records.refused == 0


def test_a_store_that_is_away_is_asked_again_and_is_in_nobodys_way(records: Records) -> None:
    with presence.shown(records, US, measure=lambda: SEEN, now=Clock(), first_seconds=0, every_seconds=0.01):
        records.away = True
        until(lambda: records.refused > 2)
        records.away = False
        until(lambda: seen(records))
        records.away = True
    assert len(seen(records)) == 1  # it goes stale


def test_what_was_swept_because_we_were_slow_is_there_again(records: Records) -> None:
    with presence.shown(records, US, measure=lambda: SEEN, now=Clock(), first_seconds=0, every_seconds=0.02):
        until(lambda: seen(records))
        workers.sweep(records, now=NOW + timedelta(days=1))
        until(lambda: seen(records))
    assert seen(records) == []


def test_what_cannot_be_measured_is_in_nobodys_way(records: Records) -> None:
    tries: list[int] = []

    def measure() -> Usage:
        tries.append(1)
        if len(tries) < 3:
            raise OSError
        return SEEN

    with presence.shown(records, US, measure=measure, now=Clock(), first_seconds=0, every_seconds=0.01):
        until(lambda: seen(records))


def test_what_is_measured_is_that_of_the_worker_and_of_all_below_it() -> None:
    meter = Meter(lambda: (Gpu(use_percent=5.0),))
    alone = meter.read()
    code = "x = bytearray(60_000_000)\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as busy:
        try:
            assert busy.stdout
            busy.stdout.readline()
            outside = Spent(busy.pid)
            meter.read()
            inside = Spent(busy.pid)
            until(lambda: inside.seconds() > 0.3)
            least = inside.seconds(), time.monotonic() - inside.began
            together = meter.read()
            most = outside.seconds(), time.monotonic() - outside.began
        finally:
            busy.kill()
    assert together.cpu_cores is not None
    # whatever a busy machine gives us, and however long we are held up between two looks at the clock
    assert (least[0] - TICKS) / most[1] - 0.01 <= together.cpu_cores <= (most[0] + TICKS) / least[1] + 0.01
    assert (together.memory_bytes or 0) > (alone.memory_bytes or 0) + 50_000_000
    assert together.gpus == (Gpu(use_percent=5.0),)
    assert Meter().read().gpus == ()


TICKS = 0.08  # seconds: the kernel counts in hundredths, for each process and kind of time


class Spent:
    """Processor time, of us and of a child, since it was made."""

    def __init__(self, child: int) -> None:
        self._processes = (psutil.Process(), psutil.Process(child))
        self.began = time.monotonic()
        self._before = self._all()

    def seconds(self) -> float:
        return self._all() - self._before

    def _all(self) -> float:
        return sum(sum(process.cpu_times()[:4]) for process in self._processes)
