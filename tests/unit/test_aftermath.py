"""The aftermath, on a real SQLite store and folder: what has ended is told of, tidied, purged and forgotten."""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core import moves
from core.aftermath import NOTICE_DELAYS, Step, attend, decide, sweep
from core.destination import Destination
from core.errors import InternalError, TaskChanged, TaskNotFound
from core.moves import TIDY_AFTER
from core.ports import ObjectStore, Services
from core.task import KEEP_RECORD, Notice, NoticeStatus, Status, Task
from support.builders import NOW, task_in
from support.recording import REFUSED, REFUSED_FOR_GOOD, RecordingChannel

TOLD = (Notice(channel="webhook"),)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
FAILED = task_in(Status.FAILED, task_id="t")
DONE = task_in(Status.COMPLETED, task_id="t", result_ttl_seconds=3600)
PURGED = replace(DONE, purged_at=NOW)


@pytest.mark.parametrize(
    ("task", "now", "step"),
    [
        (task_in(Status.FAILED, notices=TOLD), NOW, Step.NOTIFY),
        (task_in(Status.FAILED, notices=TOLD), NOW - SECOND, Step.REST),
        (FAILED, NOW + TIDY_AFTER - SECOND, Step.REST),
        (FAILED, NOW + TIDY_AFTER, Step.TIDY),
        (replace(FAILED, tidy_due_at=None), NOW + KEEP_RECORD - SECOND, Step.REST),
        (replace(FAILED, tidy_due_at=None), NOW + KEEP_RECORD, Step.FORGET),
        (task_in(Status.CANCELED), NOW + KEEP_RECORD, Step.FORGET),
        (DONE, NOW + HOUR - SECOND, Step.REST),
        (DONE, NOW + HOUR, Step.PURGE),
        (replace(DONE, tidy_due_at=NOW), NOW + HOUR, Step.TIDY),
        (replace(DONE, expires_at=None), NOW + 100 * KEEP_RECORD, Step.REST),
        (PURGED, NOW + KEEP_RECORD - SECOND, Step.REST),
        (PURGED, NOW + KEEP_RECORD, Step.FORGET),
        (task_in(Status.PENDING), NOW + KEEP_RECORD - SECOND, Step.REST),
        (task_in(Status.PENDING), NOW + KEEP_RECORD, Step.FORGET),
        (task_in(Status.QUEUED), NOW + 100 * KEEP_RECORD, Step.REST),
        (task_in(Status.RUNNING), NOW + 100 * KEEP_RECORD, Step.REST),
    ],
)
def test_decide(task: Task, now: datetime, step: Step) -> None:
    assert decide(task, now=now) is step


def created(services: Services, status: Status = Status.FAILED, **changes: object) -> Task:
    return services.store.create(replace(task_in(status, notices=TOLD), **changes))  # type: ignore[arg-type]


def test_a_notice_is_sent_and_noted(services: Services, webhook: RecordingChannel) -> None:
    task = created(services)
    result = attend(services, task, now=NOW, chance=lambda: 0.0)
    marked = moves.notifying(task, channel="webhook", next_try_at=NOW + NOTICE_DELAYS[0])
    assert webhook.delivered == [replace(marked, version=2)]
    assert result == replace(moves.notified(marked, now=NOW, channel="webhook"), version=3)
    assert services.store.get(task.task_id) == result


def test_a_notice_is_tried_again_later_each_time_until_it_is_abandoned(
    services: Services, webhook: RecordingChannel
) -> None:
    webhook.failure = REFUSED
    task, now, waits = created(services, tidy_due_at=None), NOW, []
    while task.notices[0].due_at:
        now, before = task.notices[0].due_at, task
        left = attend(services, task, now=now, chance=lambda: 0.0)
        assert left is not None
        task = left
        assert (task.notices[0].tries, task.notices[0].error) == (before.notices[0].tries + 1, str(REFUSED))
        waits += [task.notices[0].due_at - now] if task.notices[0].due_at else []
    assert waits == list(NOTICE_DELAYS)
    assert len(webhook.delivered) == len(NOTICE_DELAYS) + 1 == task.notices[0].tries
    assert task.notices[0].status is NoticeStatus.ABANDONED
    assert now - NOW >= timedelta(days=1)


