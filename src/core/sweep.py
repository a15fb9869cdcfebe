"""The sweep: sees that every task that lives goes on, whatever was lost on the way.

A lost submit, a lost event, a dead worker and a dead service look alike here: a task that is due, and a dispatcher
that can be asked. `decide` says what to do and touches nothing; `attend` does it, step by step, each step one move.
Any number of sweeps may run at once, on whatever they last read: who is late loses the conditional write. What is
left to do for tasks that have ended is in aftermath.py.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum

from core import each, moves
from core.batch import has_own_job
from core.change import ROUNDS, change
from core.errors import (
    Conflict,
    DispatchDelayed,
    DispatchUnavailable,
    FenceLost,
    InternalError,
    TaskEnded,
    TaskNotReady,
)
from core.ports import JobState, Services, Sighting
from core.submit import AGAIN_AFTER, submit
from core.task import Status, Task

log = logging.getLogger(__name__)

# A job that runs while its task is still queued is about to claim it, or never will.
CLAIM_GRACE = timedelta(seconds=60)
GONE = Sighting(JobState.GONE)
PARALLEL = 8
# No task takes more steps than: lost, asked about, handed over.
_MOST_STEPS = 5
_EVER = datetime.max.replace(tzinfo=UTC)
_ALL = 2**31


class Step(Enum):
    REST = "rest"  # nothing is to be done now
    LOSE = "lose"  # its worker is gone
    ASK = "ask"  # does the dispatcher still have its job?
    SUBMIT = "submit"
    POSTPONE = "postpone"  # its job has ended without having claimed it
    WAIT = "wait"  # its job will come
    GIVE_UP = "give_up"


def decide(task: Task, *, now: datetime, job: Sighting | None) -> Step:
    """The next step for the task, given what is known of its newest job, if anything is."""
    gone = job is not None and job.state is JobState.GONE
    if task.status is Status.RUNNING:
        return Step.LOSE if gone or _is_due(task.lease_expires_at, now) else Step.REST
    if task.status is not Status.QUEUED:
        return Step.REST
    if not _is_due(task.dispatch_due_at, now):
        return _before_it_is_due(task, job) if job and task.job_id else Step.REST
    if task.job_id and job is None:
        return Step.ASK
    if job and _will_claim(task, job, now=now):
        return Step.WAIT if job.state is JobState.COMING else Step.REST
    return Step.GIVE_UP if moves.is_hopeless(task, now=now) else Step.SUBMIT


def _before_it_is_due(task: Task, job: Sighting) -> Step:
    if job.state is JobState.GONE:
        return Step.POSTPONE
    news = job.state is JobState.COMING and job.reason and job.reason != task.queue_reason
    return Step.WAIT if news else Step.REST


def _is_due(time: datetime | None, now: datetime) -> bool:
    return time is None or time <= now


def _will_claim(task: Task, job: Sighting, *, now: datetime) -> bool:
    if job.state is JobState.RUNNING:
        return task.dispatch_due_at is not None and now - task.dispatch_due_at < CLAIM_GRACE
    return job.state is JobState.COMING


def attend(services: Services, task: Task, *, now: datetime, job: Sighting | None = None) -> Task:
    """The task after all that could be done for it now; `job` is what the caller knows of its newest job.

    Raises Conflict or TaskNotFound when somebody else moved it meanwhile, DispatchUnavailable and DispatchDelayed
    when the dispatcher cannot be asked; the task stays due then.
    """
    for _ in range(_MOST_STEPS):
        step = decide(task, now=now, job=job)
        if step is Step.ASK:
            job = services.dispatcher.look([task]).get(task.task_id, GONE)
            continue
        if step is Step.REST:
            break
        log.info("sweep", extra={"action": f"sweep_{step.value}", "task_id": task.task_id})
        task = _act(services, task, step, now=now, job=job)
        job = None
    return task


def _act(services: Services, task: Task, step: Step, *, now: datetime, job: Sighting | None) -> Task:
    if step is Step.SUBMIT:
        if job and job.state is JobState.RUNNING and has_own_job(task):  # and yet it has not claimed the task: it hangs
            with suppress(DispatchDelayed, DispatchUnavailable):
                services.dispatcher.stop(task)
        return submit(services, task, now=now)
    if step is Step.LOSE:
        new = moves.lose(task, now=now, fence=task.fence, gone=job == GONE)
    elif step is Step.POSTPONE:
        new = moves.unsubmitted(task, now=now, delay=AGAIN_AFTER, reason="The worker ended before it took the task.")
    elif step is Step.WAIT:
        new = moves.waiting(task, now=now, reason=job.reason if job else None)
    else:
        new = moves.give_up(task, now=now)
    return services.store.replace(new, task)


def sweep(services: Services, *, now: datetime, limit: int = 500) -> int:
    """Attend to what is due, the longest due first, at most `limit` tasks; returns how many of them moved."""
    tasks = services.store.due(now, limit=limit)
    to_ask = [task for task in tasks if decide(task, now=now, job=None) is Step.ASK]
    jobs = _asked(services, to_ask)
    if jobs is None:
        tasks = [task for task in tasks if task not in to_ask]
    return each.moved(
        tasks, lambda task: attend(services, task, now=now, job=(jobs or {}).get(task.task_id)), parallel=PARALLEL
    )


def look_after(services: Services, task_id: str, *, now: datetime, job: Sighting | None = None) -> Task:
    """Attend to one task, of whose newest job the caller may know something, whether it is due or not.

    Raises TaskNotFound, and DispatchUnavailable and DispatchDelayed with the task still due.
    """
    return _until_unchanged(services, task_id, lambda task: attend(services, task, now=now, job=job))


def ask_after(services: Services, task_id: str, *, now: datetime) -> Task:
    """Attend to one task by what the dispatcher says of its newest job at this moment; raises as look_after does."""

    def asked(task: Task) -> Task:
        if not task.status.live:
            return task
        return attend(services, task, now=now, job=services.dispatcher.look([task])[task.task_id])

    return _until_unchanged(services, task_id, asked)


def _until_unchanged(services: Services, task_id: str, attend: Callable[[Task], Task]) -> Task:
    for _ in range(ROUNDS):
        try:
            return attend(services.store.get(task_id))
        except Conflict:
            continue
    raise InternalError("The task changed too often to be looked after.", details={"task_id": task_id})


def _asked(services: Services, tasks: Sequence[Task]) -> Mapping[str, Sighting] | None:
    """What the dispatcher says of them all, asked in one; None when it cannot be asked, and need not be once more."""
    try:
        return services.dispatcher.look(tasks) if tasks else {}
    except (DispatchDelayed, DispatchUnavailable) as error:
        log.warning("the dispatcher cannot be asked", extra={"action": "sweep_ask"}, exc_info=error)
        return None


def reconcile(services: Services, *, now: datetime) -> list[Task]:
    """Set everything going again at the start of a service whose workers are all gone.

    Tasks are handed over in the order in which they were executed; one that waits for its next try gets it now.
    """
    tasks = [_without_worker(services, task, now=now) for task in services.store.due(_EVER, limit=_ALL)]
    queued = [task for task in tasks if task.status is Status.QUEUED]
    return [submit(services, task, now=now) for task in sorted(queued, key=lambda task: task.queued_at or now)]


def _without_worker(services: Services, task: Task, *, now: datetime) -> Task:
    if task.status is not Status.RUNNING:
        return task
    try:
        return change(
            services.store, task.task_id, lambda found: moves.lose(found, now=now, fence=task.fence, gone=True)
        )
    except (FenceLost, TaskEnded, TaskNotReady):  # its worker, which died with the service, had a last word
        return services.store.get(task.task_id)
