"""The store as one caller sees it, apart from HTTP."""

from dataclasses import replace
from datetime import timedelta
from threading import Lock

import pytest

from core import moves
from core.errors import PermissionDenied, TaskNotFound, TooManyRequests
from core.execute import execute
from core.ports import Position, Services
from core.seen import ANYBODY, STRANGER, Caller, SeenTasks
from core.task import Status, Task
from support.builders import NOW, a_task, task_in

ALICE = Caller(name="alice")
LIMITED = Caller(name="alice", most_live=1)


def seen(services: Services, caller: Caller) -> SeenTasks:
    return SeenTasks(services.store, caller, Lock())


@pytest.mark.parametrize(
    ("caller", "names"),
    [
        (ALICE, ["alice"]),
        (Caller(name="alic"), []),
        (Caller(name="root", admin=True), [None, "alice", "bob"]),
        (ANYBODY, [None, "alice", "bob"]),
        (STRANGER, []),
    ],
)
def test_a_caller_sees_its_own_tasks_and_an_admin_all(
    services: Services, caller: Caller, names: list[str | None]
) -> None:
    tasks = [services.store.create(task_in(Status.QUEUED, key_name=name)) for name in (None, "alice", "bob")]
    view = seen(services, caller)

    assert [task.key_name for task in tasks if is_there(view, task)] == names
    assert {task.key_name for task in view.due(NOW + timedelta(days=1), limit=9)} == set(names)


def is_there(view: SeenTasks, task: Task) -> bool:
    try:
        return view.get(task.task_id) == task
    except TaskNotFound:
        return False


def test_anothers_task_is_missed_in_the_stores_own_words(services: Services) -> None:
    task_id = services.store.create(a_task(key_name="bob")).task_id
    with pytest.raises(TaskNotFound) as hidden:
        seen(services, ALICE).get(task_id)
    services.store.forget(services.store.get(task_id))
    with pytest.raises(TaskNotFound) as unknown:
        services.store.get(task_id)

    assert (hidden.value.message, hidden.value.details) == (unknown.value.message, unknown.value.details)


def test_only_what_becomes_live_is_counted(services: Services) -> None:
    services.store.create(task_in(Status.RUNNING, key_name="alice"))
    view = seen(services, LIMITED)
    pending, queued = (
        services.store.create(task_in(status, key_name="alice")) for status in (Status.PENDING, Status.QUEUED)
    )

    claimed = view.replace(moves.claim(queued, now=NOW, owner="worker-1"), queued)
    assert view.replace(moves.cancel(claimed, now=NOW), claimed).status is Status.CANCELED
    with pytest.raises(TooManyRequests) as caught:
        view.replace(moves.execute(pending, now=NOW), pending)
    assert caught.value.details == {"task_id": pending.task_id, "most_live_tasks": 1, "retry_after_seconds": 10}
    assert services.store.get(pending.task_id) == pending


def test_a_task_that_may_not_become_live_is_not_handed_over(services: Services) -> None:
    services.store.create(task_in(Status.QUEUED, key_name="alice"))
    pending = services.store.create(a_task(key_name="alice"))
    with pytest.raises(TooManyRequests):
        execute(replace(services, store=seen(services, LIMITED)), pending.task_id, now=NOW)
    assert services.store.get(pending.task_id) == pending


def test_a_page_passes_over_the_tasks_of_others(services: Services) -> None:
    tasks = [
        services.store.create(
            a_task(key_name="alice" if number % 3 else "bob", created_at=NOW + timedelta(seconds=number))
        )
        for number in range(12)
    ]
    view = seen(services, Caller(name="bob"))

    first = view.page(limit=3)
    second = view.page(limit=3, below=first.next)

    own = [task.task_id for task in reversed(tasks) if task.key_name == "bob"]
    assert [[task.task_id for task in page.tasks] for page in (first, second)] == [own[:3], own[3:]]
    assert second.next is None


def test_one_task_among_those_of_others_is_found_by_who_asks_for_one(services: Services) -> None:
    services.store.create(a_task(key_name="bob", created_at=NOW))
    own = services.store.create(a_task(key_name="bob", created_at=NOW + timedelta(seconds=1)))
    for number in range(60):
        services.store.create(a_task(key_name="alice", created_at=NOW + timedelta(seconds=2 + number)))

    page = seen(services, Caller(name="bob")).page(limit=1)

    assert (page.tasks, page.next) == ([own], Position.of(own))


def test_how_all_tasks_stand_is_for_those_who_see_them_all(services: Services) -> None:
    services.store.create(task_in(Status.QUEUED, key_name="bob"))
    for caller in (ALICE, STRANGER):
        with pytest.raises(PermissionDenied):
            seen(services, caller).survey(ended_since=NOW, most=9)
    for caller in (Caller(name="root", admin=True), ANYBODY):
        assert seen(services, caller).survey(ended_since=NOW, most=9) == services.store.survey(ended_since=NOW, most=9)
