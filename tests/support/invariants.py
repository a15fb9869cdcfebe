"""What is promised of every task, one assertion each, by the numbers that the tests name them with.

`step` judges one write, `state` a task as it is stored, `published` what lies in the object store for it. Those that
need a whole run (10: it ends, 11: no worker of a canceled one, 13: nothing is left, 14: no secrets, 16: stored first)
are where that run is, in the tests.
"""

from collections.abc import Mapping
from dataclasses import replace

from core.ports import Services, StoredObject
from core.task import MAX_CLAIMS, FailureCode, Status, Task

P, Q, R = Status.PENDING, Status.QUEUED, Status.RUNNING
ENDS = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELED})
FOLLOWS: Mapping[Status, frozenset[Status]] = {
    P: frozenset({P, Q, Status.CANCELED}),
    Q: frozenset({Q, R, Status.FAILED, Status.CANCELED}),
    R: frozenset({R, Q}) | ENDS,
} | {end: frozenset({end}) for end in ENDS}


class Broken(AssertionError):
    """An invariant does not hold; `number` says which."""

    def __init__(self, number: int, what: str) -> None:
        self.number = number
        super().__init__(f"invariant {number}: {what}")


def hold(number: int, truth: object, what: str) -> None:
    if not truth:
        raise Broken(number, what)


def step(before: Task, after: Task, *, by: int | None = None) -> None:
    """One write of a task; `by` is the fence of the worker that wrote it, None for everybody else."""
    hold(1, not before.status.ended or _for_good(before) == _for_good(after), "what has ended never changes")
    claims = len(after.attempts) - len(before.attempts)
    hold(4, claims in (0, 1) and after.fence - before.fence == claims, "each claim has a number of its own")
    is_claim = claims == 1
    theirs = by is None or before.status is not R or is_claim or by == before.fence
    hold(5, theirs, "of all workers only the holder changes a running task")
    hold(7, after.status in FOLLOWS[before.status], f"{before.status} is not followed by {after.status}")
    if before.status is after.status is R and not is_claim:
        for name in ("percent", "frame", "out_time_seconds"):
            old, new = getattr(before.progress, name), getattr(after.progress, name)
            hold(8, old is None or (new is not None and new >= old), f"{name} went back from {old} to {new}")
    state(after)


def state(task: Task) -> None:
    done = task.status is Status.COMPLETED
    hold(3, done or not (task.outputs or task.output_count), "an output is shown of what is not completed")
    hold(6, task.fence <= MAX_CLAIMS, f"{task.fence} claims")
    hold(8, (task.progress.percent == 100.0) is done, "100 percent is for what is completed, and for that only")
    hold(10, not task.status.live or task.due_at, "a live task that nobody will look after")
    hold(10, task.status is not Q or task.fence < MAX_CLAIMS, "it waits for a worker, and none may claim it")
    held = task.status is R
    hold(13, held or not (task.owner or task.lease_expires_at or task.stage), "a lease without a running task")
    open_attempts = [attempt.number for attempt in task.attempts if attempt.ending is None]
    hold(4, open_attempts == ([task.fence] if held else []), "the newest attempt is open while it runs, and no other")
    hold(4, [attempt.number for attempt in task.attempts] == list(range(1, task.fence + 1)), "an attempt is missing")
    hold(15, (task.error is not None) is (task.status is Status.FAILED), "what has failed says why, and only that")
    if task.error:
        says_why = task.error.code in FailureCode and task.error.message.strip().endswith(".")
        hold(15, says_why and isinstance(task.error.retryable, bool), "a failure has a code and a sentence")


def published(services: Services, task: Task) -> None:
    """All that a completed task shows is in the store, whole, and under the fence that completed it."""
    if task.status is not Status.COMPLETED or task.purged_at:
        return
    hold(2, task.outputs, "completed without an output")
    for output in task.outputs:
        hold(2, output.key.startswith(f"{services.folder(task)}/{task.fence}/"), "an output of another fence")
        expected = StoredObject(size_bytes=output.size_bytes, sha256=output.sha256)
        hold(2, services.objects_of(task).head(output.key) == expected, "an output is not there, or is another one")


def _for_good(task: Task) -> Task:
    """What stays when a task has ended: all but what was told of it, and what was cleared away."""
    return replace(task, version=0, tidy_due_at=None, purged_at=None, notices=())