def test_a_notice_that_is_refused_for_good_is_abandoned_at_once(services: Services, webhook: RecordingChannel) -> None:
    webhook.failure = REFUSED_FOR_GOOD
    result = attend(services, created(services), now=NOW)
    assert result is not None
    assert result.notices == (
        Notice(channel="webhook", status=NoticeStatus.ABANDONED, tries=1, error=str(REFUSED_FOR_GOOD)),
    )


def test_a_notice_that_kills_its_sender_is_sent_a_bounded_number_of_times(
    services: Services, webhook: RecordingChannel
) -> None:
    """It is marked as tried before it is sent, so that a crash between the two is counted."""
    webhook.failure = RuntimeError("The sender broke down.")
    task, now = created(services, tidy_due_at=None), NOW
    for tries in range(1, len(NOTICE_DELAYS) + 2):
        with pytest.raises(RuntimeError):
            attend(services, task, now=now, chance=lambda: 0.0)
        task = services.store.get(task.task_id)
        assert (task.notices[0].tries, task.notices[0].status) == (tries, NoticeStatus.PENDING)
        assert task.notices[0].due_at is not None
        assert task.notices[0].due_at > now
        now = task.notices[0].due_at
    result = attend(services, task, now=now)
    assert result is not None
    assert result.notices[0].status is NoticeStatus.ABANDONED
    assert len(webhook.delivered) == len(NOTICE_DELAYS) + 1


def test_a_notice_without_its_channel_is_abandoned_and_says_so(services: Services) -> None:
    result = attend(replace(services, channels={}), created(services), now=NOW)
    assert result is not None
    error = "This service is not set up to send by webhook."
    assert result.notices == (Notice(channel="webhook", status=NoticeStatus.ABANDONED, error=error),)


def test_one_channel_does_not_wait_for_another(services: Services, webhook: RecordingChannel) -> None:
    event = RecordingChannel()
    webhook.failure = REFUSED
    both = (Notice(channel="webhook", due_at=NOW), Notice(channel="event", due_at=NOW))
    result = attend(
        replace(services, channels={"webhook": webhook, "event": event}), created(services, notices=both), now=NOW
    )
    assert result is not None
    assert [notice.status for notice in result.notices] == [NoticeStatus.PENDING, NoticeStatus.DELIVERED]
    assert (len(webhook.delivered), len(event.delivered)) == (1, 1)


def test_two_who_read_the_same_send_it_once(services: Services, webhook: RecordingChannel) -> None:
    seen = created(services)
    attend(services, seen, now=NOW)
    with pytest.raises(TaskChanged):
        attend(services, seen, now=NOW)
    assert len(webhook.delivered) == 1


