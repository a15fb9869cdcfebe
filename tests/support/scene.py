"""What lives of tasks are played on (life.py): the stores, the dispatcher, the workers, the clock, and who watches.

Each write is judged as it happens (watched.py), every task after each step, and at the end, in quiet times, all must
come to rest: nothing lives, nothing is to be sent, nothing is left.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant

from core import aftermath, moves, sweep
from core.batch import Batch
from core.destination import Destination
from core.errors import (
    DispatchDelayed,
    DispatchUnavailable,
    ServiceError,
    TaskEnded,
    TaskNotFound,
    TaskNotReady,
)
from core.ports import JobState, ObjectStore, RecordStore, Services, Sighting, TaskStore
from core.settings import Settings
from core.task import FailureCode, NoticeStatus, Output, Progress, Stage, Status, Task, Timings
from core.worker.failed import Stopped
from core.worker.report import Reporter
from core.worker.upload import Finished, upload
from handlers.web import models
from support import invariants
from support.builders import NOW
from support.invariants import hold
from support.recording import RecordingChannel
from support.watched import WatchedStore

T = TypeVar("T")

MOST_TASKS = 4
SKEW = 60
# From the moment that nothing fails any more, within so long every task ends.
BOUND = moves.QUEUE_PATIENCE + moves.LEASE + timedelta(seconds=SKEW) + timedelta(minutes=2)
SECRETS = ("sig-5ecret", "hook-5ecret", "whsec_")
SHOWS = Destination(bucket="media-out", prefix="shows")
SETTINGS = Settings(
    webhook_secret="whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", event_bus="ends", destinations=(SHOWS,)
)
CODES = (FailureCode.DOWNLOAD_FAILED, FailureCode.MEDIA_INVALID, FailureCode.OUT_OF_MEMORY, FailureCode.WORKER_LOST)
MOODS = ("well", "well", "answers lost", "throttled", "refusing", "worker first")


@dataclass
class Home:
    """Where a run keeps its things, those of other buckets too. `stored` lists all that is in the object store, begun
    transfers included."""

    store: TaskStore
    records: RecordStore
    objects: ObjectStore
    stored: Callable[[], set[str]]
    scratch: Path
    close: Callable[[], None]


@dataclass
class Job:
    task_id: str
    state: JobState = JobState.COMING


@dataclass
class Pool:
    """The dispatcher: its jobs, and its mood."""

    jobs: dict[str, Job] = field(default_factory=dict)
    mood: str = "well"
    first: Callable[[str], object] = lambda job_id: None  # the worker that is quicker than the answer

    def submit(self, task: Task) -> str:
        self._answer()
        job_id = f"job-{len(self.jobs)}"
        self.jobs[job_id] = Job(task.task_id)
        if self.mood == "worker first":
            self.first(job_id)
        if self.mood == "answers lost":
            raise DispatchDelayed("No answer.")
        return job_id

    def look(self, tasks: Sequence[Task]) -> Mapping[str, Sighting]:
        self._answer()
        found = {task.task_id: self.jobs.get(task.job_id or "") for task in tasks}
        return {task_id: Sighting(job.state) for task_id, job in found.items() if job}

    def stop(self, task: Task) -> None:
        self._answer()
        job = self.jobs.get(task.job_id or "")
        if job and job.state is JobState.COMING:
            job.state = JobState.GONE

    def submit_batch(self, batch: Batch) -> str:
        raise DispatchUnavailable  # no batch is in these scenes

    def look_batch(self, batch: Batch) -> Sighting:
        return Sighting(JobState.GONE)

    def stop_batch(self, batch: Batch) -> None:
        pass

    def check(self) -> str:
        return self.mood

    def of(self, state: JobState) -> list[str]:
        return [job_id for job_id, job in self.jobs.items() if job.state is state]

    def _answer(self) -> None:
        if self.mood == "throttled":
            raise DispatchDelayed("Too many requests.")
        if self.mood == "refusing":
            raise DispatchUnavailable


@dataclass
class Worker:
    """A process that has claimed a task; it goes on until it is killed or hears that the task is no longer its own."""

    job_id: str
    task: Task
    skew: timedelta
    reporter: Reporter
    outputs: tuple[Output, ...] = ()


class Scene(RuleBasedStateMachine):
    """One run, without what happens in it. A subclass says where: `open` makes a home."""

    def open(self) -> Home:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.home = self.open()
        self.store = WatchedStore(self.home.store)
        self.pool = Pool(first=lambda job_id: self.start(job_id, timedelta(0)))
        self.channels = {"webhook": RecordingChannel(), "event": RecordingChannel()}
        self.services = Services(
            store=self.store,
            records=self.home.records,
            objects=self.home.objects,
            dispatcher=self.pool,
            channels=self.channels,
            buckets=lambda name: self.home.objects,
        )
        self.now = NOW
        self.ids: list[str] = []
        self.keyed: dict[str, str] = {}
        self.forgotten: set[str] = set()
        self.ended: dict[str, Task] = {}
        self.workers: list[Worker] = []
        self.writers: dict[str, Worker] = {}  # by object key
        self.late: set[str] = set()  # tasks for which a worker stored something when all was tidied already
        self.delivered: set[str] = set()  # the keys that are somebody else's to delete
        self.stale: list[Task] = []  # as somebody has read them some time ago
        self.logged = _Logged()

    # What holds after each step

    @invariant()
    def every_promise_is_kept(self) -> None:
        if self.store.broken:
            raise self.store.broken[0]
        for task_id in self.ids:
            task = self.find(task_id)
            if task is None:
                self._forgotten(task_id)
                continue
            invariants.state(task)
            invariants.published(self.services, task)
            self.delivered |= {output.key for output in task.outputs if task.destination}
            hold(9, len(task.outputs) <= 1, "more than one output")
            hold(14, not self._secrets(_shown(self.services, task)), "a secret is shown")
            if task.status.ended:
                invariants.step(self.ended.setdefault(task_id, task), task)
        hold(14, not self._secrets(self.logged.text()), "a secret is in the log")

    def teardown(self) -> None:
        try:
            if not self.store.broken:
                self._quiet_times()
        finally:
            self.logged.close()
            self.home.close()

    def _quiet_times(self) -> None:
        """Nothing fails any more: all ends within BOUND, and in the end nothing is left."""
        self.pool.mood = "well"
        for worker in self.workers[:1]:  # the last one to die, and nobody hears of it
            self.gone(worker)
        for channel in self.channels.values():
            channel.failure = None
        began = self.now
        while any(task.status.live for task in self._all()):
            self.now += timedelta(seconds=20)
            hold(10, self.now - began <= BOUND, "a task has not ended in time")
            sweep.sweep(self.services, now=self.now)
            self._let_workers_work()
        self._let_workers_work()
        hold(11, not self.workers, "a worker goes on though its task has ended")
        self.every_promise_is_kept()
        self._comes_to_rest()

    def _let_workers_work(self) -> None:
        for job_id in self.pool.of(JobState.COMING):
            self.start(job_id, timedelta(0))
        for worker in list(self.workers):
            self.report(worker, Progress(), Stage.UPLOADING)
            if worker in self.workers:
                self.store_output(worker)
                self.complete(worker)

    def _comes_to_rest(self) -> None:
        self.now += moves.TIDY_AFTER
        aftermath.sweep(self.services, now=self.now)
        shown = {output.key for task in self._all() if not task.purged_at for output in task.outputs}
        left = {key for key in self.home.stored() if key.split("/")[1] not in self.late}
        hold(13, left <= shown | self.delivered, "something is stored that no task shows")
        for _ in range(12):
            self.now += timedelta(hours=12)
            aftermath.sweep(self.services, now=self.now)
        told = {notice.status for task in self._all() if task.status.ended for notice in task.notices}
        hold(13, NoticeStatus.PENDING not in told, "a notice is still to be sent")
        self.now += timedelta(days=31)
        aftermath.sweep(self.services, now=self.now)
        self.every_promise_is_kept()
        hold(13, not self._all() and self.home.stored() <= self.delivered, "something is kept for ever")
        hold(2, self.delivered <= self.home.stored(), "what was delivered is gone")

    # How it is done

    def id_of(self, number: int) -> str:
        return pick(self.ids, number)

    def find(self, task_id: str) -> Task | None:
        with suppress(TaskNotFound):
            return self.store.get(task_id)
        return None

    def _all(self) -> list[Task]:
        return [task for task in map(self.find, self.ids) if task]

    def answered(self, task: Task) -> None:
        """16: what a caller is told was stored before."""
        stored = self.store.written.get((task.task_id, task.version))
        hold(16, stored == task, "the answer says what was never stored")

    def _forgotten(self, task_id: str) -> None:
        if task_id not in self.forgotten:
            ended = self.ended.get(task_id)
            hold(
                13, ended is None or self.now - (ended.finished_at or NOW) >= timedelta(days=29), "forgotten too early"
            )
        self.forgotten.add(task_id)
        # With its key it may be registered anew; none who knew the task of old is there any more by then.
        self.ended.pop(task_id, None)
        self.workers = [worker for worker in self.workers if worker.task.task_id != task_id]
        self.writers = {key: worker for key, worker in self.writers.items() if key.split("/")[1] != task_id}
        self.stale = [task for task in self.stale if task.task_id != task_id]
        self.keyed = {key: used for key, used in self.keyed.items() if used != task_id}

    def look_after(self, task_id: str, job: Sighting | None) -> None:
        with suppress(TaskNotFound, DispatchUnavailable, DispatchDelayed):
            sweep.look_after(self.services, task_id, now=self.now, job=job)

    def start(self, job_id: str, skew: timedelta) -> None:
        job = self.pool.jobs[job_id]
        job.state = JobState.RUNNING
        try:
            task = self.store.get(job.task_id)
            claimed = self.store.replace(moves.claim(task, now=self.now + skew, owner="w", job_id=job_id), task)
        except (TaskEnded, TaskNotReady, TaskNotFound):
            job.state = JobState.GONE
            return
        reporter = Reporter(self.store, claimed, stop=Event(), now=lambda: self.now + skew, every_seconds=1)
        self.workers.append(Worker(job_id=job_id, task=claimed, skew=skew, reporter=reporter))

    def report(self, worker: Worker, progress: Progress, stage: Stage) -> None:
        fence, now = worker.reporter.fence, self.now + worker.skew
        try:
            with self.store.written_by(fence):
                task = self.store.get(worker.task.task_id)
                new = moves.report(task, now=now, fence=fence, stage=stage, progress=progress, timings=Timings())
                self.store.replace(new, task)
        except ServiceError:
            self._discard(worker)

    def store_output(self, worker: Worker) -> None:
        path = self.home.scratch / f"{len(self.writers)}.mp4"
        path.write_bytes(f"{worker.job_id} {worker.task.fence}".encode())
        finished = Finished(path=path, filename="output.mp4", declared=0, media=None)
        prefix = f"{self.services.folder(worker.task)}/{worker.task.fence}"
        worker.outputs = upload(self.services.objects_of(worker.task), [finished], prefix=prefix, stop=Event())
        for output in worker.outputs:
            hold(12, self.writers.setdefault(output.key, worker) is worker, "two workers wrote one key")
        task = self.find(worker.task.task_id)
        if task is None or (task.finished_at and self.now >= task.finished_at + moves.TIDY_AFTER):
            self.late.add(worker.task.task_id)

    def complete(self, worker: Worker) -> None:
        now, fence, outputs = self.now + worker.skew, worker.reporter.fence, worker.outputs
        expected = hashlib.sha256(f"{worker.job_id} {worker.task.fence}".encode()).hexdigest()
        hold(2, [output.sha256 for output in outputs] == [expected], "the output is not what this worker made")

        def completed(task: Task, timings: Timings) -> Task:
            return moves.complete(
                task, now=now, fence=fence, outputs=outputs, output_count=len(outputs), timings=timings
            )

        self.settle(worker, completed)

    def settle(self, worker: Worker, move: Callable[[Task, Timings], Task]) -> None:
        try:
            with self.store.written_by(worker.reporter.fence):
                settled = worker.reporter.settle(move)
        except Stopped:
            self._discard(worker)
            return
        if settled.status is Status.COMPLETED:
            self.gone(worker)
        else:
            self._discard(worker)

    def _discard(self, worker: Worker) -> None:
        self.services.objects_of(worker.task).delete(f"{self.services.folder(worker.task)}/{worker.task.fence}")
        self.gone(worker)

    def gone(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.pool.jobs[worker.job_id].state = JobState.GONE

    def _secrets(self, text: str) -> list[str]:
        return [secret for secret in (*SECRETS, str(self.home.scratch.parent)) if secret in text]


class _Logged(logging.Handler):
    """All that core has logged since the last look, with what it brings as extra."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: list[str] = []
        self._core = logging.getLogger("core")
        self._level = self._core.level
        self._core.addHandler(self)
        self._core.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        extra: dict[str, Any] = {name: value for name, value in vars(record).items() if name != "pathname"}
        self._lines.append(f"{self.format(record)} {extra}")

    def text(self) -> str:
        lines, self._lines = self._lines, []
        return "\n".join(lines)

    def close(self) -> None:
        self._core.removeHandler(self)
        self._core.setLevel(self._level)
        super().close()


def _shown(services: Services, task: Task) -> str:
    shown = models.shown_task(task, link=lambda key: "https://links.example/" + key, uri=lambda key: None)
    return shown.model_dump_json()


def pick(things: Sequence[T], number: int) -> T:
    return things[number % len(things)]
