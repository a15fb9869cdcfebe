"""The table of moves: how a task gets from one state to the next, and when it may not.

Pure: a move takes a task and facts (time, ids, numbers) and returns the next task, or raises why not. Every change of
a task, by the API, the worker, the sweep or an event, is one of these moves and one conditional write of its result;
losing that write to somebody who was faster is the business of ports.TaskStore and its callers.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from core.errors import FenceLost, TaskEnded, TaskNotReady
from core.task import (
    MAX_CLAIMS,
    RETRIES,
    Attempt,
    Ending,
    Failure,
    FailureCode,
    Notice,
    NoticeStatus,
    Output,
    Progress,
    Stage,
    Status,
    Task,
    Timings,
)

N = TypeVar("N", int, float)

LEASE = timedelta(seconds=90)
HEARTBEAT = timedelta(seconds=20)
# Time for whoever executed a task to hand it to the dispatcher, before anybody else may do it for them.
SUBMIT_GRACE = timedelta(seconds=15)
# How long a submitted task may wait for a worker before somebody looks whether one will come: with a sweep each minute,
# a job that was lost is replaced within five.
QUEUE_PATIENCE = timedelta(minutes=4)
# For how long a task is handed over again and again to a dispatcher that has no job for it.
GIVE_UP_AFTER = timedelta(hours=24)
# A worker that has lost its task may go on for a while before it notices, and store something meanwhile.
TIDY_AFTER = 2 * LEASE

# The statuses from which each move may start. Times, leases and the fence narrow some of them further.
ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELED})
MOVES: Mapping[str, frozenset[Status]] = {
    "execute": frozenset({Status.PENDING}),
    "submitted": frozenset({Status.QUEUED}),
    "unsubmitted": frozenset({Status.QUEUED}),
    "waiting": frozenset({Status.QUEUED}),
    "give_up": frozenset({Status.QUEUED}),
    "claim": frozenset({Status.QUEUED, Status.RUNNING}),
    "report": frozenset({Status.RUNNING}),
    "noted": frozenset({Status.RUNNING}),
    "made": frozenset({Status.RUNNING}),
    "complete": frozenset({Status.RUNNING}),
    "fail": frozenset({Status.RUNNING}),
    "release": frozenset({Status.RUNNING}),
    "lose": frozenset({Status.RUNNING}),
    "cancel": frozenset({Status.PENDING, Status.QUEUED, Status.RUNNING}),
    "notify": ENDED,
    "notifying": ENDED,
    "notified": ENDED,
    "unnotified": ENDED,
    "tidied": ENDED,
    "untidied": ENDED,
    "purged": frozenset({Status.COMPLETED}),
    "delete": ENDED,
}


def _allow(task: Task, move: str) -> None:
    if task.status in MOVES[move]:
        return
    details = {"task_id": task.task_id, "status": task.status.value}
    if task.status.ended:
        raise TaskEnded(f"The task has ended as {task.status}; register a new one.", details=details)
    remedy = "; cancel it or wait until it has ended" if MOVES[move] == ENDED else ""
    raise TaskNotReady(f"The task is {task.status}, which does not allow to {move} it{remedy}.", details=details)


def _allow_holder(task: Task, move: str, fence: int) -> None:
    _allow(task, move)
    if task.fence != fence:
        raise FenceLost(details={"task_id": task.task_id, "fence": fence, "newest": task.fence})


def execute(task: Task, *, now: datetime) -> Task:
    """T2: from now on the task wants a worker."""
    _allow(task, "execute")
    return replace(task, status=Status.QUEUED, queued_at=now, dispatch_due_at=now + SUBMIT_GRACE)


def submitted(task: Task, *, now: datetime, job_id: str) -> Task:
    """T3: the dispatcher has it under `job_id`."""
    _allow(task, "submitted")
    return replace(task, job_id=job_id, queue_reason=None, dispatch_due_at=now + QUEUE_PATIENCE)


def unsubmitted(task: Task, *, now: datetime, delay: timedelta, reason: str | None = None) -> Task:
    """The dispatcher did not take it, or has lost it: whoever looks after `delay` hands it over again."""
    _allow(task, "unsubmitted")
    return replace(task, job_id=None, queue_reason=reason, dispatch_due_at=now + delay)


def waiting(task: Task, *, now: datetime, reason: str | None) -> Task:
    """The dispatcher has the job still; `reason` is what it says of why it waits."""
    _allow(task, "waiting")
    return replace(task, queue_reason=reason, dispatch_due_at=now + QUEUE_PATIENCE)


def give_up(task: Task, *, now: datetime) -> Task:
    """T10: the dispatcher has not taken it for so long that it never will."""
    _allow(task, "give_up")
    if not is_hopeless(task, now=now):
        raise TaskNotReady("The task has not waited for long enough.", details={"task_id": task.task_id})
    hours = GIVE_UP_AFTER // timedelta(hours=1)
    why = f" The newest reason: {task.queue_reason}" if task.queue_reason else ""
    message = f"No worker could be had for the task in {hours} hours.{why}"
    return _ended(replace(task, error=Failure.of(FailureCode.WORKER_LOST, message)), Status.FAILED, now=now)


def is_hopeless(task: Task, *, now: datetime) -> bool:
    return task.waiting_since is not None and now - task.waiting_since >= GIVE_UP_AFTER


def claim(task: Task, *, now: datetime, owner: str, job_id: str | None = None) -> Task:
    """T4, T5: a worker takes the task, under a fence of its own; from a live owner it cannot be taken.

    Attempts of one job follow each other, so the owner under the same `job_id` is known to be gone.
    """
    _allow(task, "claim")
    heirs = job_id is not None and job_id == task.job_id
    if task.status is Status.RUNNING and not heirs and not _lease_is_over(task, now):
        raise TaskNotReady("Another worker holds the task.", details={"task_id": task.task_id})
    if task.fence >= MAX_CLAIMS:
        raise TaskNotReady(f"The task was claimed {task.fence} times already.", details={"task_id": task.task_id})
    attempt = Attempt(number=task.fence + 1, owner=owner, job_id=job_id, started_at=now)
    return replace(
        task,
        status=Status.RUNNING,
        fence=attempt.number,
        owner=owner,
        job_id=job_id or task.job_id,
        started_at=now,
        lease_expires_at=now + LEASE,
        dispatch_due_at=None,
        queue_reason=None,
        stage=Stage.DOWNLOADING,
        progress=Progress(),
        timings=Timings(),
        attempts=(*_closed(task, Ending.LOST, now=now), attempt),
    )


def noted(task: Task, *, fence: int, note: str) -> Task:
    """The worker says what it does otherwise than asked."""
    _allow_holder(task, "noted", fence)
    last = replace(task.attempts[-1], note=note)
    return replace(task, attempts=(*task.attempts[:-1], last))


def made(task: Task, *, fence: int, command: str) -> Task:
    """The worker has looked at the source and made the command of the task's recipe."""
    _allow_holder(task, "made", fence)
    return replace(task, command=command)


