"""A bounded pool of worker processes: what AWS Batch is on AWS.

Beside worker/process.py this is the only place that starts processes. A worker gets its task by the environment, as
in a container, and with PARENT_PID whom it may ask the kernel to die with: to be exact, with its supervising thread,
which lives as long as it does. The queue is memory only: what waits here also waits in the store. What a worker's end
means for its task is for `on_exit` to find out. A batch is a job of many slices, each with a worker that is started
again, as AWS Batch does, when it ends with trouble.
"""

import logging
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import uuid4

from core.batch import Batch, slice_job
from core.errors import DispatchUnavailable
from core.load import Pool
from core.ports import JobState, Sighting
from core.task import Task

log = logging.getLogger(__name__)

CANNOT_START = 127  # the exit code, as shells have it, of a worker that could not be started
_NOT_AGAIN = frozenset({0, 78})  # done, or EX_CONFIG: no worker with these settings ever will be
_SLICE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """The work of one process: a task, or a slice of a batch."""

    key: str  # under which there is one worker at a time: the task's id, or the slice's job id
    job_id: str
    correlation_id: str
    task_id: str | None = None
    batch_id: str | None = None
    number: int = 0  # of the slice
    at_once: int | None = None  # how many slices of the batch; None is any number
    attempt: int = 1

    @property
    def env(self) -> dict[str, str]:
        named = {"TASK_ID": self.task_id, "BATCH_ID": self.batch_id, "SLICE": str(self.number)}
        if self.task_id:
            del named["SLICE"]
        known = {name: value for name, value in named.items() if value is not None}
        return {**known, "CORRELATION_ID": self.correlation_id, "JOB_ID": self.job_id}

    @property
    def log_fields(self) -> dict[str, str | None]:
        whose = {"task_id": self.task_id} if self.task_id else {"batch_id": self.batch_id}
        return {"action": "dispatch", **whose, "correlation_id": self.correlation_id}


@dataclass(slots=True)
class _Run:
    job: _Job
    process: "subprocess.Popen[bytes] | None"  # None when it is gone


