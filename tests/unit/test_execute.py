"""Execute and submit, on a real SQLite store: handed over once, however often and by however many it is asked for."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core import moves
from core.errors import DispatchUnavailable, TaskEnded, TaskNotFound
from core.execute import execute
from core.local.task_store import SqliteTaskStore
from core.moves import QUEUE_PATIENCE, SUBMIT_GRACE
from core.ports import Services
from core.submit import AGAIN_AFTER, submit
from core.task import Status, Task
from support.builders import NOW, a_task, task_in
from support.recording import RecordingDispatcher

LATER = NOW + timedelta(minutes=1)


def test_execute_stores_then_submits_then_notes_the_job(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(a_task())
    at_submit: list[Task] = []
    dispatcher.meanwhile = lambda submitted: at_submit.append(services.store.get(submitted.task_id))
    result = execute(services, task.task_id, now=LATER)
    queued = replace(task, version=2, status=Status.QUEUED, queued_at=LATER, dispatch_due_at=LATER + SUBMIT_GRACE)
    assert dispatcher.submitted == at_submit == [queued]
    assert result == replace(queued, version=3, job_id="job-1", dispatch_due_at=LATER + QUEUE_PATIENCE)
    assert services.store.get(task.task_id) == result


def test_execute_again_changes_nothing(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(a_task())
    first = execute(services, task.task_id, now=NOW)
    assert execute(services, task.task_id, now=LATER) == first
    assert len(dispatcher.submitted) == 1


def test_execute_while_somebody_else_submits_leaves_it_to_them(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    task = services.store.create(task_in(Status.QUEUED))
    assert execute(services, task.task_id, now=NOW + SUBMIT_GRACE - timedelta(seconds=1)) == task
    assert dispatcher.submitted == []


def test_execute_by_many_at_once_submits_once(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(a_task())
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda _: execute(services, task.task_id, now=NOW), range(20)))
    assert {result.status for result in results} == {Status.QUEUED}
    assert len(dispatcher.submitted) == 1


def test_execute_repeats_a_hand_over_that_was_lost(services: Services, dispatcher: RecordingDispatcher) -> None:
    lost = services.store.create(task_in(Status.QUEUED))
    now = NOW + SUBMIT_GRACE
    assert execute(services, lost.task_id, now=now) == replace(
        lost, version=2, job_id="job-1", dispatch_due_at=now + QUEUE_PATIENCE
    )
    assert dispatcher.submitted == [lost]


def test_execute_of_a_running_task_gives_it_as_it_is(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(task_in(Status.RUNNING))
    assert execute(services, task.task_id, now=LATER) == task
    assert dispatcher.submitted == []


@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_execute_of_an_ended_task_is_refused(
    services: Services, dispatcher: RecordingDispatcher, status: Status
) -> None:
    task = services.store.create(task_in(status))
    with pytest.raises(TaskEnded) as caught:
        execute(services, task.task_id, now=LATER)
    assert caught.value.details == {"task_id": task.task_id, "status": status.value}
    assert services.store.get(task.task_id) == task
    assert dispatcher.submitted == []


def test_execute_of_an_unknown_task_says_so(services: Services) -> None:
    with pytest.raises(TaskNotFound):
        execute(services, "unknown", now=NOW)


def test_execute_without_a_dispatcher_keeps_the_task_queued_and_due(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    task = services.store.create(a_task())
    dispatcher.refusing = True
    with pytest.raises(DispatchUnavailable) as caught:
        execute(services, task.task_id, now=NOW)
    kept = services.store.get(task.task_id)
    assert kept.dispatch_due_at is not None
    delay = kept.dispatch_due_at - NOW
    assert AGAIN_AFTER / 2 <= delay <= AGAIN_AFTER * 1.5
    assert caught.value.details == {"task_id": task.task_id, "retry_after_seconds": round(delay.total_seconds())}
    reason = DispatchUnavailable().message
    assert kept == replace(moves.execute(task, now=NOW), version=3, dispatch_due_at=NOW + delay, queue_reason=reason)
    dispatcher.refusing = False
    assert execute(services, task.task_id, now=NOW + delay).job_id == "job-1"


@pytest.mark.parametrize(("fault", "jobs"), [("delaying", 0), ("losing", 1)])
def test_submit_that_gets_no_answer_leaves_the_task_to_be_handed_over_again(
    services: Services, dispatcher: RecordingDispatcher, fault: str, jobs: int
) -> None:
    task = services.store.create(task_in(Status.QUEUED))
    setattr(dispatcher, fault, True)
    result = submit(services, task, now=LATER, chance=lambda: 0.5)
    reason = "Too many requests." if fault == "delaying" else "No answer."
    assert result == replace(task, version=2, dispatch_due_at=LATER + AGAIN_AFTER, queue_reason=reason)
    assert services.store.get(task.task_id) == result
    assert services.store.due(LATER + AGAIN_AFTER, limit=10) == [result]
    assert len(dispatcher.submitted) == jobs


def test_submit_after_a_delay_forgets_the_reason_for_it(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(replace(task_in(Status.QUEUED), queue_reason="Too many requests."))
    result = submit(services, task, now=LATER)
    assert result == replace(task, version=2, job_id="job-1", queue_reason=None, dispatch_due_at=LATER + QUEUE_PATIENCE)


@pytest.mark.parametrize("fault", ["losing", "refusing"])
def test_submit_lets_what_happened_meanwhile_stand(
    services: Services, dispatcher: RecordingDispatcher, fault: str
) -> None:
    seen = services.store.create(task_in(Status.QUEUED))
    canceled = services.store.replace(moves.cancel(seen, now=NOW), seen)
    setattr(dispatcher, fault, True)
    try:
        assert submit(services, seen, now=LATER) == canceled
    except DispatchUnavailable:
        assert fault == "refusing"
    assert services.store.get(seen.task_id) == canceled


def test_execute_is_content_when_the_worker_claims_first(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(a_task())

    def claim(submitted: Task) -> None:
        services.store.replace(moves.claim(submitted, now=NOW, owner="quick"), submitted)

    dispatcher.meanwhile = claim
    result = execute(services, task.task_id, now=NOW)
    assert (result.status, result.owner, result.job_id) == (Status.RUNNING, "quick", None)
    assert services.store.get(task.task_id) == result


def test_execute_that_loses_to_another_one_leaves_the_rest_to_it(
    services: Services, dispatcher: RecordingDispatcher, tmp_path: Path
) -> None:
    store = _Overtaken(tmp_path / "tasks.db")
    task = store.create(a_task())
    result = execute(replace(services, store=store), task.task_id, now=LATER)
    assert result == replace(moves.execute(task, now=LATER), version=2, correlation_id="the other one")
    assert dispatcher.submitted == []
    store.close()


class _Overtaken(SqliteTaskStore):
    """A store in which another execute comes between our reading and our writing."""

    ours = True

    def replace(self, new: Task, previous: Task) -> Task:
        if self.ours:
            self.ours = False
            super().replace(replace(new, correlation_id="the other one"), previous)
        return super().replace(new, previous)