def report(task: Task, *, now: datetime, fence: int, stage: Stage, progress: Progress, timings: Timings) -> Task:
    """T6: the heartbeat, with the progress so far; progress never goes back within one fence."""
    _allow_holder(task, "report", fence)
    return replace(
        task, stage=stage, progress=_forward(task.progress, progress), timings=timings, lease_expires_at=now + LEASE
    )


def complete(
    task: Task, *, now: datetime, fence: int, outputs: tuple[Output, ...], output_count: int, timings: Timings
) -> Task:
    """T7: the outputs are in the store, verified; this publishes them."""
    _allow_holder(task, "complete", fence)
    ttl = task.result_ttl_seconds
    published = replace(
        task,
        outputs=outputs,
        output_count=output_count,
        timings=timings,
        progress=replace(task.progress, percent=100.0, eta_seconds=0.0),
        expires_at=now + timedelta(seconds=ttl) if ttl is not None else None,
        attempts=_closed(task, Ending.COMPLETED, now=now),
    )
    return _ended(published, Status.COMPLETED, now=now)


def fail(task: Task, *, now: datetime, fence: int, error: Failure, timings: Timings, retry_after: timedelta) -> Task:
    """T8: the worker says why there is no output; the task is tried again after `retry_after` where that may help."""
    _allow_holder(task, "fail", fence)
    task = replace(task, timings=timings, attempts=_closed(task, Ending.FAILED, now=now, error=error))
    if error.retryable and task.fence <= (RETRIES[error.code] or MAX_CLAIMS - 1):
        return _requeued(replace(task, job_id=None), due=now + retry_after)
    return _ended(replace(task, error=error), Status.FAILED, now=now)


def release(task: Task, *, now: datetime, fence: int) -> Task:
    """T8: the worker was told to stop before it was done; another one may take over at once."""
    _allow_holder(task, "release", fence)
    return _without_worker(task, Ending.RELEASED, now=now)


def lose(task: Task, *, now: datetime, fence: int, gone: bool = False) -> Task:
    """T10: the worker that held `fence` is lost: its lease is over, or whoever started it says that it is `gone`."""
    _allow_holder(task, "lose", fence)
    if not gone and not _lease_is_over(task, now):
        raise TaskNotReady("The worker holds the task still.", details={"task_id": task.task_id})
    return _without_worker(task, Ending.LOST, now=now)


def cancel(task: Task, *, now: datetime) -> Task:
    """T9: called off; whoever works on it learns so from its next write."""
    _allow(task, "cancel")
    return _ended(replace(task, attempts=_closed(task, Ending.CANCELED, now=now)), Status.CANCELED, now=now)


