"""The real moves and decisions in every situation that a small world can get into; and wrong ones, each found out.

MODEL_ROOM=3 in the environment lets there be three jobs at once: 57,000 worlds, and some minutes.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from core import aftermath, moves, sweep
from core.ports import Sighting
from core.task import MAX_CLAIMS, Status, Task
from support.explore import explore
from support.model import Table

ROOM = int(os.environ.get("MODEL_ROOM", "2"))


def test_in_every_world_the_promises_hold_and_the_task_can_end() -> None:
    found = explore(Table(), room=ROOM)
    assert (found.broken, found.path) == (None, ())
    assert found.count >= 20_000
    assert {task.status for task in found.tasks} == set(Status)
    assert {task.fence for task in found.tasks} == set(range(MAX_CLAIMS + 1))


# Wrong moves. Each takes what the real one takes.


def _as_if(task: Task, status: Status, **changes: object) -> Task:
    return replace(task, status=status, **changes)  # type: ignore[arg-type]


def complete_without_fence(task: Task, *, fence: int, **rest: object) -> Task:
    return moves.complete(task, fence=task.fence, **rest)  # type: ignore[arg-type]


def complete_unconditional(task: Task, *, fence: int, **rest: object) -> Task:
    return moves.complete(_as_if(task, Status.RUNNING), fence=task.fence, **rest)  # type: ignore[arg-type]


def report_without_fence(task: Task, *, fence: int, **rest: object) -> Task:
    return moves.report(task, fence=task.fence, **rest)  # type: ignore[arg-type]


def claim_without_increment(task: Task, *, now: datetime, owner: str, job_id: str | None) -> Task:
    claimed = moves.claim(task, now=now, owner=owner, job_id=job_id)
    return replace(claimed, fence=max(task.fence, 1))


def claim_without_limit(task: Task, *, now: datetime, owner: str, job_id: str | None) -> Task:
    claimed = moves.claim(replace(task, fence=0), now=now, owner=owner, job_id=job_id)
    last = replace(claimed.attempts[-1], number=task.fence + 1)
    return replace(claimed, fence=task.fence + 1, attempts=(*claimed.attempts[:-1], last))


def claim_without_lease(task: Task, *, now: datetime, owner: str, job_id: str | None) -> Task:
    return moves.claim(replace(task, lease_expires_at=None), now=now, owner=owner, job_id=job_id)


def execute_unconditional(task: Task, *, now: datetime) -> Task:
    return moves.execute(_as_if(task, Status.PENDING), now=now)


def cancel_unconditional(task: Task, *, now: datetime) -> Task:
    return moves.cancel(_as_if(task, Status.RUNNING), now=now)


def report_backwards(task: Task, **rest: object) -> Task:
    return replace(moves.report(task, **rest), progress=rest["progress"])  # type: ignore[arg-type]


def retry_for_ever(task: Task, *, fence: int, **rest: object) -> Task:
    failed = moves.fail(replace(task, fence=1), fence=1 if task.fence == fence else 0, **rest)  # type: ignore[arg-type]
    return replace(failed, fence=task.fence)


def lose_but_stay(task: Task, *, now: datetime, fence: int, gone: bool) -> Task:
    lost = moves.lose(task, now=now, fence=fence, gone=gone)
    return replace(lost, owner=task.owner, lease_expires_at=task.lease_expires_at)


def no_lease_reconcile(task: Task, *, now: datetime, job: Sighting | None) -> sweep.Step:
    return sweep.Step.REST if task.status is Status.RUNNING else sweep.decide(task, now=now, job=job)


def no_dispatch_sweep(task: Task, *, now: datetime, job: Sighting | None) -> sweep.Step:
    return sweep.Step.REST if task.status is Status.QUEUED else sweep.decide(task, now=now, job=job)


def wait_for_jobs_that_are_gone(task: Task, *, now: datetime, job: Sighting | None) -> sweep.Step:
    step = sweep.decide(task, now=now, job=job)
    return sweep.Step.WAIT if step in (sweep.Step.SUBMIT, sweep.Step.GIVE_UP) and task.job_id else step


def unsubmitted_without_due(task: Task, *, now: datetime, delay: timedelta) -> Task:
    return replace(moves.unsubmitted(task, now=now, delay=delay), dispatch_due_at=None)


def purge_while_running(task: Task, *, now: datetime) -> aftermath.Step:
    return aftermath.Step.PURGE if task.status is Status.RUNNING else aftermath.decide(task, now=now)


def notice_not_counted(task: Task, *, channel: str, next_try_at: datetime) -> Task:
    return replace(task, notices=tuple(replace(one, due_at=next_try_at) for one in task.notices))


# The wrong table, and the number of the invariant that it breaks.
MUTANTS: Mapping[str, tuple[int, Table]] = {
    "complete without a look at the fence": (5, Table(complete=complete_without_fence)),
    "complete whatever the task is": (1, Table(complete=complete_unconditional)),
    "report without a look at the fence": (5, Table(report=report_without_fence)),
    "one folder for all fences": (12, Table(key=lambda task, fence: 0)),
    "claim without a new fence": (4, Table(claim=claim_without_increment)),
    "claim without a limit": (6, Table(claim=claim_without_limit)),
    "execute whatever the task is": (1, Table(execute=execute_unconditional)),
    "cancel whatever the task is": (1, Table(cancel=cancel_unconditional)),
    "the status before the objects": (2, Table(stores_first=False)),
    "no look at leases": (10, Table(decide=no_lease_reconcile)),
    "no look at lost hand-overs": (10, Table(decide=no_dispatch_sweep)),
    "patience with jobs that are gone": (10, Table(decide=wait_for_jobs_that_are_gone)),
    "nobody looks after a delayed hand-over": (10, Table(unsubmitted=unsubmitted_without_due)),
    "retry for ever": (10, Table(fail=retry_for_ever)),
    "progress that goes back": (8, Table(report=report_backwards)),
    "a lost worker keeps its lease": (13, Table(lose=lose_but_stay)),
    "purge while it runs": (2, Table(decide_after=purge_while_running)),
    "a notice that is not counted before it is sent": (9, Table(notifying=notice_not_counted)),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_table_is_found_out(name: str) -> None:
    number, table = MUTANTS[name]
    # One job at a time shows that a task can never end as well as more do, and there are fewer worlds to look at.
    found = explore(table, room=1 if number == 10 else 2)
    assert found.broken is not None, f"{found.count} worlds, and nobody noticed"
    assert found.broken.number == number, (str(found.broken), found.path)


def test_a_claim_in_spite_of_a_lease_wastes_work_and_does_no_harm() -> None:
    """The lease is for efficiency; what keeps the task safe is the fence."""
    found = explore(Table(claim=claim_without_lease), room=1)
    assert (found.broken, found.path) == (None, ())
