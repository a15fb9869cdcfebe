"""The table of moves: each from every status, and what it makes of a task."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import moves
from core.errors import FenceLost, TaskEnded, TaskNotReady
from core.task import (
    HEARTBEAT,
    LEASE,
    MAX_CLAIMS,
    MOVES,
    QUEUE_PATIENCE,
    RETRYABLE,
    SUBMIT_GRACE,
    Failure,
    FailureCode,
    Progress,
    Stage,
    Status,
    Task,
    Timings,
)
from support.builders import NOW, a_task, an_output, task_in

LATER = NOW + timedelta(minutes=10)  # when every lease that began at NOW is over
ERROR = Failure.of(FailureCode.MEDIA_INVALID, "No.")
TIMINGS = Timings(download_seconds=1.0, transcode_seconds=2.0, upload_seconds=3.0)
WORK = Progress(percent=40.0, frame=400, fps=50.0, speed=2.0, out_time_seconds=16.0, eta_seconds=12.0)

# Each move as one call, under the fence of the task that it is given.
CALLS: Mapping[str, Callable[[Task], Task]] = {
    "execute": lambda task: moves.execute(task, now=LATER),
    "submitted": lambda task: moves.submitted(task, now=LATER, job_id="job-1"),
    "unsubmitted": lambda task: moves.unsubmitted(task, now=LATER),
    "claim": lambda task: moves.claim(task, now=LATER, owner="worker-2"),
    "report": lambda task: moves.report(
        task, now=LATER, fence=task.fence, stage=Stage.TRANSCODING, progress=WORK, timings=TIMINGS
    ),
    "complete": lambda task: moves.complete(
        task, now=LATER, fence=task.fence, outputs=(an_output(task.task_id),), output_count=1, timings=TIMINGS
    ),
    "fail": lambda task: moves.fail(task, now=LATER, fence=task.fence, error=ERROR, timings=TIMINGS),
    "release": lambda task: moves.release(task, now=LATER, fence=task.fence),
    "lose": lambda task: moves.lose(task, now=LATER, fence=task.fence),
}
HELD = ["report", "complete", "fail", "release", "lose"]  # the moves of whoever holds the task

# What DESIGN says, once more and in full: from where each move may start.
ALLOWED = {
    "execute": {"pending"},
    "submitted": {"queued"},
    "unsubmitted": {"queued"},
    "claim": {"queued", "running"},
    "report": {"running"},
    "complete": {"running"},
    "fail": {"running"},
    "release": {"running"},
    "lose": {"running"},
}


def test_every_move_is_in_the_table() -> None:
    assert set(CALLS) == set(MOVES) == set(ALLOWED)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("move", CALLS)
def test_a_move_is_allowed_from_its_statuses_only(move: str, status: Status) -> None:
    task = task_in(status)
    if status.value in ALLOWED[move]:
        assert CALLS[move](task) != task
        return
    with pytest.raises(TaskEnded if status.ended else TaskNotReady) as caught:
        CALLS[move](task)
    assert caught.value.details == {"task_id": task.task_id, "status": status.value}


def test_the_ended_statuses() -> None:
    assert {status.value for status in Status if status.ended} == {"completed", "failed", "canceled"}


@pytest.mark.parametrize("fence", [0, 2])
@pytest.mark.parametrize("move", HELD)
def test_who_holds_another_fence_may_do_nothing(move: str, fence: int) -> None:
    task = task_in(Status.RUNNING)
    calls: Mapping[str, Callable[[], Task]] = {
        "report": lambda: moves.report(
            task, now=NOW, fence=fence, stage=Stage.UPLOADING, progress=WORK, timings=TIMINGS
        ),
        "complete": lambda: moves.complete(task, now=NOW, fence=fence, outputs=(), output_count=0, timings=TIMINGS),
        "fail": lambda: moves.fail(task, now=NOW, fence=fence, error=ERROR, timings=TIMINGS),
        "release": lambda: moves.release(task, now=NOW, fence=fence),
        "lose": lambda: moves.lose(task, now=NOW, fence=fence),
    }
    with pytest.raises(FenceLost) as caught:
        calls[move]()
    assert caught.value.details == {"task_id": task.task_id, "fence": fence, "newest": 1}


def test_execute_queues_the_task() -> None:
    task = a_task()
    assert moves.execute(task, now=LATER) == replace(
        task, status=Status.QUEUED, queued_at=LATER, dispatch_due_at=LATER + SUBMIT_GRACE
    )


def test_submitted_notes_the_job_and_has_patience() -> None:
    task = task_in(Status.QUEUED)
    assert moves.submitted(task, now=LATER, job_id="job-1") == replace(
        task, job_id="job-1", dispatch_due_at=LATER + QUEUE_PATIENCE
    )


def test_unsubmitted_makes_the_task_due() -> None:
    task = task_in(Status.QUEUED)
    assert moves.unsubmitted(task, now=LATER) == replace(task, dispatch_due_at=LATER)


def test_claim_gives_a_fence_an_owner_and_a_lease() -> None:
    task = replace(task_in(Status.QUEUED), progress=WORK, timings=TIMINGS)
    assert moves.claim(task, now=LATER, owner="worker-1") == replace(
        task,
        status=Status.RUNNING,
        fence=1,
        owner="worker-1",
        started_at=LATER,
        lease_expires_at=LATER + LEASE,
        dispatch_due_at=None,
        stage=Stage.DOWNLOADING,
        progress=Progress(),
        timings=Timings(),
    )


def test_claim_respects_a_lease_until_the_moment_it_is_over() -> None:
    task = task_in(Status.RUNNING)
    with pytest.raises(TaskNotReady):
        moves.claim(task, now=NOW + LEASE - timedelta(microseconds=1), owner="worker-2")
    taken = moves.claim(task, now=NOW + LEASE, owner="worker-2")
    assert (taken.fence, taken.owner, taken.lease_expires_at) == (2, "worker-2", NOW + 2 * LEASE)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_claim_ends_with_the_last_one(status: Status) -> None:
    assert moves.claim(replace(task_in(status), fence=MAX_CLAIMS - 1), now=LATER, owner="w").fence == MAX_CLAIMS
    with pytest.raises(TaskNotReady):
        moves.claim(replace(task_in(status), fence=MAX_CLAIMS), now=LATER, owner="w")


def test_report_keeps_the_lease_alive() -> None:
    task = task_in(Status.RUNNING)
    assert CALLS["report"](task) == replace(
        task, stage=Stage.TRANSCODING, progress=WORK, timings=TIMINGS, lease_expires_at=LATER + LEASE
    )
    assert HEARTBEAT * 3 < LEASE


numbers = st.none() | st.floats(0, 99.9)
steps = st.builds(
    Progress, percent=numbers, frame=st.none() | st.integers(0, 100), out_time_seconds=numbers, fps=numbers
)


@given(st.lists(steps, max_size=8))
def test_progress_never_goes_back_under_one_fence(reported: list[Progress]) -> None:
    task = task_in(Status.RUNNING)
    for step in reported:
        before = task.progress
        task = moves.report(task, now=NOW, fence=1, stage=Stage.TRANSCODING, progress=step, timings=TIMINGS)
        after = task.progress
        for name in ("percent", "frame", "out_time_seconds"):
            old, said, new = (getattr(each, name) for each in (before, step, after))
            assert new == max((value for value in (old, said) if value is not None), default=None)
        assert (after.fps, after.speed, after.eta_seconds) == (step.fps, step.speed, step.eta_seconds)


def test_complete_publishes_the_outputs() -> None:
    task = replace(task_in(Status.RUNNING), progress=WORK)
    outputs = (an_output(task.task_id),)
    assert moves.complete(task, now=LATER, fence=1, outputs=outputs, output_count=7, timings=TIMINGS) == replace(
        task,
        status=Status.COMPLETED,
        outputs=outputs,
        output_count=7,
        timings=TIMINGS,
        progress=replace(WORK, percent=100.0, eta_seconds=0.0),
        finished_at=LATER,
        stage=None,
        owner=None,
        lease_expires_at=None,
    )


def test_fail_says_why() -> None:
    task = replace(task_in(Status.RUNNING), progress=WORK)
    assert CALLS["fail"](task) == replace(
        task,
        status=Status.FAILED,
        error=ERROR,
        timings=TIMINGS,
        finished_at=LATER,
        stage=None,
        owner=None,
        lease_expires_at=None,
    )


@pytest.mark.parametrize("move", ["release", "lose"])
def test_a_task_without_its_worker_is_queued_again(move: str) -> None:
    task = replace(task_in(Status.RUNNING), progress=WORK, job_id="job-1")
    assert CALLS[move](task) == replace(
        task,
        status=Status.QUEUED,
        owner=None,
        job_id=None,
        stage=None,
        progress=Progress(),
        lease_expires_at=None,
        dispatch_due_at=LATER,
    )


@pytest.mark.parametrize("move", ["release", "lose"])
def test_a_task_that_lost_its_last_worker_has_failed(move: str) -> None:
    task = replace(task_in(Status.RUNNING), fence=MAX_CLAIMS)
    lost = CALLS[move](task)
    assert lost.error is not None
    assert (lost.error.code, lost.error.retryable) == (FailureCode.WORKER_LOST, True)
    assert lost == replace(
        task, status=Status.FAILED, error=lost.error, finished_at=LATER, stage=None, owner=None, lease_expires_at=None
    )


def test_a_task_is_due_by_what_it_waits_for() -> None:
    due = {status: replace(task_in(status), dispatch_due_at=NOW, lease_expires_at=LATER).due_at for status in Status}
    nothing = dict.fromkeys(Status)
    assert due == {**nothing, Status.QUEUED: NOW, Status.RUNNING: LATER}


def test_every_failure_code_says_whether_to_try_again() -> None:
    assert set(RETRYABLE) == set(FailureCode)
    assert all(code.name == code.value for code in FailureCode)


@pytest.mark.parametrize("code", FailureCode)
def test_a_failure_is_retryable_as_its_code_unless_it_knows_better(code: FailureCode) -> None:
    assert Failure.of(code, "So.") == Failure(code=code, message="So.", retryable=RETRYABLE[code], details={})
    assert Failure.of(code, "So.", retryable=not RETRYABLE[code]).retryable is not RETRYABLE[code]


@given(st.lists(st.sampled_from(sorted(CALLS)), max_size=25))
def test_however_the_moves_fall_a_task_keeps_its_promises(names: list[str]) -> None:
    task, ended = a_task(), None
    for name in names:
        try:
            after = CALLS[name](task)
        except (TaskEnded, TaskNotReady):
            continue
        assert ended is None, "an ended task changed"
        assert task.fence <= after.fence <= MAX_CLAIMS
        assert (after.fence > task.fence) == (name == "claim")
        assert (after.due_at is None) == (after.status.ended or after.status is Status.PENDING)
        assert bool(after.outputs) == (after.status is Status.COMPLETED)
        assert (after.error is not None) == (after.status is Status.FAILED)
        assert (after.progress.percent == 100.0) == (after.status is Status.COMPLETED)
        kept = ("task_id", "command", "input_files", "output_files", "correlation_id", "created_at", "version")
        assert all(
            getattr(after, field.name) == getattr(task, field.name) for field in fields(Task) if field.name in kept
        )
        task = after
        ended = task if task.status.ended else None
