"""The sweep, on a real SQLite store: whatever was lost on the way, a task that lives goes on or ends."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core import moves
from core.errors import DispatchDelayed, DispatchUnavailable, TaskChanged, TaskNotFound
from core.local.task_store import SqliteTaskStore
from core.moves import GIVE_UP_AFTER, LEASE, QUEUE_PATIENCE, SUBMIT_GRACE
from core.ports import JobState, Services, Sighting
from core.submit import AGAIN_AFTER
from core.sweep import CLAIM_GRACE, GONE, Step, attend, decide, look_after, reconcile, sweep
from core.task import MAX_CLAIMS, FailureCode, Progress, Status, Task, Timings
from support.builders import NOW, task_in
from support.recording import RecordingDispatcher

COMING = Sighting(JobState.COMING, "Waiting for a machine.")
RUNNING = Sighting(JobState.RUNNING)
SECOND = timedelta(seconds=1)
DUE = NOW + SUBMIT_GRACE  # when a task that was queued at NOW is due
LONG_DUE = DUE + CLAIM_GRACE
HOPELESS = NOW + GIVE_UP_AFTER

QUEUED = task_in(Status.QUEUED, task_id="t")
WITH_JOB = replace(QUEUED, job_id="job-0")
HELD = task_in(Status.RUNNING, task_id="t")


@pytest.mark.parametrize(
    ("task", "now", "job", "step"),
    [
        # Somebody holds it, until the lease is over or its job is known to be gone.
        (HELD, NOW, None, Step.REST),
        (HELD, NOW, COMING, Step.REST),
        (HELD, NOW, RUNNING, Step.REST),
        (HELD, NOW, GONE, Step.LOSE),
        (HELD, NOW + LEASE - SECOND, RUNNING, Step.REST),
        (HELD, NOW + LEASE, None, Step.LOSE),
        (HELD, NOW + LEASE, RUNNING, Step.LOSE),
        # Whoever queued it is about to hand it over.
        (QUEUED, NOW, None, Step.REST),
        (QUEUED, NOW, GONE, Step.REST),
        (QUEUED, DUE, None, Step.SUBMIT),
        (QUEUED, HOPELESS, None, Step.GIVE_UP),
        # It was handed over.
        (WITH_JOB, NOW, None, Step.REST),
        (WITH_JOB, NOW, RUNNING, Step.REST),
        (WITH_JOB, NOW, GONE, Step.POSTPONE),
        (WITH_JOB, DUE, None, Step.ASK),
        (WITH_JOB, DUE, COMING, Step.WAIT),
        (WITH_JOB, DUE, RUNNING, Step.REST),
        (WITH_JOB, DUE, GONE, Step.SUBMIT),
        (WITH_JOB, LONG_DUE - SECOND, RUNNING, Step.REST),
        (WITH_JOB, LONG_DUE, RUNNING, Step.SUBMIT),
        (WITH_JOB, HOPELESS, None, Step.ASK),
        (WITH_JOB, HOPELESS, COMING, Step.WAIT),  # a queue may be long; that is no reason to fail
        (WITH_JOB, HOPELESS, GONE, Step.GIVE_UP),
        (WITH_JOB, HOPELESS, RUNNING, Step.GIVE_UP),
        # Nothing is to be done.
        *((task_in(status), HOPELESS, job, Step.REST) for status in Status if not status.live for job in (None, GONE)),
    ],
)
def test_decide(task: Task, now: datetime, job: Sighting | None, step: Step) -> None:
    assert decide(task, now=now, job=job) is step


def test_a_task_whose_worker_died_gets_another_one(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(replace(task_in(Status.RUNNING), progress=Progress(percent=50.0), job_id=None))
    result = look_after(services, task.task_id, now=NOW, job=GONE)
    queued = replace(moves.lose(task, now=NOW, fence=1, gone=True), version=2)
    assert dispatcher.submitted == [queued]
    assert result == replace(queued, version=3, job_id="job-1", dispatch_due_at=NOW + QUEUE_PATIENCE)
    assert services.store.get(task.task_id) == result


def test_a_task_whose_lease_is_over_waits_for_its_job_to_be_started_again(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    """AWS Batch does so by itself when the machine is lost."""
    task = services.store.create(replace(task_in(Status.RUNNING), job_id="job-0"))
    dispatcher.jobs["job-0"] = COMING
    result = look_after(services, task.task_id, now=NOW + LEASE)
    lost = moves.lose(task, now=NOW + LEASE, fence=1)
    assert result == replace(moves.waiting(lost, now=NOW + LEASE, reason=COMING.reason), version=3)
    assert dispatcher.submitted == []


def test_a_task_that_its_worker_released_gets_another_one(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(replace(task_in(Status.RUNNING), job_id="job-0"))
    released = services.store.replace(moves.release(task, now=NOW, fence=1), task)
    assert look_after(services, task.task_id, now=NOW, job=GONE).job_id == "job-1"
    assert dispatcher.submitted == [released]


def test_a_worker_that_kills_its_host_process_is_not_started_for_ever(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    task = services.store.create(task_in(Status.QUEUED))
    for _ in range(MAX_CLAIMS):
        assert task.status is Status.QUEUED
        services.store.replace(moves.claim(task, now=NOW, owner="w"), task)
        task = look_after(services, task.task_id, now=NOW, job=GONE)
    assert (task.status, task.fence, len(dispatcher.submitted)) == (Status.FAILED, MAX_CLAIMS, MAX_CLAIMS - 1)
    assert task.error is not None
    assert task.error.code is FailureCode.WORKER_LOST


def test_a_worker_that_ends_before_it_claims_is_not_started_at_once_again(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    """Or a worker that cannot start would be started in a tight loop. The task stays due."""
    task = services.store.create(moves.submitted(task_in(Status.QUEUED), now=NOW, job_id="job-0"))
    result = look_after(services, task.task_id, now=NOW, job=GONE)
    reason = "The worker ended before it took the task."
    assert result == replace(task, version=2, job_id=None, dispatch_due_at=NOW + AGAIN_AFTER, queue_reason=reason)
    assert dispatcher.submitted == []
    assert services.store.due(NOW + AGAIN_AFTER, limit=10) == [result]


@pytest.mark.parametrize("status", [status for status in Status if not status.live])
@pytest.mark.parametrize("job", [None, COMING, RUNNING, GONE])
def test_a_task_that_does_not_live_stays_as_it_is(
    services: Services, dispatcher: RecordingDispatcher, status: Status, job: Sighting | None
) -> None:
    task = services.store.create(task_in(status))
    assert look_after(services, task.task_id, now=HOPELESS, job=job) == services.store.get(task.task_id) == task
    assert (dispatcher.submitted, dispatcher.asked) == ([], 0)


def test_an_unknown_task_is_said_to_be(services: Services) -> None:
    with pytest.raises(TaskNotFound):
        look_after(services, "unknown", now=NOW, job=GONE)


def test_a_task_that_nobody_could_be_had_for_has_failed(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(replace(task_in(Status.QUEUED), queue_reason="The queue is disabled."))
    assert look_after(services, task.task_id, now=HOPELESS) == replace(moves.give_up(task, now=HOPELESS), version=2)
    assert dispatcher.submitted == []


@pytest.mark.parametrize(
    ("fault", "error", "delayed"),
    [("refusing", DispatchUnavailable, True), ("delaying", None, True)],
)
def test_a_lost_task_stays_queued_and_due_when_nobody_takes_it(
    services: Services, dispatcher: RecordingDispatcher, fault: str, error: type[Exception] | None, delayed: bool
) -> None:
    task = services.store.create(task_in(Status.RUNNING))
    setattr(dispatcher, fault, True)
    if error:
        with pytest.raises(error):
            look_after(services, task.task_id, now=NOW, job=GONE)
    else:
        look_after(services, task.task_id, now=NOW, job=GONE)
    kept = services.store.get(task.task_id)
    assert (kept.status, kept.fence, kept.queue_reason is not None) == (Status.QUEUED, 1, delayed)
    assert services.store.due(NOW + 2 * AGAIN_AFTER, limit=10) == [kept]


@pytest.mark.parametrize(("fault", "error"), [("refusing", DispatchUnavailable), ("delaying", DispatchDelayed)])
def test_a_task_stays_due_when_its_job_cannot_be_asked_about(
    services: Services, dispatcher: RecordingDispatcher, fault: str, error: type[Exception]
) -> None:
    task = services.store.create(replace(task_in(Status.QUEUED), job_id="job-0"))
    setattr(dispatcher, fault, True)
    with pytest.raises(error):
        look_after(services, task.task_id, now=DUE)
    assert sweep(services, now=DUE) == 0
    assert services.store.get(task.task_id) == task


def test_attend_on_what_was_read_before_leaves_what_happened_since(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    seen = services.store.create(task_in(Status.RUNNING))
    alive = services.store.replace(replace(seen, lease_expires_at=NOW + 2 * LEASE), seen)
    with pytest.raises(TaskChanged):
        attend(services, seen, now=NOW + LEASE)
    assert services.store.get(seen.task_id) == alive
    assert dispatcher.submitted == []


def test_look_after_decides_again_when_the_task_moved_under_it(services: Services, tmp_path: Path) -> None:
    store = _Moving(tmp_path / "moving.db")
    task = store.create(task_in(Status.RUNNING))
    result = look_after(replace(services, store=store), task.task_id, now=NOW, job=GONE)
    assert result.status is Status.COMPLETED
    store.close()


class _Moving(SqliteTaskStore):
    """A store in which the worker's last write arrives between our reading and our writing."""

    late = True

    def replace(self, new: Task, previous: Task) -> Task:
        if self.late:
            self.late = False
            done = moves.complete(previous, now=NOW, fence=1, outputs=(), output_count=0, timings=Timings())
            super().replace(done, previous)
        return super().replace(new, previous)


