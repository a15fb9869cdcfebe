"""Cancel and notify, on a real SQLite store."""

from dataclasses import replace

import pytest

from core import moves
from core.cancel import cancel
from core.errors import TaskEnded, TaskNotFound, TaskNotReady
from core.notify import notify
from core.ports import Services
from core.task import Notice, NoticeStatus, Status
from support.builders import NOW, task_in
from support.recording import RecordingDispatcher


@pytest.mark.parametrize("status", [Status.PENDING, Status.QUEUED, Status.RUNNING])
def test_cancel_ends_the_task_and_then_stops_its_job(
    services: Services, dispatcher: RecordingDispatcher, status: Status
) -> None:
    task = services.store.create(replace(task_in(status), job_id=None if status is Status.PENDING else "job-0"))
    result = cancel(services, task.task_id, now=NOW)
    assert result == replace(moves.cancel(task, now=NOW), version=2)
    assert services.store.get(task.task_id) == result
    assert dispatcher.stopped == ([result] if task.job_id else [])


@pytest.mark.parametrize("fault", ["refusing", "delaying"])
def test_cancel_needs_no_dispatcher(services: Services, dispatcher: RecordingDispatcher, fault: str) -> None:
    """The worker learns it from its next heartbeat."""
    task = services.store.create(replace(task_in(Status.RUNNING), job_id="job-0"))
    setattr(dispatcher, fault, True)
    assert cancel(services, task.task_id, now=NOW).status is Status.CANCELED
    with pytest.raises(TaskEnded):
        moves.release(services.store.get(task.task_id), now=NOW, fence=1)


@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_cancel_of_what_has_ended_is_refused(
    services: Services, dispatcher: RecordingDispatcher, status: Status
) -> None:
    task = services.store.create(task_in(status))
    with pytest.raises(TaskEnded) as caught:
        cancel(services, task.task_id, now=NOW)
    assert caught.value.details == {"task_id": task.task_id, "status": status.value}
    assert services.store.get(task.task_id) == task
    assert dispatcher.stopped == []


def test_cancel_of_an_unknown_task_says_so(services: Services) -> None:
    with pytest.raises(TaskNotFound):
        cancel(services, "unknown", now=NOW)


@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_notify_makes_all_notices_due_again(services: Services, status: Status) -> None:
    told = (Notice(channel="webhook", status=NoticeStatus.ABANDONED, tries=9, error="No."), Notice(channel="event"))
    task = services.store.create(replace(task_in(status), notices=told))
    due = (Notice(channel="webhook", due_at=NOW), Notice(channel="event", due_at=NOW))
    assert notify(services, task.task_id, now=NOW) == replace(task, version=2, notices=due)
    assert [found.task_id for found in services.store.due(NOW, limit=10, live=False)] == [task.task_id]


@pytest.mark.parametrize("status", [status for status in Status if not status.ended])
def test_notify_before_the_end_is_refused(services: Services, status: Status) -> None:
    task = services.store.create(task_in(status))
    with pytest.raises(TaskNotReady):
        notify(services, task.task_id, now=NOW)
    assert services.store.get(task.task_id) == task
