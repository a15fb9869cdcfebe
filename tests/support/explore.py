"""Every world there is, from the beginning: those that behave alike are one, so that their number is finite.

A time is only before or after now, a hand-over knows whether what it read is still so, and a job that nobody can hear
of any more is not kept.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from core.ports import JobState
from core.task import Attempt, Ending, FailureCode, Notice, Progress, Status, Task
from support.builders import NOW, a_task
from support.invariants import Broken
from support.model import DUE, LONG_AGO, LONG_DUE, SOON, Job, Table, World, actions, check, sighting, waiting_since


def beginning(*, room: int) -> World:
    return _canonical(
        World(room=room, task=a_task(task_id="t", notices=(Notice(channel="webhook"),), result_ttl_seconds=3600))
    )


def _canonical(world: World) -> World:
    task, ended = world.task, world.task.status.ended
    # Who has not claimed an ended task never will; of what a dead worker left under an old fence nothing is expected.
    jobs = [job for job in world.jobs if not ended or job.fence]
    jobs = sorted((replace(job, known=job.known or job.job_id != task.job_id) for job in jobs), key=_rank)
    names = {job.job_id: f"job-{index}" for index, job in enumerate(jobs)}
    held = {job.fence for job in jobs}
    hands = (replace(hand, told=names.get(hand.told, "gone")) if hand.told else hand for hand in world.hands)
    awaited = sorted((hand for hand in hands if not ended and (hand.fresh or hand.told is None)), key=repr)
    if task.dispatch_due_at and task.dispatch_due_at <= LONG_DUE and sighting(world).state is not JobState.RUNNING:
        task = replace(task, dispatch_due_at=DUE)
    return replace(
        world,
        task=_plain(task, names),
        jobs=tuple(replace(job, job_id=names[job.job_id]) for job in jobs),
        hands=tuple(awaited),
        objects=frozenset(key for key in world.objects if not 0 < key < task.fence or key in held),
        executes=min(world.executes, 1) if ended else world.executes,
    )


def _key(world: World) -> tuple[object, ...]:
    """What tells one canonical world from another."""
    task = world.task
    times = (task.queued_at, task.dispatch_due_at, task.lease_expires_at, task.tidy_due_at, task.expires_at)
    facts = (task.status, task.fence, task.job_id, task.purged_at, task.attempts, task.outputs, task.notices)
    around = (world.jobs, world.hands, world.objects, world.executes, world.cancels, world.mail, world.sent)
    return times + facts + around


def _rank(job: Job) -> tuple[int, int, bool, str]:
    return job.phase.value, job.fence, job.known, job.job_id


def _plain(task: Task, names: Mapping[str, str]) -> Task:
    since = task.waiting_since
    task = replace(
        task,
        version=0,
        job_id=names.get(task.job_id, "gone") if task.job_id else None,
        queue_reason=None,
        started_at=None,
        progress=task.progress if task.status.ended else Progress(),
        dispatch_due_at=_coarse(task.dispatch_due_at),
        lease_expires_at=_coarse(task.lease_expires_at),
        tidy_due_at=_coarse(task.tidy_due_at),
        expires_at=_coarse(task.expires_at),
        notices=tuple(replace(one, due_at=_coarse(one.due_at), delivered_at=None, error=None) for one in task.notices),
        attempts=tuple(_plain_attempt(attempt) for attempt in task.attempts),
        error=task.error and replace(task.error, code=FailureCode.WORKER_LOST, message="So.", details={}),
        queued_at=task.queued_at and NOW,
    )
    hopeless = since is not None and since <= LONG_AGO and task.status is Status.QUEUED
    return waiting_since(task, LONG_AGO) if hopeless else task


def _plain_attempt(attempt: Attempt) -> Attempt:
    ended = attempt.ending and Ending.LOST
    return Attempt(number=attempt.number, owner="w", started_at=NOW, finished_at=NOW if ended else None, ending=ended)


def _coarse(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    return SOON if time > NOW else DUE if time > LONG_DUE else LONG_DUE


# All worlds there are.


# What a task must not need in order to end: a caller, an event, or that it is given up.
_NOT_COUNTED_ON = ("cancel", "execute", "event", "a day goes by")


@dataclass(slots=True)
class Explored:
    worlds: dict[tuple[object, ...], int] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    edges: list[list[int]] = field(default_factory=list)  # where each world can go by itself
    broken: Broken | None = None
    path: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.worlds)


def explore(table: Table, *, room: int = 2) -> Explored:
    """Visit every world, the nearest first, until an invariant is broken; and then see that each can come to an end."""
    found, first = Explored(), beginning(room=room)
    found.worlds[_key(first)] = 0
    waiting: deque[tuple[World, tuple[Any, ...]]] = deque([(first, ())])
    while waiting:
        world, path = waiting.popleft()
        name = "?"
        targets: list[int] = []
        try:
            check(world)
            for name, after in actions(world, table):
                after = _canonical(after)
                key = _key(after)
                if key not in found.worlds:
                    found.worlds[key] = len(found.worlds)
                    waiting.append((after, (path, name)))
                if not name.startswith(_NOT_COUNTED_ON):
                    targets.append(found.worlds[key])
        except Broken as broken:
            found.broken, found.path = broken, _unrolled((path, f"after {name}"))
            return found
        found.tasks.append(world.task)
        found.edges.append(targets)
    _judge_ends(found)
    return found


def _judge_ends(found: Explored) -> None:
    """10: from wherever an executed task is, it can come to an end with nobody to call it off and no event."""
    sources: list[list[int]] = [[] for _ in found.edges]
    for source, targets in enumerate(found.edges):
        for target in targets:
            sources[target].append(source)
    waiting = [index for index, task in enumerate(found.tasks) if task.status.ended]
    good = set(waiting)
    while waiting:
        for source in sources[waiting.pop()]:
            if source not in good:
                good.add(source)
                waiting.append(source)
    stuck = [index for index, task in enumerate(found.tasks) if task.status.live and index not in good]
    if stuck:
        found.broken = Broken(10, f"{len(stuck)} worlds in which the task never ends")


def _unrolled(path: tuple[Any, ...]) -> tuple[str, ...]:
    names: list[str] = []
    while path:
        path, name = path
        names.append(name)
    return tuple(reversed(names))
