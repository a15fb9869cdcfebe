"""Two at once, in every order in which their calls to the store and the dispatcher can come, on both twins.

The actors are the real verbs in real threads. Each race says how many orders there are, so that none gets lost.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from core import moves
from core.cancel import cancel
from core.change import change
from core.errors import TaskChanged, TaskEnded, TaskNotReady
from core.execute import execute
from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.moves import LEASE
from core.ports import Services, TaskStore
from core.register import Registered, Registration, register
from core.settings import Settings
from core.submit import submit
from core.sweep import attend, look_after
from core.task import Ending, Progress, Stage, Status, Task, Timings
from core.worker.failed import Stopped
from core.worker.report import Reporter
from support.builders import NOW, a_task, an_output, task_in
from support.recording import RecordingDispatcher
from support.schedules import Gated, Turns, every_schedule
from support.watched import WatchedStore

WANTED = Registration(
    command="-i in.mp4 out.mp4", input_files={"in.mp4": "https://media.example/in.mp4"}, output_files=("out.mp4",)
)


class Race:
    """One schedule: a task in the store, and services whose calls wait for their turn."""

    def __init__(self, store: TaskStore, turns: Turns, folder: Path, task: Task | None = None) -> None:
        self.inner = WatchedStore(store)
        self.dispatcher = RecordingDispatcher()
        self.task = self.inner.create(task or a_task())
        self.turns = turns
        self.store: Any = Gated(self.inner, turns)
        objects = FolderObjectStore(folder, base_url="http://127.0.0.1:1", secret=b"secret")
        records = SqliteRecordStore(folder / "tasks.db")
        dispatcher = Gated(self.dispatcher, turns)
        self.services = Services(store=self.store, records=records, objects=objects, dispatcher=dispatcher)

    @property
    def id(self) -> str:
        return self.task.task_id

    def run(self, *actors: Callable[[], object]) -> list[Any]:
        results = self.turns.run(actors)
        assert self.inner.broken == []
        return results

    def left(self) -> Task:
        left = self.inner.get(self.id)
        self.inner.forget(left)
        return left


def held(job_id: str | None = None) -> Task:
    return moves.claim(task_in(Status.QUEUED), now=NOW, owner="w", job_id=job_id)


def settling(race: Race) -> Task:
    """The last word of the worker that holds the task."""
    reporter = Reporter(race.store, race.task, stop=threading.Event(), now=lambda: NOW, every_seconds=1)
    outputs = (an_output(race.id),)
    return reporter.settle(
        lambda task, timings: moves.complete(task, now=NOW, fence=1, outputs=outputs, output_count=1, timings=Timings())
    )


def claiming(race: Race, now: timedelta, job_id: str) -> Task:
    return change(race.store, race.id, lambda task: moves.claim(task, now=NOW + now, owner=job_id, job_id=job_id))


def test_register_and_register_with_one_key(store: TaskStore, tmp_path: Path) -> None:
    def race(turns: Turns) -> None:
        here, key = Race(store, turns, tmp_path), str(uuid4())

        def registering(task_id: str) -> Registered:
            return register(
                here.store, WANTED, settings=Settings(), task_id=task_id, correlation_id=task_id, now=NOW,
                idempotency_key=key,
            )  # fmt: skip

        first, second = here.run(lambda: registering("a"), lambda: registering("b"))
        assert first.task == second.task
        assert sorted([first.again, second.again]) == [False, True]

    assert every_schedule(race) == 6


def test_execute_and_execute(store: TaskStore, tmp_path: Path) -> None:
    def race(turns: Turns) -> None:
        here = Race(store, turns, tmp_path)
        results = here.run(*[lambda: execute(here.services, here.id, now=NOW)] * 2)
        assert [result.status for result in results] == [Status.QUEUED] * 2
        assert len(here.dispatcher.submitted) == 1
        assert here.left().job_id == "job-1"

    assert every_schedule(race) == 30


def test_cancel_and_complete(store: TaskStore, tmp_path: Path) -> None:
    ends: set[Status] = set()

    def race(turns: Turns) -> None:
        here = Race(store, turns, tmp_path, held())
        canceled, completed = here.run(lambda: cancel(here.services, here.id, now=NOW), lambda: settling(here))
        left = here.left()
        ends.add(left.status)
        if left.status is Status.CANCELED:
            assert (canceled, type(completed), left.outputs) == (left, Stopped, ())
        else:
            assert (type(canceled), completed, len(left.outputs)) == (TaskEnded, left, 1)

    assert every_schedule(race) == 3
    assert ends == {Status.CANCELED, Status.COMPLETED}


def test_claim_and_claim(store: TaskStore, tmp_path: Path) -> None:
    winners: set[str | None] = set()

    def race(turns: Turns) -> None:
        here = Race(store, turns, tmp_path, task_in(Status.QUEUED))
        results = here.run(*[lambda job=job: claiming(here, timedelta(0), job) for job in ("job-1", "job-2")])
        left = here.left()
        winners.add(left.owner)
        assert (left.status, left.fence, len(left.attempts)) == (Status.RUNNING, 1, 1)
        assert sorted(type(result).__name__ for result in results) == ["Task", TaskNotReady.__name__]

    assert every_schedule(race) == 6
    assert winners == {"job-1", "job-2"}


def test_claim_and_claim_of_a_task_whose_worker_is_lost(store: TaskStore, tmp_path: Path) -> None:
    def race(turns: Turns) -> None:
        here = Race(store, turns, tmp_path, held())
        here.run(*[lambda job=job: claiming(here, LEASE, job) for job in ("job-1", "job-2")])
        left = here.left()
        assert (left.fence, [attempt.ending for attempt in left.attempts]) == (2, [Ending.LOST, None])

    assert every_schedule(race) == 6


def test_sweep_and_sweep(store: TaskStore, tmp_path: Path) -> None:
    """Each attends to what it has read before; one of them moves the task on."""
    jobs: set[int] = set()

    def race(turns: Turns) -> None:
        here = Race(store, turns, tmp_path, held())
        results = here.run(*[lambda: attend(here.services, here.task, now=NOW + LEASE)] * 2)
        left = here.left()
        jobs.add(len(here.dispatcher.submitted))
        assert (left.status, left.fence, left.job_id) == (Status.QUEUED, 1, "job-1")
        assert [type(result) for result in results].count(TaskChanged) == 1

    assert every_schedule(race) == 6
    assert jobs == {1}


def test_sweep_and_execute_of_a_hand_over_that_was_lost(store: TaskStore, tmp_path: Path) -> None:
    """Both may ask for a worker: two jobs do no harm, and the task knows one of them."""
    jobs: set[int] = set()

    def race(turns: Turns) -> None:
        here = Race(store, turns, tmp_path, task_in(Status.QUEUED))
        due = NOW + timedelta(minutes=1)
        here.run(lambda: look_after(here.services, here.id, now=due), lambda: execute(here.services, here.id, now=due))
        left = here.left()
        jobs.add(len(here.dispatcher.submitted))
        assert left.status is Status.QUEUED
        assert left.job_id in {f"job-{number + 1}" for number in range(len(here.dispatcher.submitted))}

    assert every_schedule(race) == 20
    assert jobs == {1, 2}


def test_heartbeat_and_lose(store: TaskStore, tmp_path: Path) -> None:
    """The heartbeat comes at the last moment, and the sweep a moment later: one of them is told that it is too late."""
    ends: set[Status] = set()

    def race(turns: Turns) -> None:
        here = Race(store, turns, tmp_path, held())
        stage = Stage.TRANSCODING

        def beat() -> Task:
            def report(task: Task) -> Task:
                now = NOW + LEASE
                return moves.report(task, now=now, fence=1, stage=stage, progress=Progress(), timings=Timings())

            return change(here.store, here.id, report)

        alive, swept = here.run(beat, lambda: attend(here.services, here.task, now=NOW + LEASE))
        left = here.left()
        ends.add(left.status)
        if left.status is Status.RUNNING:
            assert (alive, type(swept), here.dispatcher.submitted) == (left, TaskChanged, [])
        else:
            assert (type(alive), swept) == (TaskNotReady, left)

    assert every_schedule(race) == 10
    assert ends == {Status.RUNNING, Status.QUEUED}


def test_complete_and_a_claim_after_the_lease(store: TaskStore, tmp_path: Path) -> None:
    """The worker was late; whoever takes the task over or completes it, only one output is ever shown."""
    ends: set[Status] = set()

    def race(turns: Turns) -> None:
        here = Race(store, turns, tmp_path, held())
        completed, claimed = here.run(lambda: settling(here), lambda: claiming(here, LEASE, "job-2"))
        left = here.left()
        ends.add(left.status)
        if left.status is Status.COMPLETED:
            assert (completed, type(claimed), left.fence) == (left, TaskEnded, 1)
        else:
            assert (type(completed), claimed, left.outputs) == (Stopped, left, ())

    assert every_schedule(race) == 3
    assert ends == {Status.COMPLETED, Status.RUNNING}


def test_submit_and_the_worker_that_it_starts(store: TaskStore, tmp_path: Path) -> None:
    def race(turns: Turns) -> None:
        here = Race(store, turns, tmp_path, task_in(Status.QUEUED))
        here.run(lambda: submit(here.services, here.task, now=NOW), lambda: claiming(here, timedelta(0), "job-1"))
        left = here.left()
        assert (left.status, left.fence, left.job_id) == (Status.RUNNING, 1, "job-1")

    assert every_schedule(race) == 6
