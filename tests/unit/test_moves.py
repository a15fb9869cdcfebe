"""The table of moves: each from every status, and what it makes of a task."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import moves
from core.destination import Destination
from core.errors import FenceLost, TaskEnded, TaskNotReady
from core.moves import ENDED, GIVE_UP_AFTER, HEARTBEAT, LEASE, MOVES, QUEUE_PATIENCE, SUBMIT_GRACE, TIDY_AFTER
from core.task import (
    KEEP_RECORD,
    MAX_CLAIMS,
    RETRIES,
    Attempt,
    Ending,
    Failure,
    FailureCode,
    Notice,
    NoticeStatus,
    Progress,
    Stage,
    Status,
    Task,
    Timings,
)
from support import invariants
from support.builders import NOW, a_task, an_output, task_in

LATER = NOW + timedelta(minutes=10)  # when every lease that began at NOW is over
ERROR = Failure.of(FailureCode.MEDIA_INVALID, "No.")
TIMINGS = Timings(download_seconds=1.0, transcode_seconds=2.0, upload_seconds=3.0)
WORK = Progress(percent=40.0, frame=400, fps=50.0, speed=2.0, out_time_seconds=16.0, eta_seconds=12.0)

DELAY = timedelta(seconds=7)
TOLD = (Notice(channel="webhook"), Notice(channel="event"))


def failed(task: Task, error: Failure) -> Task:
    return moves.fail(task, now=LATER, fence=task.fence, error=error, timings=TIMINGS, retry_after=DELAY)


def closed(task: Task, ending: Ending, *, error: Failure | None = None) -> tuple[Attempt, ...]:
    """The attempts, the last of which ended at LATER."""
    code, message = (error.code, error.message) if error else (None, None)
    return (
        *task.attempts[:-1],
        replace(task.attempts[-1], finished_at=LATER, ending=ending, code=code, message=message),
    )


# Each move as one call, under the fence of the task that it is given.
CALLS: Mapping[str, Callable[[Task], Task]] = {
    "execute": lambda task: moves.execute(task, now=LATER),
    "submitted": lambda task: moves.submitted(task, now=LATER, job_id="job-1"),
    "unsubmitted": lambda task: moves.unsubmitted(task, now=LATER, delay=DELAY, reason="Busy."),
    "waiting": lambda task: moves.waiting(task, now=LATER, reason="No machine yet."),
    "give_up": lambda task: moves.give_up(task, now=NOW + GIVE_UP_AFTER),
    "claim": lambda task: moves.claim(task, now=LATER, owner="worker-2"),
    "report": lambda task: moves.report(
        task, now=LATER, fence=task.fence, stage=Stage.TRANSCODING, progress=WORK, timings=TIMINGS
    ),
    "complete": lambda task: moves.complete(
        task, now=LATER, fence=task.fence, outputs=(an_output(task.task_id),), output_count=1, timings=TIMINGS
    ),
    "fail": lambda task: failed(task, ERROR),
    "noted": lambda task: moves.noted(task, fence=task.fence, note="on the CPU"),
    "made": lambda task: moves.made(task, fence=task.fence, command="-i in.mp4 made.mp4"),
    "release": lambda task: moves.release(task, now=LATER, fence=task.fence),
    "lose": lambda task: moves.lose(task, now=LATER, fence=task.fence),
    "cancel": lambda task: moves.cancel(task, now=LATER),
    "notify": lambda task: moves.notify(task, now=LATER),
    "notifying": lambda task: moves.notifying(task, channel="webhook", next_try_at=LATER),
    "notified": lambda task: moves.notified(task, now=LATER, channel="webhook"),
    "unnotified": lambda task: moves.unnotified(task, channel="webhook", error="No.", abandon=True),
    "tidied": lambda task: moves.tidied(task),
    "untidied": lambda task: moves.untidied(task, now=LATER),
    "purged": lambda task: moves.purged(task, now=LATER),
    "delete": lambda task: moves.delete(task, now=LATER),
}
HELD = ["report", "noted", "made", "complete", "fail", "release", "lose"]  # the moves of whoever holds the task

# What DESIGN says, once more and in full: from where each move may start.
ALLOWED = {
    "execute": {"pending"},
    "submitted": {"queued"},
    "unsubmitted": {"queued"},
    "waiting": {"queued"},
    "give_up": {"queued"},
    "claim": {"queued", "running"},
    "report": {"running"},
    "complete": {"running"},
    "fail": {"running"},
    "noted": {"running"},
    "made": {"running"},
    "release": {"running"},
    "lose": {"running"},
    "cancel": {"pending", "queued", "running"},
    "notify": {"completed", "failed", "canceled"},
    "notifying": {"completed", "failed", "canceled"},
    "notified": {"completed", "failed", "canceled"},
    "unnotified": {"completed", "failed", "canceled"},
    "tidied": {"completed", "failed", "canceled"},
    "untidied": {"completed", "failed", "canceled"},
    "purged": {"completed"},
    "delete": {"completed", "failed", "canceled"},
}


def test_every_move_is_in_the_table() -> None:
    assert set(CALLS) == set(MOVES) == set(ALLOWED)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("move", CALLS)
def test_a_move_is_allowed_from_its_statuses_only(move: str, status: Status) -> None:
    task = replace(task_in(status, notices=TOLD), tidy_due_at=NOW)
    if status.value in ALLOWED[move]:
        assert {status.value for status in MOVES[move]} == ALLOWED[move]
        assert CALLS[move](task) != task
        return
    with pytest.raises(TaskEnded if status.ended else TaskNotReady) as caught:
        CALLS[move](task)
    assert caught.value.details == {"task_id": task.task_id, "status": status.value}


def test_the_ended_statuses() -> None:
    assert {status.value for status in Status if status.ended} == {"completed", "failed", "canceled"}
    assert {status for status in Status if status.ended} == ENDED
    assert {status.value for status in Status if status.live} == {"queued", "running"}


@pytest.mark.parametrize("fence", [0, 2])
@pytest.mark.parametrize("move", HELD)
def test_who_holds_another_fence_may_do_nothing(move: str, fence: int) -> None:
    task = task_in(Status.RUNNING)
    calls: Mapping[str, Callable[[], Task]] = {
        "report": lambda: moves.report(
            task, now=NOW, fence=fence, stage=Stage.UPLOADING, progress=WORK, timings=TIMINGS
        ),
        "complete": lambda: moves.complete(task, now=NOW, fence=fence, outputs=(), output_count=0, timings=TIMINGS),
        "fail": lambda: moves.fail(task, now=NOW, fence=fence, error=ERROR, timings=TIMINGS, retry_after=DELAY),
        "noted": lambda: moves.noted(task, fence=fence, note=""),
        "made": lambda: moves.made(task, fence=fence, command=""),
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


def test_unsubmitted_makes_the_task_due_again_and_says_why() -> None:
    task = replace(task_in(Status.QUEUED), job_id="job-1")
    assert CALLS["unsubmitted"](task) == replace(task, job_id=None, dispatch_due_at=LATER + DELAY, queue_reason="Busy.")


def test_submitted_forgets_why_it_had_to_wait() -> None:
    task = CALLS["unsubmitted"](task_in(Status.QUEUED))
    assert CALLS["submitted"](task).queue_reason is None


def test_waiting_notes_what_the_dispatcher_says() -> None:
    task = replace(task_in(Status.QUEUED), job_id="job-1")
    assert CALLS["waiting"](task) == replace(
        task, dispatch_due_at=LATER + QUEUE_PATIENCE, queue_reason="No machine yet."
    )


@pytest.mark.parametrize(
    ("reason", "tail"), [(None, ""), ("The queue is disabled.", " The newest reason: The queue is disabled.")]
)
def test_give_up_says_for_how_long_nobody_came_and_why(reason: str | None, tail: str) -> None:
    task = replace(task_in(Status.QUEUED, notices=TOLD), queue_reason=reason)
    now = NOW + GIVE_UP_AFTER
    message = f"No worker could be had for the task in 24 hours.{tail}"
    assert moves.give_up(task, now=now) == replace(
        task,
        status=Status.FAILED,
        error=Failure(code=FailureCode.WORKER_LOST, message=message, retryable=True),
        finished_at=now,
        dispatch_due_at=None,
        queue_reason=None,
        notices=tuple(replace(notice, due_at=now) for notice in TOLD),
    )


def test_give_up_counts_from_the_last_worker_on() -> None:
    queued = replace(task_in(Status.QUEUED), attempts=closed(task_in(Status.RUNNING), Ending.LOST))
    with pytest.raises(TaskNotReady):
        moves.give_up(queued, now=LATER + GIVE_UP_AFTER - timedelta(microseconds=1))
    assert moves.give_up(queued, now=LATER + GIVE_UP_AFTER).status is Status.FAILED


def test_claim_gives_a_fence_an_owner_and_a_lease() -> None:
    task = replace(task_in(Status.QUEUED), progress=WORK, timings=TIMINGS, queue_reason="Busy.", job_id="job-0")
    assert moves.claim(task, now=LATER, owner="worker-1", job_id="job-1") == replace(
        task,
        status=Status.RUNNING,
        fence=1,
        owner="worker-1",
        job_id="job-1",
        queue_reason=None,
        attempts=(Attempt(number=1, owner="worker-1", job_id="job-1", started_at=LATER),),
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


def test_claim_of_a_lost_task_ends_the_attempt_before_it() -> None:
    task = task_in(Status.RUNNING)
    taken = moves.claim(task, now=LATER, owner="worker-2")
    assert taken.attempts == (*closed(task, Ending.LOST), Attempt(number=2, owner="worker-2", started_at=LATER))


def test_claim_by_the_next_attempt_of_the_same_job_need_not_wait_for_the_lease() -> None:
    task = moves.claim(task_in(Status.QUEUED), now=NOW, owner="worker-1", job_id="job-1")
    for other in ("job-2", None):
        with pytest.raises(TaskNotReady):
            moves.claim(task, now=NOW, owner="worker-2", job_id=other)
    assert moves.claim(task, now=NOW, owner="worker-2", job_id="job-1").fence == 2


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
        attempts=closed(task, Ending.COMPLETED),
    )


@pytest.mark.parametrize(("ttl", "expires"), [(None, None), (60, LATER + timedelta(seconds=60))])
def test_complete_says_until_when_the_outputs_are_kept(ttl: int | None, expires: datetime | None) -> None:
    assert CALLS["complete"](task_in(Status.RUNNING, result_ttl_seconds=ttl)).expires_at == expires


@pytest.mark.parametrize("move", ["complete", "fail", "cancel"])
def test_whoever_wants_to_know_of_the_end_is_to_be_told_at_once(move: str) -> None:
    task = task_in(Status.RUNNING, notices=TOLD)
    assert CALLS[move](task).notices == tuple(replace(notice, due_at=LATER) for notice in TOLD)


@pytest.mark.parametrize(
    ("move", "fence", "due"),
    [("complete", 1, False), ("complete", 2, True), ("fail", 1, True), ("cancel", 1, True)],
)
def test_what_was_stored_and_not_published_is_tidied_later(move: str, fence: int, due: bool) -> None:
    ended = CALLS[move](replace(task_in(Status.RUNNING), fence=fence))
    assert ended.tidy_due_at == (LATER + TIDY_AFTER if due else None)


@pytest.mark.parametrize("minutes", [0, 2, 3, 7, 60 * 24])
def test_what_could_not_be_tidied_is_tried_again_after_as_long_once_more(minutes: int) -> None:
    ended = replace(CALLS["cancel"](task_in(Status.RUNNING)), tidy_due_at=LATER)
    passed, now = timedelta(minutes=minutes), LATER + timedelta(minutes=minutes)
    due = now + max(passed, TIDY_AFTER)
    assert moves.untidied(ended, now=now) == replace(ended, tidy_due_at=due)
    # of one that was deleted long after its end, since then
    deleted = replace(ended, finished_at=NOW - timedelta(days=20), purged_at=LATER)
    assert moves.untidied(deleted, now=now) == replace(deleted, tidy_due_at=due)


def test_a_task_that_nobody_claimed_has_nothing_to_tidy() -> None:
    assert CALLS["cancel"](task_in(Status.QUEUED)).tidy_due_at is None


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
        tidy_due_at=LATER + TIDY_AFTER,
        attempts=closed(task, Ending.FAILED, error=ERROR),
    )


@pytest.mark.parametrize("code", FailureCode)
def test_a_failure_is_tried_again_as_often_as_its_code_says(code: FailureCode) -> None:
    for fence in range(1, MAX_CLAIMS + 1):
        task = replace(task_in(Status.RUNNING, job_id="job-1"), fence=fence, progress=WORK)
        error = Failure.of(code, "So.")
        after = failed(task, error)
        if fence > RETRIES[code]:
            assert (after.status, after.error) == (Status.FAILED, error)
            continue
        assert after == replace(
            task,
            status=Status.QUEUED,
            owner=None,
            job_id=None,
            stage=None,
            progress=Progress(),
            timings=TIMINGS,
            lease_expires_at=None,
            dispatch_due_at=LATER + DELAY,
            attempts=closed(task, Ending.FAILED, error=error),
        )


def test_a_failure_that_knows_better_than_its_code_is_tried_as_often_as_a_task_may_be() -> None:
    error = Failure.of(FailureCode.TRANSCODE_FAILED, "The device was busy.", retryable=True)
    ends = [failed(replace(task_in(Status.RUNNING), fence=fence), error).status for fence in range(1, MAX_CLAIMS + 1)]
    assert ends == [Status.QUEUED, Status.QUEUED, Status.FAILED]
    final = Failure.of(FailureCode.DOWNLOAD_FAILED, "The source is gone.", retryable=False)
    assert failed(task_in(Status.RUNNING), final).status is Status.FAILED


@pytest.mark.parametrize("status", [Status.PENDING, Status.QUEUED, Status.RUNNING])
def test_cancel_ends_the_task_and_its_attempt(status: Status) -> None:
    task = replace(task_in(status), job_id="job-1", queue_reason="Busy.")
    held = status is Status.RUNNING
    assert CALLS["cancel"](task) == replace(
        task,
        status=Status.CANCELED,
        finished_at=LATER,
        owner=None,
        stage=None,
        lease_expires_at=None,
        dispatch_due_at=None,
        queue_reason=None,
        tidy_due_at=LATER + TIDY_AFTER if held else None,
        attempts=closed(task, Ending.CANCELED) if held else (),
    )


@pytest.mark.parametrize("move", ["release", "lose"])
def test_a_task_without_its_worker_is_queued_again(move: str) -> None:
    task = replace(task_in(Status.RUNNING), progress=WORK, job_id="job-1")
    ending = Ending.RELEASED if move == "release" else Ending.LOST
    assert CALLS[move](task) == replace(
        task,
        status=Status.QUEUED,
        owner=None,
        attempts=closed(task, ending),
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
        task,
        status=Status.FAILED,
        error=lost.error,
        finished_at=LATER,
        stage=None,
        owner=None,
        lease_expires_at=None,
        tidy_due_at=LATER + TIDY_AFTER,
        attempts=closed(task, Ending.RELEASED if move == "release" else Ending.LOST),
    )


def test_lose_waits_for_the_lease_unless_the_worker_is_known_to_be_gone() -> None:
    task = task_in(Status.RUNNING)
    before = NOW + LEASE - timedelta(microseconds=1)
    with pytest.raises(TaskNotReady):
        moves.lose(task, now=before, fence=1)
    assert moves.lose(task, now=before, fence=1, gone=True).status is Status.QUEUED
    assert moves.lose(task, now=NOW + LEASE, fence=1).status is Status.QUEUED


def test_a_task_is_due_by_what_it_waits_for() -> None:
    due = {status: replace(task_in(status), dispatch_due_at=NOW, lease_expires_at=LATER).due_at for status in Status}
    forget = NOW + KEEP_RECORD
    assert due == {
        Status.PENDING: forget,
        Status.QUEUED: NOW,
        Status.RUNNING: LATER,
        Status.COMPLETED: None,  # its outputs are kept for ever
        Status.FAILED: NOW + TIDY_AFTER,
        Status.CANCELED: forget,
    }


def test_outputs_in_a_bucket_of_others_do_not_keep_the_record() -> None:
    done = CALLS["complete"](task_in(Status.RUNNING, destination=Destination(bucket="media-out")))
    deleted = replace(done, purged_at=LATER + timedelta(days=1))
    assert (done.due_at, deleted.forget_due_at) == (LATER + KEEP_RECORD, LATER + KEEP_RECORD)


def test_an_ended_task_is_due_by_what_is_left_to_do_the_first_first() -> None:
    ended = CALLS["complete"](replace(task_in(Status.RUNNING, notices=TOLD, result_ttl_seconds=3600), fence=2))
    times = [ended.due_at]
    for change in (
        lambda task: moves.notified(task, now=LATER, channel="webhook"),
        lambda task: moves.unnotified(task, channel="event", error="No.", abandon=True),
        moves.tidied,
        lambda task: moves.purged(task, now=LATER + timedelta(hours=1)),
    ):
        ended = change(ended)
        times.append(ended.due_at)
    end = LATER + timedelta(hours=1)
    assert times == [LATER, LATER, LATER + TIDY_AFTER, end, end + KEEP_RECORD]


# Notices


def noticed(**changes: Any) -> Task:
    """A task that has ended, with its first notice changed."""
    ended = CALLS["fail"](task_in(Status.RUNNING, task_id="t", notices=TOLD))
    return replace(ended, notices=(replace(ended.notices[0], **changes), ended.notices[1]))


def test_a_notice_is_counted_before_it_is_sent() -> None:
    task = noticed(tries=2, error="No.")
    soon = LATER + DELAY
    assert moves.notifying(task, channel="webhook", next_try_at=soon) == noticed(tries=3, error="No.", due_at=soon)


def test_a_notice_that_arrived_is_not_due_any_more() -> None:
    assert moves.notified(noticed(tries=2, error="No."), now=LATER, channel="webhook") == noticed(
        status=NoticeStatus.DELIVERED, tries=2, due_at=None, delivered_at=LATER, error=None
    )


def test_a_notice_that_did_not_arrive_stays_due_until_it_is_abandoned() -> None:
    task = noticed(tries=1)
    again = moves.unnotified(task, channel="webhook", error="No.", abandon=False)
    assert again == noticed(tries=1, error="No.")
    assert moves.unnotified(task, channel="webhook", error="No.", abandon=True) == noticed(
        tries=1, error="No.", status=NoticeStatus.ABANDONED, due_at=None
    )


def test_notify_begins_anew_with_everybody() -> None:
    task = noticed(status=NoticeStatus.ABANDONED, tries=9, due_at=None, error="No.")
    due = tuple(Notice(channel=notice.channel, due_at=LATER) for notice in TOLD)
    assert moves.notify(task, now=LATER) == replace(task, notices=due)


@given(st.integers(1, 3), st.floats(0, 1))
def test_backoff_is_four_times_as_long_each_time_give_or_take_a_half(number: int, chance: float) -> None:
    first = timedelta(seconds=15)
    middle = first * 4 ** (number - 1)
    assert middle / 2 <= moves.backoff(number, first=first, chance=chance) <= middle * 1.5
    assert moves.backoff(number, first=first, chance=0.5) == middle


def test_every_failure_code_says_how_often_to_try_again() -> None:
    assert set(RETRIES) == set(FailureCode)
    assert all(0 <= again < MAX_CLAIMS for again in RETRIES.values())
    assert all(code.name == code.value for code in FailureCode)


@pytest.mark.parametrize("code", FailureCode)
def test_a_failure_is_retryable_as_its_code_unless_it_knows_better(code: FailureCode) -> None:
    assert Failure.of(code, "So.") == Failure(code=code, message="So.", retryable=RETRIES[code] > 0, details={})
    assert Failure.of(code, "So.", retryable=RETRIES[code] == 0).retryable is (RETRIES[code] == 0)


@given(st.lists(st.sampled_from(sorted(CALLS)), max_size=25))
def test_however_the_moves_fall_a_task_keeps_its_promises(names: list[str]) -> None:
    task = a_task(notices=TOLD)
    for name in names:
        try:
            after = CALLS[name](task)
        except (TaskEnded, TaskNotReady):
            continue
        invariants.step(task, after, by=task.fence if name in HELD else None)
        kept = ["task_id", "input_files", "output_files", "correlation_id", "created_at", "version"]
        kept += ["command"] if name != "made" else []  # which is what that move is for
        assert [getattr(after, field) for field in kept] == [getattr(task, field) for field in kept]
        task = after
