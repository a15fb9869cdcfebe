"""A world small enough to visit whole: one task, two calls of execute, some jobs, and all that goes wrong.

The moves and decisions are the real ones, as a `Table` in which a test can exchange one for a wrong one. What is
modelled is what they meet: answers that are lost, workers that are killed at any moment or taken for dead, leases that
run out and are renewed. Each action is one write or one call to somebody else, so that anything may come between.

What is asserted after each is in invariants.py; explore.py visits all there is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from core import aftermath, moves, sweep
from core.errors import ServiceError
from core.ports import JobState, Sighting
from core.submit import AGAIN_AFTER
from core.task import (
    Failure,
    FailureCode,
    Output,
    Progress,
    Stage,
    Status,
    Task,
    Timings,
)
from support import invariants
from support.builders import NOW
from support.invariants import hold

MOST_TRIES = 2  # of the notice
SOON = NOW + timedelta(hours=1)
DUE = NOW
LONG_DUE = NOW - 2 * sweep.CLAIM_GRACE
LONG_AGO = NOW - moves.GIVE_UP_AFTER
RETRYABLE = Failure.of(FailureCode.DOWNLOAD_FAILED, "The source did not answer.")
FINAL = Failure.of(FailureCode.MEDIA_INVALID, "The input is not a video.")


def key_by_fence(task: Task, fence: int) -> int:
    return fence


@dataclass(frozen=True, slots=True)
class Table:
    """What decides; each entry is the real one unless a mutant replaces it."""

    execute: Callable[..., Task] = moves.execute
    submitted: Callable[..., Task] = moves.submitted
    unsubmitted: Callable[..., Task] = moves.unsubmitted
    waiting: Callable[..., Task] = moves.waiting
    give_up: Callable[..., Task] = moves.give_up
    claim: Callable[..., Task] = moves.claim
    report: Callable[..., Task] = moves.report
    complete: Callable[..., Task] = moves.complete
    fail: Callable[..., Task] = moves.fail
    release: Callable[..., Task] = moves.release
    lose: Callable[..., Task] = moves.lose
    cancel: Callable[..., Task] = moves.cancel
    notifying: Callable[..., Task] = moves.notifying
    delete: Callable[..., Task] = moves.delete
    decide: Callable[..., sweep.Step] = sweep.decide
    decide_after: Callable[..., aftermath.Step] = aftermath.decide
    key: Callable[[Task, int], int] = key_by_fence  # under which folder a worker stores, published or not
    stores_first: bool = True  # the objects before the status


class Phase(Enum):
    COMING = 0
    STARTED = 1
    CLAIMED = 2
    STORED = 3  # its objects are in the store
    COMPLETED = 4  # only where the status is written before the objects


@dataclass(frozen=True, slots=True)
class Job:
    job_id: str
    phase: Phase = Phase.COMING
    fence: int = 0
    known: bool = True  # to the dispatcher; one that it has given up may go on for all that


@dataclass(frozen=True, slots=True)
class HandOver:
    """Somebody who has read the task as queued, and asks for a worker. `told` is a job id, or "" for no answer."""

    fresh: bool = True  # whether the task is still what they read
    told: str | None = None


@dataclass(frozen=True, slots=True)
class World:
    task: Task
    jobs: tuple[Job, ...] = ()
    hands: tuple[HandOver, ...] = ()
    objects: frozenset[int] = frozenset()
    room: int = 2  # how many jobs there may be at once
    executes: int = 2
    cancels: int = 1
    mail: bool | None = None  # a notice under way: whether the task is still what its sender read
    sent: int = 0


Move = tuple[str, World]


# What can happen in a world, by whom.


def actions(world: World, table: Table) -> Iterator[Move]:
    yield from _callers(world, table)
    yield from _hand_overs(world, table)
    for job in world.jobs:
        yield from _worker(world, table, job)
    yield from _sweep(world, table)
    if world.task.status.ended or table.decide_after is not aftermath.decide:
        yield from _aftermath(world, table)
    yield from _time(world)


def _callers(world: World, table: Table) -> Iterator[Move]:
    task = world.task
    if world.executes and len(world.hands) < 2:
        called = replace(world, executes=world.executes - 1)
        due = task.dispatch_due_at is not None and task.dispatch_due_at <= NOW
        if task.status is Status.QUEUED and due:
            yield "execute again", _asks(called)
        elif task.status in (Status.QUEUED, Status.RUNNING):
            yield "execute for nothing", called
        elif new := _tried(lambda: table.execute(task, now=NOW)):
            yield "execute", _asks(_written(called, new))
    if world.cancels and (new := _tried(lambda: table.cancel(task, now=NOW))):
        yield "cancel", _written(replace(world, cancels=0), new)


def _hand_overs(world: World, table: Table) -> Iterator[Move]:
    for index, hand in enumerate(world.hands):
        others = (*world.hands[:index], *world.hands[index + 1 :])
        without = replace(world, hands=others)
        yield "whoever hands it over dies", without
        if hand.told is None:
            yield "throttled", replace(world, hands=(*others, replace(hand, told="")))
            if len(world.jobs) < world.room:
                job = Job(job_id=f"new-{len(world.jobs)}")
                with_job = replace(world, jobs=(*world.jobs, job))
                yield "submitted", replace(with_job, hands=(*others, replace(hand, told=job.job_id)))
                yield "submitted, answer lost", replace(with_job, hands=(*others, replace(hand, told="")))
        elif hand.fresh:
            yield "hand-over noted", _written(without, _noted(world.task, table, hand.told))


def _noted(task: Task, table: Table, told: str) -> Task:
    if told:
        return table.submitted(task, now=NOW, job_id=told)
    return table.unsubmitted(task, now=NOW, delay=timedelta(seconds=20))


def _worker(world: World, table: Table, job: Job) -> Iterator[Move]:
    if job.phase is Phase.COMING:
        yield "worker starts", _with(world, replace(job, phase=Phase.STARTED))
        return
    yield "kill", _without(world, job)
    yield "kill, and the same job again", _with(world, replace(job, phase=Phase.COMING, fence=0))
    if job.known and job.phase is not Phase.STARTED:
        yield "taken for dead", _with(world, replace(job, known=False))
    if job.phase is Phase.STARTED:
        new = _tried(lambda: table.claim(world.task, now=NOW, owner="w", job_id=job.job_id))
        claimed = new and replace(job, phase=Phase.CLAIMED, fence=new.fence)
        yield "claim", _written(_with(world, claimed), new) if new and claimed else _without(world, job)
        return
    yield from _work(world, table, job)


def _work(world: World, table: Table, job: Job) -> Iterator[Move]:
    task, fence = world.task, job.fence

    def settles(name: str, move: Callable[[], Task], *, discards: bool = True) -> Move:
        new = _tried(move)
        left = _discarded(_without(world, job), job, table) if discards or new is None else _without(world, job)
        return name, _written(left, new, by=fence) if new else left

    def completed() -> Task:
        output = Output(filename="output.mp4", key=str(table.key(task, fence)), size_bytes=1, sha256="")
        return table.complete(task, now=NOW, fence=fence, outputs=(output,), output_count=1, timings=Timings())

    def failed(error: Failure) -> Task:
        retry_after = timedelta(seconds=15)
        return table.fail(task, now=NOW, fence=fence, error=error, timings=Timings(), retry_after=retry_after)

    if job.phase is Phase.COMPLETED:
        yield "store late", _stores(_without(world, job), job, table)
        return
    yield _reports(world, table, job)
    yield settles("release", lambda: table.release(task, now=NOW, fence=fence))
    yield settles("fail for now", lambda: failed(RETRYABLE))
    yield settles("fail for good", lambda: failed(FINAL))
    if job.phase is Phase.STORED:
        yield settles("complete", completed, discards=False)
    elif table.stores_first:
        yield "store", _stores(_with(world, replace(job, phase=Phase.STORED)), job, table)
    elif new := _tried(completed):
        yield "complete early", _written(_with(world, replace(job, phase=Phase.COMPLETED)), new, by=fence)


def _reports(world: World, table: Table, job: Job) -> Move:
    """Two reports, of which the second has an older progress than the first."""

    def report(task: Task, percent: float) -> Task:
        progress = Progress(percent=percent)
        return table.report(
            task, now=NOW, fence=job.fence, stage=Stage.TRANSCODING, progress=progress, timings=Timings()
        )

    new = _tried(lambda: report(world.task, 50.0))
    if new is None:
        return "report refused", _discarded(_without(world, job), job, table)
    first = _written(world, new, by=job.fence)
    return "report", _written(first, report(new, 20.0), by=job.fence)


def _sweep(world: World, table: Table) -> Iterator[Move]:
    """By the schedule, which asks when it has to; and by an event, which makes us look at once."""
    for name, known in (("sweep", None), ("event", sighting(world))):
        job = known
        step = table.decide(world.task, now=NOW, job=job)
        if step is sweep.Step.ASK:
            job = sighting(world)
            step = table.decide(world.task, now=NOW, job=job)
        if step is sweep.Step.SUBMIT:
            if len(world.hands) < 2:
                yield f"{name}: submit", _asks(world)
        elif new := _tried(lambda step=step, job=job: _swept(world.task, table, step, job)):  # type: ignore[misc]
            yield f"{name}: {step.value}", _written(world, new)


def _swept(task: Task, table: Table, step: sweep.Step, job: Sighting | None) -> Task | None:
    if step is sweep.Step.LOSE:
        return table.lose(task, now=NOW, fence=task.fence, gone=job == sweep.GONE)
    if step is sweep.Step.POSTPONE:
        return table.unsubmitted(task, now=NOW, delay=AGAIN_AFTER)
    if step is sweep.Step.WAIT:
        return table.waiting(task, now=NOW, reason=None)
    return table.give_up(task, now=NOW) if step is sweep.Step.GIVE_UP else None


def _aftermath(world: World, table: Table) -> Iterator[Move]:
    task, step = world.task, table.decide_after(world.task, now=NOW)
    if world.mail is not None:
        yield "the sender dies", replace(world, mail=None)
        if world.mail:
            yield "delivered", _written(replace(world, mail=None), moves.notified(task, now=NOW, channel="webhook"))
    elif step is aftermath.Step.NOTIFY and task.notices[0].tries < MOST_TRIES:
        new = table.notifying(task, channel="webhook", next_try_at=SOON)
        yield "notice sent", replace(_written(world, new), mail=True, sent=world.sent + 1)
    elif step is aftermath.Step.NOTIFY:
        new = moves.unnotified(task, channel="webhook", error="Refused.", abandon=True)
        yield "notice given up", _written(world, new)
    elif step is aftermath.Step.TIDY:
        kept = {task.fence} if task.status is Status.COMPLETED and not task.purged_at else set()
        yield "tidy", _written(replace(world, objects=world.objects & kept), moves.tidied(task))
    elif step is aftermath.Step.PURGE:
        purged = _tried(lambda: moves.purged(task, now=NOW))
        gone = replace(world, objects=frozenset[int]())
        yield "purge", _written(gone, purged) if purged else gone
    told = all(one.due_at is None for one in task.notices)
    if task.status.ended and told and not task.purged_at and world.mail is None:
        # The record says so first; the objects are gone with it, or when the sweep tidies. Notices make no difference.
        yield "delete", _written(world, table.delete(task, now=NOW))


def _time(world: World) -> Iterator[Move]:
    task = world.task
    if task.dispatch_due_at in (SOON, DUE):
        later = DUE if task.dispatch_due_at == SOON else LONG_DUE
        if later == DUE or sighting(world).state is JobState.RUNNING:  # otherwise it makes no difference
            yield "the hand-over is due", replace(world, task=replace(task, dispatch_due_at=later))
    if task.lease_expires_at == SOON:
        yield "the lease runs out", replace(world, task=replace(task, lease_expires_at=DUE))
    if task.status is Status.QUEUED and not moves.is_hopeless(task, now=NOW):
        waited = waiting_since(replace(task, dispatch_due_at=DUE), LONG_AGO)
        yield "a day goes by", replace(world, task=waited, hands=())
    if task.status.ended:
        notices = tuple(replace(one, due_at=one.due_at and DUE) for one in task.notices)
        later_task = replace(
            task, notices=notices, tidy_due_at=task.tidy_due_at and DUE, expires_at=task.expires_at and DUE
        )
        if later_task != task:
            yield "a day after its end", replace(world, task=later_task)


# What an action does to the world.


def _asks(world: World) -> World:
    return replace(world, hands=(*world.hands, HandOver()))


def _tried(move: Callable[[], Task | None]) -> Task | None:
    try:
        return move()
    except ServiceError:
        return None


def _written(world: World, new: Task, *, by: int | None = None) -> World:
    """The world after one conditional write, which nobody overtook; what others have read is old from now on."""
    invariants.step(world.task, new, by=by)
    stale = tuple(replace(hand, fresh=False) for hand in world.hands)
    return replace(world, task=new, hands=stale, mail=None if world.mail is None else False)


def _with(world: World, job: Job) -> World:
    return replace(world, jobs=tuple(job if one.job_id == job.job_id else one for one in world.jobs))


def _without(world: World, job: Job) -> World:
    return replace(world, jobs=tuple(one for one in world.jobs if one.job_id != job.job_id))


def _stores(world: World, job: Job, table: Table) -> World:
    key = table.key(world.task, job.fence)
    hold(12, key not in world.objects, "two workers wrote one key")
    return replace(world, objects=world.objects | {key})


def _discarded(world: World, job: Job, table: Table) -> World:
    return replace(world, objects=world.objects - {table.key(world.task, job.fence)})


def sighting(world: World) -> Sighting:
    job = next((job for job in world.jobs if job.job_id == world.task.job_id and job.known), None)
    if job is None:
        return sweep.GONE
    return Sighting(JobState.COMING if job.phase is Phase.COMING else JobState.RUNNING)


def check(world: World) -> None:
    task = world.task
    if task.status is Status.COMPLETED and not task.purged_at:
        hold(2, int(task.outputs[0].key) in world.objects, "completed, and the object is not there")
    hold(9, len(task.outputs) <= 1, "more than one output is published")
    hold(9, world.sent <= task.notices[0].tries, "a notice was sent that was not counted")
    holders = [job for job in world.jobs if job.phase in (Phase.CLAIMED, Phase.STORED) and job.fence == task.fence]
    hold(4, len(holders) <= 1, "two workers hold one fence")


def waiting_since(task: Task, time: datetime) -> Task:
    if not task.attempts:
        return replace(task, queued_at=time)
    return replace(task, attempts=(*task.attempts[:-1], replace(task.attempts[-1], finished_at=time)))
