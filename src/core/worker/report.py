"""Keeps the stored task true while its worker is busy, and learns from a refused write that the task is no longer ours.

One thread writes: what is new every `every_seconds` at most, and a heartbeat when nothing is. The moves themselves
are task.py's; here is only when they are written and what a lost write means.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Self

from core import moves
from core.errors import FenceLost, TaskChanged, TaskEnded, TaskNotFound, TaskNotReady
from core.moves import LEASE
from core.ports import TaskStore
from core.task import Progress, Stage, Status, Task, Timings
from core.worker.failed import Stopped

log = logging.getLogger(__name__)

# A worker that could not renew its lease for so long stops by itself, before somebody else may take the task.
SELF_FENCE_SECONDS = LEASE.total_seconds() * 2 / 3
SETTLE_ATTEMPTS = 6
# Between two reports when nothing is new: with what comes on top, a worker that is no longer to work knows so, and its
# ffmpeg is dead, within 25 s; and it is less than HEARTBEAT.
QUIET_SECONDS = 12.0
_NO_LONGER_OURS = (FenceLost, TaskEnded, TaskNotReady, TaskNotFound)


class Reporter:
    """Holds the task under one fence. As a context it reports in the background; `settle` writes the last word."""

    def __init__(
        self,
        store: TaskStore,
        task: Task,
        *,
        stop: threading.Event,
        now: Callable[[], datetime],
        every_seconds: float,
    ) -> None:
        self._store = store
        self._task = task
        self._stop = stop
        self._now = now
        self._every_seconds = every_seconds
        self.fence = task.fence
        self._stage = Stage.DOWNLOADING
        self._progress = Progress()
        self._timings = Timings()
        self._note: str | None = None
        self._command: str | None = None
        self._stage_began = time.monotonic()
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._report_until_closed, name="report", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def enter(self, stage: Stage) -> None:
        """The task is now in this stage."""
        with self._lock:
            self._timings = self._timings_now()
            self._stage, self._stage_began = stage, time.monotonic()
        self._news.set()

    def progressed(self, progress: Progress) -> None:
        with self._lock:
            self._progress = progress
        self._news.set()

    def note(self, text: str) -> None:
        """Keep with the attempt what it does otherwise than asked; the last word has it too."""
        with self._lock:
            self._note = text
        self._news.set()

    def made(self, command: str) -> None:
        """Show the command that the task has become, now that the source is known."""
        with self._lock:
            self._command = command
        self._news.set()

    def settle(self, move: Callable[[Task, Timings], Task]) -> Task:
        """Write how the task leaves this worker, and its last report. Raises Stopped when it is not ours to say."""
        self._close()
        with self._lock:
            timings = self._timings_now()
        for attempt in range(SETTLE_ATTEMPTS):
            try:
                return self._write(lambda task: move(self._report(task), timings))
            except _NO_LONGER_OURS as error:
                return self._as_recorded(error)
            except TaskChanged:
                continue
            except Exception:
                if attempt + 1 == SETTLE_ATTEMPTS:
                    raise
                log.warning("could not settle the task yet", extra={"action": "settle_retry"}, exc_info=True)
                time.sleep(0.2 * 2**attempt)
        raise Stopped

    def _as_recorded(self, refusal: Exception) -> Task:
        """The task as it has ended under our fence: by a write of ours, then, whose answer was lost."""
        task = self._store.get(self._task.task_id)
        if task.fence == self.fence and task.status in (Status.COMPLETED, Status.FAILED):
            return task
        raise Stopped from refusal

    def _timings_now(self) -> Timings:
        spent = {f"{_TIMED[self._stage]}_seconds": round(time.monotonic() - self._stage_began, 3)}
        return replace(self._timings, **spent)

    def _report_until_closed(self) -> None:
        renewed_at = time.monotonic()
        while not self._closing.is_set():
            self._news.wait(QUIET_SECONDS)
            self._news.clear()
            if self._closing.is_set():
                return
            try:
                self._write(self._report)
                renewed_at = time.monotonic()
            except _NO_LONGER_OURS:
                log.warning("the task is no longer ours", extra={"action": "fence_lost"})
                self._stop.set()
                return
            except Exception:
                log.warning("could not report", extra={"action": "report_failed"}, exc_info=True)
                if time.monotonic() - renewed_at > SELF_FENCE_SECONDS:
                    self._stop.set()
                    return
            self._closing.wait(self._every_seconds)

    def _report(self, task: Task) -> Task:
        with self._lock:
            stage, progress, timings = self._stage, self._progress, self._timings
        task = self._noted(task)
        return moves.report(task, now=self._now(), fence=self.fence, stage=stage, progress=progress, timings=timings)

    def _noted(self, task: Task) -> Task:
        if self._command:
            task = moves.made(task, fence=self.fence, command=self._command)
        return moves.noted(task, fence=self.fence, note=self._note) if self._note else task

    def _write(self, move: Callable[[Task], Task]) -> Task:
        try:
            self._task = self._store.replace(move(self._task), self._task)
        except TaskChanged:
            self._task = self._store.get(self._task.task_id)
            self._task = self._store.replace(move(self._task), self._task)
        return self._task

    def _close(self) -> None:
        self._closing.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()


_TIMED = {Stage.DOWNLOADING: "download", Stage.TRANSCODING: "transcode", Stage.UPLOADING: "upload"}
