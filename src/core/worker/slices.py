"""The tasks of one slice of a batch, one after the other; each is worked on as in job.py.

A task gets its row here, claimed from the start, in one write. That its batch was canceled meanwhile is seen right
after that write: whoever cancels a batch first says so in its record and then looks for rows, so that no row is missed
by both. What has ended is passed over, so a second attempt goes on where the first one was.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from threading import Event

from core import moves
from core.batch import Batch, Source
from core.batches import get_batch, read_manifest
from core.errors import BatchNotFound, ListGone, TaskChanged, TaskEnded, TaskExists, TaskNotFound, TaskNotReady
from core.task import Status, Task
from core.worker import job, process
from core.worker.job import Outcome, Worker

log = logging.getLogger(__name__)


class TaskStop(Event):
    """Set for one task, or with that of the whole worker."""

    def __init__(self, of_worker: Event) -> None:
        super().__init__()
        self._of_worker = of_worker

    def is_set(self) -> bool:
        return super().is_set() or self._of_worker.is_set()


def run(
    worker: Worker, batch_id: str, number: int, *, on_task: Callable[[str], object] = lambda task_id: None
) -> Outcome:
    """Work on the slice until each of its tasks has ended or waits for another worker, or the batch is canceled.

    `on_task` is told of each task that is begun with. Raises only when a store cannot be reached.
    """
    try:
        batch = get_batch(worker.services, batch_id)
    except BatchNotFound:
        return Outcome.NOT_OURS
    try:
        files = read_manifest(worker.services, batch)
    except ListGone as error:  # which another worker would not do better
        log.error(error.message, extra={"action": "list_gone"})
        return Outcome.NOT_OURS
    with ExitStack() as stack:
        return _run(worker, batch, files, number, on_task, stack)


def _run(
    worker: Worker,
    batch: Batch,
    files: Sequence[Source],
    number: int,
    on_task: Callable[[str], object],
    stack: ExitStack,
) -> Outcome:
    for index in batch.slice(number):
        if worker.stop.is_set():
            return Outcome.GIVEN_UP
        task = _claimed(worker, batch, index, files[index])
        if task is None:
            continue
        batch = get_batch(worker.services, batch.batch_id)
        if batch.canceled_at:
            _take_back(worker, task)
            return Outcome.RECORDED
        on_task(task.task_id)
        worker = _with_prober(worker, stack)
        outcome = job.work(replace(worker, stop=TaskStop(worker.stop)), task)
        if outcome is Outcome.GIVEN_UP:
            return outcome
    return Outcome.RECORDED


def _with_prober(worker: Worker, stack: ExitStack) -> Worker:
    """One that a file has broken is replaced."""
    if not worker.prober.closed:
        return worker
    prober = process.start_prober()
    stack.callback(prober.close)
    return replace(worker, prober=prober)


def _claimed(worker: Worker, batch: Batch, index: int, source: Source) -> Task | None:
    """The task, held by us; None when it is not for us, or not now."""
    fresh = batch.task(index, source)
    try:
        return worker.services.store.create(job.claim(worker, fresh))
    except TaskEnded:  # with its batch
        return None
    except TaskExists:
        return _claimed_again(worker, fresh.task_id)


def _claimed_again(worker: Worker, task_id: str) -> Task | None:
    with suppress(TaskEnded, TaskNotReady, TaskNotFound):
        task = worker.services.store.get(task_id)
        waits = task.status is Status.QUEUED and task.dispatch_due_at and task.dispatch_due_at > worker.now()
        # One that waits for its next try, or for a worker of its own, is let wait.
        return None if waits else job.claimed(worker, task_id)
    return None


def _take_back(worker: Worker, task: Task) -> None:
    with suppress(TaskChanged, TaskEnded, TaskNotFound):  # whoever was faster has canceled it
        worker.services.store.replace(moves.cancel(task, now=worker.now()), task)