def test_sweep_attends_to_what_is_due_and_to_nothing_else(services: Services, dispatcher: RecordingDispatcher) -> None:
    due = services.store.create(task_in(Status.QUEUED))
    held = services.store.create(task_in(Status.RUNNING))
    handed_over = services.store.create(moves.submitted(task_in(Status.QUEUED), now=NOW, job_id="job-0"))
    others = [services.store.create(task_in(status)) for status in Status if not status.live]
    assert sweep(services, now=NOW) == 0
    assert sweep(services, now=NOW + LEASE - SECOND) == 1
    assert [task.task_id for task in dispatcher.submitted] == [due.task_id]
    assert sweep(services, now=NOW + LEASE) == 1
    assert [task.task_id for task in dispatcher.submitted] == [due.task_id, held.task_id]
    assert [services.store.get(task.task_id) for task in (handed_over, *others)] == [handed_over, *others]


def test_sweep_asks_about_all_jobs_at_once(services: Services, dispatcher: RecordingDispatcher) -> None:
    tasks = [services.store.create(replace(task_in(Status.QUEUED), job_id=f"job-{n}0")) for n in range(5)]
    dispatcher.jobs = {"job-00": COMING, "job-10": RUNNING}
    assert sweep(services, now=DUE) == 4  # the second one's worker is about to claim it
    assert dispatcher.asked == 1
    assert {task.task_id for task in dispatcher.submitted} == {task.task_id for task in tasks[2:]}
    waiting = services.store.get(tasks[0].task_id)
    assert waiting == replace(moves.waiting(tasks[0], now=DUE, reason=COMING.reason), version=2)