class LocalDispatcher:
    """The Dispatcher of one machine: first come, first served, and never two workers for one task at a time. A batch
    that has a worker lets others go first.

    `on_exit` is called with the task's id and the worker's exit code (negative: the signal), in the thread that
    supervised it, before another worker may be started for the same task; `on_batch_exit` with the batch's id when
    the last of its workers is gone.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        env: Mapping[str, str],
        max_concurrent: int,
        on_exit: Callable[[str, int], object],
        on_batch_exit: Callable[[str], object] = lambda batch_id: None,
        grace_seconds: float = 10,
    ) -> None:
        self._command = list(command)
        self._env = dict(env)
        self._on_exit = on_exit
        self._on_batch_exit = on_batch_exit
        self._grace_seconds = grace_seconds
        # Guards what follows; notified on every change of it.
        self._changed = threading.Condition()
        self._started = False
        self._closed = False
        self._size = max_concurrent
        self._threads: set[threading.Thread] = set()  # each has one worker at a time; as many as there may be workers
        self._waiting: dict[str, _Job] = {}  # by key, in order
        self._running: dict[str, _Run] = {}  # by key
        self._stopped: set[str] = set()  # keys of slices that are told to end, and not started again

    def start(self) -> None:
        with self._changed:
            self._started = True
            self._fill()

    def resize(self, max_concurrent: int) -> None:
        """From now on start no worker beyond so many. Those that run are let finish."""
        with self._changed:
            self._size = max_concurrent
            self._fill()
            self._changed.notify_all()

    def load(self) -> Pool:
        with self._changed:
            return Pool(size=self._size, running=len(self._running), waiting=len(self._waiting))

    def submit(self, task: Task) -> str:
        with self._changed:
            if self._closed:
                raise DispatchUnavailable("The service is stopping; call execute again when it is back.")
            job_id, key = f"local-{uuid4()}", task.task_id
            job = _Job(key=key, job_id=job_id, task_id=key, correlation_id=task.correlation_id)
            job = self._waiting.setdefault(key, job)
            self._changed.notify_all()
            return job.job_id

    def submit_batch(self, batch: Batch) -> str:
        with self._changed:
            if self._closed:
                raise DispatchUnavailable("The service is stopping; its next start goes on with the batch.")
            for job in self._of_batch(batch.batch_id):
                return job.job_id.rpartition(":")[0]
            job_id = f"local-{uuid4()}"
            for number in range(batch.slices):
                job = _slice_job(batch, job_id, number)
                self._waiting[job.key] = job
            self._changed.notify_all()
            return job_id

    def look_batch(self, batch: Batch) -> Sighting:
        with self._changed:
            if any(run.job.batch_id == batch.batch_id for run in self._running.values()):
                return Sighting(JobState.RUNNING)
            waits = any(self._of_batch(batch.batch_id))
            return Sighting(JobState.COMING if waits else JobState.GONE)

    def stop_batch(self, batch: Batch) -> None:
        with self._changed:
            for job in list(self._of_batch(batch.batch_id)):
                self._stopped.add(job.key)
                self._stop(job.key)

    def look(self, tasks: Sequence[Task]) -> Mapping[str, Sighting]:
        with self._changed:
            return {task.task_id: self._seen(task) for task in tasks}

    def stop(self, task: Task) -> None:
        with self._changed:
            self._stop(task.task_id)

    def check(self) -> str:
        with self._changed:
            if self._closed:
                raise DispatchUnavailable("The service is stopping.")
            return f"{self._size} workers, {len(self._running)} running, {len(self._waiting)} waiting"

    def close(self) -> None:
        """Take no more, stop the workers, and return when they are gone. What waits is left to the next start."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._signal_all(signal.SIGTERM)
            self._changed.wait_for(
                lambda: not any(run.process for run in self._running.values()), timeout=self._grace_seconds
            )
            self._signal_all(signal.SIGKILL)
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _fill(self) -> None:
        while self._started and not self._closed and len(self._threads) < self._size:
            thread = threading.Thread(target=self._supervise, name="worker", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _supervise(self) -> None:
        while job := self._next():
            code = self._await(job)
            if job.task_id:
                self._tell(job, self._on_exit, job.task_id, code)
            with self._changed:
                del self._running[job.key]
                if self._is_wanted_again(job, code):
                    self._waiting = {job.key: replace(job, attempt=job.attempt + 1), **self._waiting}
                self._stopped.discard(job.key)
                batch_is_over = job.batch_id and not any(self._of_batch(job.batch_id))
                self._changed.notify_all()
            if job.batch_id and batch_is_over and not self._closed:
                self._tell(job, self._on_batch_exit, job.batch_id)

    def _is_wanted_again(self, job: _Job, code: int) -> bool:
        over = self._closed or job.key in self._stopped or code in _NOT_AGAIN
        return job.batch_id is not None and not over and job.attempt < _SLICE_ATTEMPTS

    def _tell(self, job: _Job, told: Callable[..., object], *facts: object) -> None:
        try:
            told(*facts)
        except Exception as error:
            _log_unhandled(job, error)

    def _next(self) -> _Job | None:
        """Start a job as soon as there is one that may have a worker.

        None when we close, or when there are more of us than there may be workers.
        """
        with self._changed:
            while not self._closed and len(self._threads) <= self._size:
                if job := self._first():
                    self._running[job.key] = _Run(job, self._spawn(job))
                    return self._waiting.pop(job.key)
                self._changed.wait()
            self._threads.discard(threading.current_thread())
        return None

    def _first(self) -> _Job | None:
        """Of those that may, the one whose batch has the fewest workers; of these the longest waiting."""
        at_work = Counter(run.job.batch_id for run in self._running.values())

        def workers(job: _Job) -> int:
            return at_work[job.batch_id] if job.batch_id else 0

        startable = (
            job
            for job in self._waiting.values()
            if job.key not in self._running and (job.at_once is None or workers(job) < job.at_once)
        )
        return min(startable, key=workers, default=None)

    def _of_batch(self, batch_id: str) -> Iterator[_Job]:
        jobs = (*(run.job for run in self._running.values()), *self._waiting.values())
        return (job for job in jobs if job.batch_id == batch_id)

    def _spawn(self, job: _Job) -> "subprocess.Popen[bytes] | None":
        env = {**job.env, "PARENT_PID": str(os.getpid())}
        try:
            # A group of its own: a Ctrl-C in the terminal is for the service, which then stops its workers.
            return subprocess.Popen(self._command, env=self._env | env, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603
        except OSError as error:
            log.error("worker cannot be started", extra=job.log_fields, exc_info=error)
            return None

    def _await(self, job: _Job) -> int:
        process = self._running[job.key].process
        if process is None:
            return CANNOT_START
        # Seen as ended but not yet reaped, its process group is still its own: nobody else's can be hit.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._changed:
            _signal(process, signal.SIGKILL)
            code = process.wait()
            self._running[job.key].process = None
            self._changed.notify_all()
        log.info("worker ended", extra={**job.log_fields, "exit_code": code})
        return code

    def _seen(self, task: Task) -> Sighting:
        keys = (task.task_id, task.job_id or "")  # its own worker's, or that of its slice
        if any(self._process(key) for key in keys):
            return Sighting(JobState.RUNNING)
        return Sighting(JobState.COMING if any(key in self._waiting for key in keys) else JobState.GONE)

    def _process(self, key: str) -> "subprocess.Popen[bytes] | None":
        run = self._running.get(key)
        return run.process if run else None

    def _stop(self, key: str) -> None:
        self._waiting.pop(key, None)
        process = self._process(key)
        if process is None:
            return
        _signal(process, signal.SIGTERM)
        killer = threading.Timer(self._grace_seconds, self._kill, (key, process))
        killer.daemon = True
        killer.start()

    def _kill(self, key: str, process: "subprocess.Popen[bytes]") -> None:
        with self._changed:
            if self._process(key) is process:  # not reaped yet, so its group is still its own
                _signal(process, signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for run in self._running.values():
            if run.process:
                _signal(run.process, number)


def _slice_job(batch: Batch, job_id: str, number: int) -> _Job:
    own = slice_job(job_id, number)
    return _Job(
        key=own,
        job_id=own,
        correlation_id=batch.correlation_id,
        batch_id=batch.batch_id,
        number=number,
        at_once=batch.concurrency,
    )


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _log_unhandled(job: _Job, error: Exception) -> None:
    if isinstance(error, DispatchUnavailable):  # we are closing: the store has the task for the next start
        log.info("no other worker is asked for", extra=job.log_fields)
    else:
        log.error("the end of a worker could not be handled", extra=job.log_fields, exc_info=error)
