"""The reporter keeps a stored task true, and stops its worker when the task is no longer its own. On real SQLite."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core import moves
from core.local.task_store import SqliteTaskStore
from core.task import Progress, Stage, Status, Task, Timings
from core.worker.failed import Stopped
from core.worker.report import Reporter
from support.builders import a_task


class CountingStore(SqliteTaskStore):
    writes = 0

    def replace(self, new: Task, previous: Task) -> Task:
        self.writes += 1
        return super().replace(new, previous)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    with closing(CountingStore(tmp_path / "tasks.db")) as made:
        yield made


@pytest.fixture
def claimed(store: CountingStore) -> Task:
    stored = store.create(a_task())
    queued = store.replace(moves.execute(stored, now=now()), stored)
    task = store.replace(moves.claim(queued, now=now(), owner="w"), queued)
    store.writes = 0
    return task


def now() -> datetime:
    return datetime.now(UTC)


def reporter(store: CountingStore, task: Task, *, stop: threading.Event | None = None, every: float = 0.05) -> Reporter:
    return Reporter(store, task, stop=stop or threading.Event(), now=now, every_seconds=every)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_reporter_shows_the_command_that_was_made_and_the_last_word_has_it_too(
    store: CountingStore, claimed: Task
) -> None:
    with reporter(store, claimed) as reporting:
        reporting.made("-i in.mp4 made.mp4")
        eventually(lambda: store.get(claimed.task_id).command == "-i in.mp4 made.mp4")
    with reporter(store, store.get(claimed.task_id)) as reporting:
        reporting.made("-i in.mp4 again.mp4")
        reporting.settle(lambda task, timings: moves.release(task, now=now(), fence=reporting.fence))
    assert store.get(claimed.task_id).command == "-i in.mp4 again.mp4"


def test_reporter_writes_stage_and_progress(store: CountingStore, claimed: Task) -> None:
    with reporter(store, claimed) as reporting:
        reporting.enter(Stage.TRANSCODING)
        reporting.progressed(Progress(percent=40.0, frame=100))

        eventually(lambda: store.get(claimed.task_id).progress == Progress(percent=40.0, frame=100))
        task = store.get(claimed.task_id)
        assert (task.status, task.stage) == (Status.RUNNING, Stage.TRANSCODING)
        assert task.timings.download_seconds is not None


def test_reporter_writes_no_more_often_than_it_may(store: CountingStore, claimed: Task) -> None:
    began = time.monotonic()
    with reporter(store, claimed, every=0.3) as reporting:

        def some_were_written() -> bool:
            reporting.progressed(Progress(frame=store.writes))
            return store.writes >= 4

        eventually(some_were_written)

    assert time.monotonic() - began >= (store.writes - 1) * 0.3


def test_reporter_stops_the_worker_of_a_task_that_another_one_took(store: CountingStore, claimed: Task) -> None:
    stop = threading.Event()
    with reporter(store, claimed, stop=stop) as reporting:
        store.replace(moves.lose(claimed, now=now(), fence=1, gone=True), claimed)

        reporting.progressed(Progress(percent=1.0))

        assert stop.wait(30)
        with pytest.raises(Stopped):
            reporting.settle(lambda task, timings: moves.release(task, now=now(), fence=1))
    assert store.get(claimed.task_id).status is Status.QUEUED


def test_settle_writes_the_end_with_the_time_of_each_stage(store: CountingStore, claimed: Task) -> None:
    with reporter(store, claimed) as reporting:
        for stage in (Stage.TRANSCODING, Stage.UPLOADING):
            time.sleep(0.02)
            reporting.enter(stage)

        def done(task: Task, timings: Timings) -> Task:
            return moves.complete(task, now=now(), fence=1, outputs=(), output_count=0, timings=timings)

        task = reporting.settle(done)

    assert task == store.get(claimed.task_id)
    assert task.status is Status.COMPLETED
    assert task.timings.download_seconds >= 0.02  # type: ignore[operator]
    assert task.timings.transcode_seconds >= 0.02  # type: ignore[operator]
    assert task.timings.upload_seconds >= 0  # type: ignore[operator]


def test_settle_has_the_last_progress_though_it_came_a_moment_ago(store: CountingStore, claimed: Task) -> None:
    with reporter(store, claimed, every=60) as reporting:
        reporting.progressed(Progress(percent=40.0, frame=100, speed=2.0))
        eventually(lambda: store.get(claimed.task_id).progress.frame == 100)
        reporting.progressed(Progress(percent=99.9, frame=250, speed=1.5, eta_seconds=0.1))

        def done(task: Task, timings: Timings) -> Task:
            return moves.complete(task, now=now(), fence=1, outputs=(), output_count=0, timings=timings)

        task = reporting.settle(done)

    assert task.progress == Progress(percent=100.0, frame=250, speed=1.5, eta_seconds=0.0)


def test_settle_decides_anew_when_the_row_changed_under_it(store: CountingStore, claimed: Task) -> None:
    with reporter(store, claimed) as reporting:
        # given somebody else's harmless write
        store.replace(replace(claimed, correlation_id="other"), claimed)

        task = reporting.settle(lambda task, timings: moves.release(task, now=now(), fence=1))

    assert (task.status, task.correlation_id) == (Status.QUEUED, "other")


def test_settle_outlasts_a_store_that_is_away_for_a_while(store: CountingStore, claimed: Task, tmp_path: Path) -> None:
    class Away(CountingStore):
        absent = 2

        def replace(self, new: Task, previous: Task) -> Task:
            if self.absent:
                self.absent -= 1
                raise OSError("away")
            return super().replace(new, previous)

    with closing(Away(tmp_path / "tasks.db")) as away, reporter(away, claimed) as reporting:
        task = reporting.settle(lambda task, timings: moves.release(task, now=now(), fence=1))

    assert task.status is Status.QUEUED
