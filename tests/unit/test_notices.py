"""Notices over time, on a real SQLite store: how often, when, and what is written of it when things happen at once."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core import aftermath, moves
from core.aftermath import NOTICE_DELAYS
from core.errors import Conflict
from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.notify import notify
from core.ports import Channel, NotDelivered, Services
from core.task import Notice, NoticeStatus, Status, Task
from support.builders import NOW, a_task, task_in
from support.recording import RecordingDispatcher

DAY = timedelta(days=1)


class Killed(BaseException):
    """The process is gone, in the middle of it."""


class Scripted:
    """A Channel that does one thing after another, the last one ever after, and remembers the tasks it was given."""

    def __init__(self, *deeds: Callable[[], object]) -> None:
        self._deeds = deeds
        self.given: list[Task] = []

    def deliver(self, task: Task) -> None:
        self.given.append(task)
        self._deeds[min(len(self.given), len(self._deeds)) - 1]()


def arrives() -> None:
    return None


def fails() -> None:
    raise NotDelivered("The receiver answered 500.")


def fails_for_good() -> None:
    raise NotDelivered("The receiver answered 410.", final=True)


def dies() -> None:
    raise Killed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteTaskStore]:
    store = SqliteTaskStore(tmp_path / "tasks.db")
    yield store
    store.close()


@pytest.fixture
def services(tmp_path: Path, store: SqliteTaskStore) -> Services:
    objects = FolderObjectStore(tmp_path / "objects", base_url="http://127.0.0.1:1", secret=b"secret")
    return Services(
        store=store, records=SqliteRecordStore(tmp_path / "tasks.db"), objects=objects, dispatcher=RecordingDispatcher()
    )


def told_by(services: Services, **channels: Channel) -> Services:
    return replace(services, channels=channels)


def ended(services: Services, *channels: str) -> Task:
    """A task that ended at NOW, and of which these are to tell."""
    notices = tuple(Notice(channel=channel) for channel in channels or ("webhook",))
    return services.store.create(task_in(Status.COMPLETED, callback_url="https://hooks.example/", notices=notices))


def attended(services: Services, task: Task, now: datetime, chance: float = 0.0) -> Task:
    left = aftermath.attend(services, services.store.get(task.task_id), now=now, chance=lambda: chance)
    assert left is not None
    assert left == services.store.get(task.task_id)
    return left


def test_a_notice_that_arrives_is_sent_once(services: Services) -> None:
    webhook = Scripted(arrives)
    told, task = told_by(services, webhook=webhook), ended(services)
    left = attended(told, task, NOW)
    delivered = Notice(channel="webhook", status=NoticeStatus.DELIVERED, tries=1, delivered_at=NOW)
    assert left == replace(task, version=3, notices=(delivered,))
    for later in (timedelta(seconds=40), DAY, 7 * DAY):
        assert attended(told, task, NOW + later) == left
    assert len(webhook.given) == 1


def test_what_is_sent_says_that_it_is_being_tried(services: Services) -> None:
    webhook = Scripted(arrives)
    attended(told_by(services, webhook=webhook), ended(services), NOW)
    assert webhook.given[0].notices == (Notice(channel="webhook", tries=1, due_at=NOW + NOTICE_DELAYS[0]),)


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (1.0, 1.25)])
def test_a_notice_that_never_arrives_is_tried_for_over_a_day(services: Services, chance: float, factor: float) -> None:
    """By the clock alone: whoever looks when it is due, and never else, makes all the tries."""
    webhook, clock = Scripted(fails), NOW
    told, task = told_by(services, webhook=webhook), ended(services)
    tried_at: list[datetime] = []
    while (due := services.store.get(task.task_id).notices[0].due_at) is not None:
        before = attended(told, task, due - timedelta(microseconds=1), chance)
        assert before.notices[0].tries == len(tried_at)
        clock = due
        tried_at.append(clock)
        attended(told, task, clock, chance)

    expected = [NOW + sum(NOTICE_DELAYS[:count], timedelta(0)) * factor for count in range(len(NOTICE_DELAYS) + 1)]
    assert tried_at == expected
    assert len(webhook.given) == 9
    assert DAY < clock - NOW < 2 * DAY
    abandoned = Notice(channel="webhook", status=NoticeStatus.ABANDONED, tries=9, error="The receiver answered 500.")
    assert services.store.get(task.task_id).notices == (abandoned,)
    attended(told, task, NOW + 7 * DAY)
    assert len(webhook.given) == 9


def test_a_notice_arrives_at_its_third_try(services: Services) -> None:
    webhook = Scripted(fails, fails, arrives)
    told, task = told_by(services, webhook=webhook), ended(services)
    assert attended(told, task, NOW).notices == (
        Notice(channel="webhook", tries=1, due_at=NOW + NOTICE_DELAYS[0], error="The receiver answered 500."),
    )
    attended(told, task, NOW + timedelta(seconds=30))
    last = attended(told, task, NOW + timedelta(minutes=5))
    assert last.notices == (
        Notice(channel="webhook", status=NoticeStatus.DELIVERED, tries=3, delivered_at=NOW + timedelta(minutes=5)),
    )


def test_a_final_refusal_ends_it_and_notify_begins_it_anew(services: Services) -> None:
    webhook = Scripted(fails_for_good, arrives)
    told, task = told_by(services, webhook=webhook), ended(services)
    refused = attended(told, task, NOW)
    assert refused.notices == (
        Notice(channel="webhook", status=NoticeStatus.ABANDONED, tries=1, error="The receiver answered 410."),
    )
    attended(told, task, NOW + DAY)
    assert len(webhook.given) == 1

    notify(services, task.task_id, now=NOW + DAY)
    attended(told, task, NOW + DAY)
    delivered = Notice(channel="webhook", status=NoticeStatus.DELIVERED, tries=1, delivered_at=NOW + DAY)
    assert services.store.get(task.task_id).notices == (delivered,)


def test_a_sender_that_is_killed_leaves_the_notice_due_again(services: Services) -> None:
    webhook = Scripted(dies, arrives)
    told, task = told_by(services, webhook=webhook), ended(services)
    with pytest.raises(Killed):
        attended(told, task, NOW)
    left = services.store.get(task.task_id).notices
    assert left == (Notice(channel="webhook", tries=1, due_at=NOW + NOTICE_DELAYS[0]),)
    assert attended(told, task, NOW + timedelta(seconds=30)).notices[0].status is NoticeStatus.DELIVERED
    assert len(webhook.given) == 2


def test_a_notice_that_kills_its_sender_is_sent_a_bounded_number_of_times(services: Services) -> None:
    webhook = Scripted(dies)
    told, task = told_by(services, webhook=webhook), ended(services)
    now = NOW
    for _ in range(20):
        now += DAY
        try:
            attended(told, task, now)
        except Killed:
            continue
    (notice,) = services.store.get(task.task_id).notices
    assert (notice.status, notice.tries, len(webhook.given)) == (NoticeStatus.ABANDONED, 9, 9)
    assert notice.error == "The sender ended, each time, before it knew whether it had arrived."


def test_a_channel_that_is_not_set_up_is_said_to_be(services: Services) -> None:
    left = attended(services, ended(services, "event"), NOW)
    error = "This service is not set up to send by event."
    assert left.notices == (Notice(channel="event", status=NoticeStatus.ABANDONED, error=error),)


@pytest.mark.parametrize("status", [Status.PENDING, Status.QUEUED, Status.RUNNING])
def test_nothing_is_sent_before_the_end(services: Services, status: Status) -> None:
    webhook = Scripted(arrives)
    task = services.store.create(task_in(status, notices=(Notice(channel="webhook"),)))
    assert attended(told_by(services, webhook=webhook), task, NOW + timedelta(hours=1)) == task
    assert webhook.given == []


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELED])
def test_every_end_is_told(services: Services, status: Status) -> None:
    webhook = Scripted(arrives)
    task = services.store.create(task_in(status, notices=(Notice(channel="webhook"),)))
    attended(told_by(services, webhook=webhook), task, NOW)
    assert [given.status for given in webhook.given] == [status]


def test_one_channel_does_not_keep_the_other_from_being_told(services: Services) -> None:
    webhook, event = Scripted(fails_for_good), Scripted(arrives)
    task = ended(services, "webhook", "event")
    left = attended(told_by(services, webhook=webhook, event=event), task, NOW)
    assert [notice.status for notice in left.notices] == [NoticeStatus.ABANDONED, NoticeStatus.DELIVERED]


def test_what_happens_while_it_is_sent_does_not_make_it_sent_again(services: Services) -> None:
    """Somebody else sends the other notice and tidies up, while this one is under way."""
    task = ended(services, "webhook", "event")
    event = Scripted(arrives)

    def meanwhile() -> None:
        attended(told_by(services, event=event), task, NOW)
        now_stored = services.store.get(task.task_id)
        services.store.replace(moves.purged(now_stored, now=NOW), now_stored)

    webhook = Scripted(meanwhile, arrives)
    told = told_by(services, webhook=webhook, event=event)
    left = attended(told, task, NOW)
    delivered = (
        Notice(channel="webhook", status=NoticeStatus.DELIVERED, tries=1, delivered_at=NOW),
        Notice(channel="event", status=NoticeStatus.DELIVERED, tries=1, delivered_at=NOW),
    )
    assert (left.notices, left.purged_at) == (delivered, NOW)
    attended(told, task, NOW + DAY)
    assert (len(webhook.given), len(event.given)) == (1, 1)


def test_notify_while_it_is_sent_means_once_more(services: Services) -> None:
    """Whoever asks again may have lost what is just arriving."""
    task = ended(services)
    webhook = Scripted(lambda: notify(services, task.task_id, now=NOW), arrives)
    told = told_by(services, webhook=webhook)
    with pytest.raises(Conflict):
        attended(told, task, NOW)
    assert services.store.get(task.task_id).notices == (Notice(channel="webhook", due_at=NOW),)
    attended(told, task, NOW)
    assert len(webhook.given) == 2


def test_sweeps_at_once_send_each_notice_once(services: Services) -> None:
    count, sweeps = 30, 4
    webhook = Scripted(lambda: time.sleep(0.005))
    told = told_by(services, webhook=webhook)
    tasks = [ended(services) for _ in range(count)]
    together = threading.Barrier(sweeps)

    def run() -> None:
        together.wait()
        while aftermath.sweep(told, now=NOW):
            pass

    threads = [threading.Thread(target=run) for _ in range(sweeps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given.task_id for given in webhook.given) == sorted(task.task_id for task in tasks)
    left = [services.store.get(task.task_id).notices[0] for task in tasks]
    assert {(notice.status, notice.tries) for notice in left} == {(NoticeStatus.DELIVERED, 1)}


def test_a_slow_receiver_does_not_hold_up_the_others(services: Services) -> None:
    together = threading.Barrier(aftermath.PARALLEL)  # which breaks, unless all of them are sent at once
    webhook = Scripted(lambda: together.wait(timeout=30))
    for _ in range(aftermath.PARALLEL):
        ended(services)
    aftermath.sweep(told_by(services, webhook=webhook), now=NOW)
    assert (together.broken, len(webhook.given)) == (False, aftermath.PARALLEL)


def test_a_notice_that_had_to_wait_for_others_is_due_again_later(services: Services) -> None:
    """Or it would be due again while it is being sent, when more receivers are slow than there are threads."""
    told = told_by(services, webhook=Scripted(lambda: time.sleep(0.2)))
    tasks = [ended(services) for _ in range(aftermath.PARALLEL + 1)]
    aftermath.sweep(told, now=NOW)
    delivered = [services.store.get(task.task_id).notices[0].delivered_at or NOW for task in tasks]
    assert max(delivered) - NOW >= timedelta(seconds=0.2)


def test_a_sweep_that_is_stopped_begins_with_no_further_task(services: Services) -> None:
    stopped = threading.Event()
    webhook = Scripted(stopped.set)
    tasks = [ended(services) for _ in range(50)]
    aftermath.sweep(told_by(services, webhook=webhook), now=NOW, stopped=stopped.is_set)
    statuses = [services.store.get(task.task_id).notices[0].status for task in tasks]
    assert 1 <= statuses.count(NoticeStatus.DELIVERED) == len(webhook.given) <= aftermath.PARALLEL
    assert aftermath.sweep(told_by(services, webhook=webhook), now=NOW, stopped=lambda: True) == 0


def test_a_channel_that_breaks_leaves_the_others_alone_and_comes_again(services: Services) -> None:
    def breaks() -> None:
        raise ValueError("a fault of ours")

    webhook = Scripted(breaks, arrives)
    told, tasks = told_by(services, webhook=webhook), [ended(services) for _ in range(2)]
    aftermath.sweep(told, now=NOW)
    assert sorted(services.store.get(task.task_id).notices[0].status for task in tasks) == ["delivered", "pending"]
    aftermath.sweep(told, now=NOW + timedelta(minutes=1))
    assert [services.store.get(task.task_id).notices[0].status for task in tasks] == ["delivered"] * 2


def test_a_task_that_nobody_is_to_be_told_of_tells_nobody(services: Services) -> None:
    webhook = Scripted(arrives)
    task = services.store.create(moves.cancel(a_task(), now=NOW))
    assert attended(told_by(services, webhook=webhook), task, NOW) == task
    assert webhook.given == []
