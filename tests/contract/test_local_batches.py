"""What one machine's pool and store have for batches; that of AWS is in test_aws_batches.py."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from core import moves
from core.batch import Batch, Member, batch_id_of, task_id
from core.errors import DispatchUnavailable
from core.local.dispatcher import LocalDispatcher
from core.local.task_store import MEMBERS, SqliteTaskStore
from core.ports import JobState
from core.task import Failure, FailureCode, Progress, Stage, Status, Timings
from support.builders import NOW, a_task
from support.leftovers import seconds_until

WAIT = 60.0
# A worker that says that it is there, and ends when it is told to by a file beside.
WORKER = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
name = os.environ.get("TASK_ID") or os.environ["BATCH_ID"][:8] + "-" + os.environ["SLICE"]
count = len(list(folder.glob(f"began.{name}.*")))
(folder / f"began.{name}.{count}").touch()
while True:
    for end in (folder / f"end.{name}", folder / "end"):
        if end.exists():
            sys.exit(int(end.read_text() or 0))
    time.sleep(0.01)
"""


def a_batch(count: int = 3, **changes: object) -> Batch:
    batch = Batch(
        batch_id=batch_id_of(str(uuid4())),
        template=a_task(),
        count=count,
        per_slice=1,
        created_at=NOW,
        correlation_id="corr-1",
    )
    return replace(batch, **changes)  # type: ignore[arg-type]


@contextmanager
def a_pool(
    folder: Path, *, workers: int = 2, on_batch_exit: Callable[[str], object] = lambda batch_id: None
) -> Iterator[LocalDispatcher]:
    pool = LocalDispatcher(
        command=(sys.executable, "-S", "-c", WORKER, str(folder)),
        env={},
        max_concurrent=workers,
        on_exit=lambda task_id, code: None,
        on_batch_exit=on_batch_exit,
        grace_seconds=5,
    )
    with closing(pool):
        pool.start()
        yield pool


def began(folder: Path) -> Counter[str]:
    return Counter(path.name.split(".")[1] for path in folder.glob("began.*"))


def until(condition: Callable[[], object]) -> None:
    seconds_until(condition, most=WAIT)


def test_each_slice_has_a_worker_and_the_batch_its_end(tmp_path: Path) -> None:
    over: list[str] = []
    batch, short = a_batch(3), ""
    short = batch.batch_id[:8]
    with a_pool(tmp_path, on_batch_exit=over.append) as pool:
        job_id = pool.submit_batch(batch)
        assert pool.submit_batch(batch) == job_id  # which is no other one
        until(lambda: len(began(tmp_path)) == 2)
        assert pool.look_batch(batch).state is JobState.RUNNING

        (tmp_path / "end").touch()

        until(lambda: over)
        assert pool.look_batch(batch).state is JobState.GONE
        assert began(tmp_path) == {f"{short}-{number}": 1 for number in range(3)}
    assert over == [batch.batch_id]


def test_a_slice_that_ends_with_trouble_is_started_again_and_not_for_ever(tmp_path: Path) -> None:
    over: list[str] = []
    batch = a_batch(2)
    first, second = (f"{batch.batch_id[:8]}-{number}" for number in range(2))
    (tmp_path / f"end.{first}").write_text("75")
    (tmp_path / f"end.{second}").write_text("78")  # which no other worker would do better
    with a_pool(tmp_path, on_batch_exit=over.append) as pool:
        pool.submit_batch(batch)
        until(lambda: over)
    assert began(tmp_path) == {first: 3, second: 1}


def test_a_batch_has_no_more_workers_than_it_wants(tmp_path: Path) -> None:
    batch = a_batch(3, concurrency=1)
    with a_pool(tmp_path, workers=3) as pool:
        pool.submit_batch(batch)
        until(lambda: began(tmp_path))
        assert pool.check() == "3 workers, 1 running, 2 waiting"
        pool.submit(a_task())
        until(lambda: len(began(tmp_path)) == 2)
        assert pool.check() == "3 workers, 2 running, 2 waiting"