def test_sweep_goes_on_when_one_is_refused(services: Services, dispatcher: RecordingDispatcher) -> None:
    tasks = [services.store.create(task_in(Status.RUNNING)) for _ in range(3)]
    dispatcher.refusing = True
    sweep(services, now=NOW + LEASE)
    assert {services.store.get(task.task_id).status for task in tasks} == {Status.QUEUED}
    dispatcher.refusing = False
    sweep(services, now=NOW + 2 * LEASE)
    assert len(dispatcher.submitted) == 3


def test_sweep_takes_the_longest_due_first_and_no_more_than_its_limit(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    tasks = [
        services.store.create(replace(task_in(Status.QUEUED), dispatch_due_at=NOW + SECOND * n)) for n in (3, 1, 2)
    ]
    assert sweep(services, now=DUE, limit=2) == 2
    assert {task.task_id for task in dispatcher.submitted} == {tasks[1].task_id, tasks[2].task_id}


def test_reconcile_sets_everything_going_in_the_order_of_execution(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    def ago(minutes: int, status: Status, **changes: object) -> str:
        task = replace(task_in(status), queued_at=NOW - timedelta(minutes=minutes), **changes)  # type: ignore[arg-type]
        return services.store.create(task).task_id

    lost = ago(3, Status.RUNNING)
    far_off = ago(5, Status.QUEUED, job_id="job-0", dispatch_due_at=NOW + QUEUE_PATIENCE)
    fresh = ago(1, Status.QUEUED)
    last = ago(9, Status.RUNNING, fence=MAX_CLAIMS)
    untouched = [services.store.create(task_in(status)) for status in Status if not status.live]

    results = reconcile(services, now=NOW)

    assert [task.task_id for task in dispatcher.submitted] == [far_off, lost, fresh]
    assert [(task.task_id, task.status, task.job_id) for task in results] == [
        (far_off, Status.QUEUED, "job-1"),
        (lost, Status.QUEUED, "job-2"),
        (fresh, Status.QUEUED, "job-3"),
    ]
    assert services.store.get(last).status is Status.FAILED
    assert [services.store.get(task.task_id) for task in untouched] == untouched


def test_reconcile_finds_nothing_in_a_new_store(services: Services) -> None:
    assert reconcile(services, now=NOW) == []