def notify(task: Task, *, now: datetime) -> Task:
    """Tell everybody of the task's end, those included who were told before."""
    _allow(task, "notify")
    again = (Notice(channel=notice.channel, due_at=now) for notice in task.notices)
    return replace(task, notices=tuple(again))


def notifying(task: Task, *, channel: str, next_try_at: datetime) -> Task:
    """Somebody is about to send this notice; when nothing more is heard of it, it is due again at `next_try_at`."""
    _allow(task, "notifying")
    return _noticed(task, channel, lambda old: replace(old, tries=old.tries + 1, due_at=next_try_at))


def notified(task: Task, *, now: datetime, channel: str) -> Task:
    _allow(task, "notified")

    def done(old: Notice) -> Notice:
        return replace(old, status=NoticeStatus.DELIVERED, due_at=None, delivered_at=now, error=None)

    return _noticed(task, channel, done)


def unnotified(task: Task, *, channel: str, error: str, abandon: bool) -> Task:
    """It did not arrive; `abandon` says that it never will."""
    _allow(task, "unnotified")

    def failed(old: Notice) -> Notice:
        if abandon:
            return replace(old, status=NoticeStatus.ABANDONED, due_at=None, error=error)
        return replace(old, error=error)

    return _noticed(task, channel, failed)


def tidied(task: Task) -> Task:
    """What workers had stored and was not published is deleted."""
    _allow(task, "tidied")
    return replace(task, tidy_due_at=None)


def untidied(task: Task, *, now: datetime) -> Task:
    """It could not be deleted, and perhaps never can: it is tried again when as much time has passed once more."""
    _allow(task, "untidied")
    since = task.purged_at or task.finished_at or now
    return replace(task, tidy_due_at=now + max(TIDY_AFTER, now - since))


def purged(task: Task, *, now: datetime) -> Task:
    """The outputs are deleted; the record of them stays."""
    _allow(task, "purged")
    return replace(task, purged_at=now)


def delete(task: Task, *, now: datetime) -> Task:
    """Nothing that was stored for the task is to be there from now on; it is cleared away again a little later, since a
    worker that does not know yet of the task's end may still store something."""
    _allow(task, "delete")
    return replace(task, purged_at=task.purged_at or now, tidy_due_at=now + TIDY_AFTER)


def backoff(number: int, *, first: timedelta, chance: float) -> timedelta:
    """How long to wait after the `number`th time (from 1): four times as long each time, and by `chance` (0 to 1)
    half as long to half as long again, so that what failed together does not come back together."""
    return first * (4.0 ** (number - 1) * (0.5 + chance))


def _lease_is_over(task: Task, now: datetime) -> bool:
    return task.lease_expires_at is None or task.lease_expires_at <= now


def _without_worker(task: Task, ending: Ending, *, now: datetime) -> Task:
    task = replace(task, attempts=_closed(task, ending, now=now))
    if task.fence < MAX_CLAIMS:
        return _requeued(task, due=now)
    message = f"{task.fence} workers took the task and none came to an end; the source may be more than they can hold."
    return _ended(replace(task, error=Failure.of(FailureCode.WORKER_LOST, message)), Status.FAILED, now=now)


def _requeued(task: Task, *, due: datetime) -> Task:
    return replace(
        task,
        status=Status.QUEUED,
        owner=None,
        stage=None,
        progress=Progress(),
        lease_expires_at=None,
        dispatch_due_at=due,
    )


def _ended(task: Task, status: Status, *, now: datetime) -> Task:
    leftovers = task.fence > (1 if status is Status.COMPLETED else 0)
    return replace(
        task,
        status=status,
        finished_at=now,
        stage=None,
        owner=None,
        lease_expires_at=None,
        dispatch_due_at=None,
        queue_reason=None,
        tidy_due_at=now + TIDY_AFTER if leftovers else None,
        notices=tuple(replace(notice, due_at=now) for notice in task.notices),
    )


def _closed(task: Task, ending: Ending, *, now: datetime, error: Failure | None = None) -> tuple[Attempt, ...]:
    """The attempts, with the one that is still open, if there is one, ended."""
    if not task.attempts or task.attempts[-1].ending:
        return task.attempts
    code, message = (error.code, error.message) if error else (None, None)
    last = replace(task.attempts[-1], finished_at=now, ending=ending, code=code, message=message)
    return (*task.attempts[:-1], last)


def _noticed(task: Task, channel: str, change: Callable[[Notice], Notice]) -> Task:
    return replace(task, notices=tuple(change(old) if old.channel == channel else old for old in task.notices))


def _forward(old: Progress, new: Progress) -> Progress:
    return replace(
        new,
        percent=_later(old.percent, new.percent),
        frame=_later(old.frame, new.frame),
        out_time_seconds=_later(old.out_time_seconds, new.out_time_seconds),
    )


def _later(old: N | None, new: N | None) -> N | None:
    if old is None or new is None:
        return new if old is None else old
    return max(old, new)