def stored(services: Services, tmp_path: Path, key: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(key.encode())
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    services.objects.put_file(key, path, sha256=sha256, content_type="video/mp4")
    path.unlink()


@pytest.mark.parametrize(("status", "kept"), [(Status.COMPLETED, True), (Status.FAILED, False)])
def test_tidy_deletes_what_was_not_published(services: Services, tmp_path: Path, status: Status, kept: bool) -> None:
    task = services.store.create(replace(task_in(status, notices=()), fence=2, tidy_due_at=NOW))
    keys = {fence: f"{services.folder(task)}/{fence}/output.mp4" for fence in (1, 2, 20)}
    others = f"{services.folder(task)}0/1/output.mp4"
    for key in (*keys.values(), others):
        stored(services, tmp_path, key)
    assert attend(services, task, now=NOW) == replace(task, version=2, tidy_due_at=None)
    assert [fence for fence, key in keys.items() if services.objects.head(key)] == ([2] if kept else [])
    assert services.objects.head(others) is not None


def refusing(name: str) -> ObjectStore:
    raise InternalError("The outputs could not be deleted.")


def test_a_bucket_that_refuses_to_be_tidied_holds_up_nothing(services: Services, webhook: RecordingChannel) -> None:
    # given more tasks that cannot be tidied than are attended to at once, and one that is due later
    withdrawn = Destination(bucket="media-out")
    stuck = [created(services, destination=withdrawn, notices=(), tidy_due_at=NOW) for _ in range(3)]
    told = created(services, notices=(Notice(channel="webhook", due_at=NOW + SECOND),))
    services = replace(services, buckets=refusing)

    now = NOW + SECOND
    assert [sweep(services, now=now, limit=2) for _ in range(3)] == [2, 2, 0]

    assert [task.task_id for task in webhook.delivered] == [told.task_id]
    for task in stuck:
        left = services.store.get(task.task_id)
        assert left.tidy_due_at is not None
        assert now + TIDY_AFTER <= left.tidy_due_at < now + 2 * TIDY_AFTER
        assert replace(left, version=1, tidy_due_at=NOW) == task


def test_a_record_goes_in_its_time_whatever_its_bucket_refuses(services: Services, tmp_path: Path) -> None:
    task = created(services, destination=Destination(bucket="media-out"), notices=(), tidy_due_at=None)
    stored(services, tmp_path, services.log_key(task, 1))

    assert sweep(replace(services, buckets=refusing), now=NOW + KEEP_RECORD) == 0

    with pytest.raises(TaskNotFound):
        services.store.get(task.task_id)
    assert services.objects.head(services.log_key(task, 1)) is None


def test_purge_deletes_the_outputs_and_keeps_the_record(services: Services, tmp_path: Path) -> None:
    task = services.store.create(task_in(Status.COMPLETED, result_ttl_seconds=60))
    stored(services, tmp_path, task.outputs[0].key)
    now = NOW + timedelta(seconds=60)
    assert attend(services, task, now=now) == replace(task, version=2, purged_at=now)
    assert services.objects.head(task.outputs[0].key) is None


def test_forget_deletes_the_record_and_whatever_came_late(services: Services, tmp_path: Path) -> None:
    """A worker that was frozen for long may store something when all was tidied, and be killed."""
    task = services.store.create(replace(task_in(Status.FAILED), tidy_due_at=None))
    late = f"{services.folder(task)}/1/output.mp4"
    stored(services, tmp_path, late)
    assert attend(services, task, now=NOW + KEEP_RECORD) is None
    with pytest.raises(TaskNotFound):
        services.store.get(task.task_id)
    assert services.objects.head(late) is None


def test_forget_of_what_was_executed_meanwhile_is_refused(services: Services) -> None:
    seen = services.store.create(task_in(Status.PENDING))
    queued = services.store.replace(moves.execute(seen, now=NOW), seen)
    with pytest.raises(TaskChanged):
        attend(services, seen, now=NOW + KEEP_RECORD)
    assert services.store.get(seen.task_id) == queued


def test_sweep_does_all_that_is_due_and_leaves_those_that_live(services: Services, webhook: RecordingChannel) -> None:
    told, old = created(services), services.store.create(task_in(Status.PENDING, created_at=NOW - KEEP_RECORD))
    live = [services.store.create(task_in(status)) for status in Status if status.live]
    assert sweep(services, now=NOW) == 2
    assert [task.task_id for task in webhook.delivered] == [told.task_id]
    with pytest.raises(TaskNotFound):
        services.store.get(old.task_id)
    assert [services.store.get(task.task_id) for task in live] == live
    assert sweep(services, now=NOW) == 0


def test_sweep_goes_on_when_one_breaks_down(services: Services, webhook: RecordingChannel) -> None:
    tasks = [created(services) for _ in range(3)]
    webhook.failure = RuntimeError("The sender broke down.")
    assert sweep(services, now=NOW) == 0
    assert {services.store.get(task.task_id).notices[0].tries for task in tasks} == {1}
