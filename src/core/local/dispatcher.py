"""A bounded pool of worker processes: what AWS Batch is on AWS.

Beside worker/process.py this is the only place that starts processes. A worker gets its task by the environment, as
in a container, and with PARENT_PID whom it may ask the kernel to die with: to be exact, with its supervising thread,
which lives as long as it does. The queue is memory only: what waits here also waits in the store. What a worker's end
means for its task is for `on_exit` to find out.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from core.errors import DispatchUnavailable
from core.load import Pool
from core.ports import JobState, Sighting
from core.task import Task

log = logging.getLogger(__name__)

CANNOT_START = 127  # the exit code, as shells have it, of a worker that could not be started


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    job_id: str
    task_id: str
    correlation_id: str

    @property
    def log_fields(self) -> dict[str, str]:
        return {"action": "dispatch", "task_id": self.task_id, "correlation_id": self.correlation_id}


class LocalDispatcher:
    """The Dispatcher of one machine: first come, first served, and never two workers for one task at a time.

    `on_exit` is called with the task's id and the worker's exit code (negative: the signal), in the thread that
    supervised it, before another worker may be started for the same task.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        env: Mapping[str, str],
        max_concurrent: int,
        on_exit: Callable[[str, int], object],
        grace_seconds: float = 10,
    ) -> None:
        self._command = list(command)
        self._env = dict(env)
        self._on_exit = on_exit
        self._grace_seconds = grace_seconds
        # Guards what follows; notified on every change of it.
        self._changed = threading.Condition()
        self._started = False
        self._closed = False
        self._size = max_concurrent
        self._threads: set[threading.Thread] = set()  # each has one worker at a time; as many as there may be workers
        self._waiting: dict[str, _Job] = {}  # by task, in order
        self._running: dict[str, subprocess.Popen[bytes] | None] = {}  # by task; None when its process is gone

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
            job = _Job(job_id=f"local-{uuid4()}", task_id=task.task_id, correlation_id=task.correlation_id)
            job = self._waiting.setdefault(task.task_id, job)
            self._changed.notify_all()
            return job.job_id

    def look(self, tasks: Sequence[Task]) -> Mapping[str, Sighting]:
        with self._changed:
            return {task.task_id: self._seen(task.task_id) for task in tasks}

    def stop(self, task: Task) -> None:
        with self._changed:
            self._waiting.pop(task.task_id, None)
            process = self._running.get(task.task_id)
            if process is None:
                return
            _signal(process, signal.SIGTERM)
        killer = threading.Timer(self._grace_seconds, self._kill, (task.task_id, process))
        killer.daemon = True
        killer.start()

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
            self._changed.wait_for(lambda: not any(self._running.values()), timeout=self._grace_seconds)
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
            try:
                self._on_exit(job.task_id, code)
            except Exception as error:
                _log_unhandled(job, error)
            with self._changed:
                del self._running[job.task_id]
                self._changed.notify_all()

    def _next(self) -> _Job | None:
        """Start the longest waiting job whose task has no worker, as soon as there is one.

        None when we close, or when there are more of us than there may be workers.
        """
        with self._changed:
            while not self._closed and len(self._threads) <= self._size:
                for job in self._waiting.values():
                    if job.task_id not in self._running:
                        self._running[job.task_id] = self._spawn(job)
                        return self._waiting.pop(job.task_id)
                self._changed.wait()
            self._threads.discard(threading.current_thread())
        return None

    def _spawn(self, job: _Job) -> "subprocess.Popen[bytes] | None":
        env = {"TASK_ID": job.task_id, "CORRELATION_ID": job.correlation_id, "JOB_ID": job.job_id}
        env["PARENT_PID"] = str(os.getpid())
        try:
            # A group of its own: a Ctrl-C in the terminal is for the service, which then stops its workers.
            return subprocess.Popen(self._command, env=self._env | env, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603
        except OSError as error:
            log.error("worker cannot be started", extra=job.log_fields, exc_info=error)
            return None

    def _await(self, job: _Job) -> int:
        process = self._running[job.task_id]
        if process is None:
            return CANNOT_START
        # Seen as ended but not yet reaped, its process group is still its own: nobody else's can be hit.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._changed:
            _signal(process, signal.SIGKILL)
            code = process.wait()
            self._running[job.task_id] = None
            self._changed.notify_all()
        log.info("worker ended", extra={**job.log_fields, "exit_code": code})
        return code

    def _seen(self, task_id: str) -> Sighting:
        if self._running.get(task_id):
            return Sighting(JobState.RUNNING)
        return Sighting(JobState.COMING if task_id in self._waiting else JobState.GONE)

    def _kill(self, task_id: str, process: "subprocess.Popen[bytes]") -> None:
        with self._changed:
            if self._running.get(task_id) is process:  # not reaped yet, so its group is still its own
                _signal(process, signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._running.values():
            if process:
                _signal(process, number)


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _log_unhandled(job: _Job, error: Exception) -> None:
    if isinstance(error, DispatchUnavailable):  # we are closing: the store has the task for the next start
        log.info("no other worker is asked for", extra=job.log_fields)
    else:
        log.error("the end of a worker could not be handled", extra=job.log_fields, exc_info=error)