def test_a_task_goes_before_a_batch_that_has_a_worker(tmp_path: Path) -> None:
    batch, late, task = a_batch(4), a_batch(1), a_task()
    short = batch.batch_id[:8]
    with a_pool(tmp_path) as pool:
        pool.submit_batch(batch)
        until(lambda: len(began(tmp_path)) == 2)
        pool.submit(task)
        pool.submit_batch(late)

        (tmp_path / f"end.{short}-0").touch()
        until(lambda: len(began(tmp_path)) == 3)
        assert task.task_id in began(tmp_path)

        # and each batch has its first worker before another has its second
        (tmp_path / f"end.{task.task_id}").touch()
        until(lambda: len(began(tmp_path)) == 4)
        assert f"{late.batch_id[:8]}-0" in began(tmp_path)


def test_a_stopped_batch_is_told_to_end_and_not_started_again(tmp_path: Path) -> None:
    over: list[str] = []
    batch, other = a_batch(5), a_batch(1)
    with a_pool(tmp_path, on_batch_exit=over.append) as pool:
        pool.submit_batch(batch)
        until(lambda: len(began(tmp_path)) == 2)
        pool.submit_batch(other)

        pool.stop_batch(batch)

        until(lambda: began(tmp_path)[f"{other.batch_id[:8]}-0"])
        until(lambda: over == [batch.batch_id])
        assert pool.look_batch(batch).state is JobState.GONE
        assert len(began(tmp_path)) == 3


def test_a_task_of_a_slice_is_seen_by_its_job_and_not_stopped_with_it(tmp_path: Path) -> None:
    batch = a_batch(3)
    with a_pool(tmp_path, workers=1) as pool:
        job_id = pool.submit_batch(batch)
        until(lambda: began(tmp_path))
        tasks = [a_task(task_id=task_id(batch.batch_id, number), job_id=f"{job_id}:{number}") for number in range(3)]
        states = [sight.state for sight in pool.look(tasks).values()]
        assert states == [JobState.RUNNING, JobState.COMING, JobState.COMING]
        pool.stop(tasks[0])
        pool.stop(tasks[1])
        assert pool.check() == "1 workers, 1 running, 2 waiting"


def test_a_pool_that_closes_takes_no_batch(tmp_path: Path) -> None:
    with a_pool(tmp_path) as pool:
        pool.close()
        with pytest.raises(DispatchUnavailable):
            pool.submit_batch(a_batch())


def test_members_are_what_the_rows_of_a_batch_say(tmp_path: Path) -> None:
    batch_id, other = batch_id_of(str(uuid4())), batch_id_of(str(uuid4()))
    with closing(SqliteTaskStore(tmp_path / "tasks.db")) as store:

        def claimed(number: int, batch_id: str) -> str:
            task = a_task(task_id=task_id(batch_id, number), batch_id=batch_id, status=Status.QUEUED)
            return store.create(moves.claim(task, now=NOW, owner="w")).task_id

        store.create(a_task())
        claimed(0, other)
        half = store.get(claimed(2, batch_id))
        progress = Progress(percent=50.0)
        store.replace(
            moves.report(half, now=NOW, fence=1, stage=Stage.TRANSCODING, progress=progress, timings=Timings()), half
        )
        failed = store.get(claimed(1, batch_id))
        error = Failure.of(FailureCode.MEDIA_INVALID, "The input is empty.")
        end = moves.fail(failed, now=NOW, fence=1, error=error, timings=Timings(), retry_after=timedelta(0))
        store.replace(end, failed)

        assert sorted(store.members(batch_id)) == [
            Member(1, Status.FAILED, NOW, None, "The input is empty."),
            Member(2, Status.RUNNING, None, 50.0, None),
        ]
        assert store.members(batch_id_of(str(uuid4()))) == []
        with store._database.connection() as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {MEMBERS}", (batch_id,)).fetchall()
        assert "USING INDEX tasks_by_batch" in str(plan)
