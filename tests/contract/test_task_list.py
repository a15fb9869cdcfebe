"""What ports.TaskStore promises of its pages, on both twins; below, what each of them has of its own."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from core import moves
from core.aws import task_store
from core.aws.task_store import DynamoTaskStore
from core.errors import TooManyRequests
from core.local.task_store import SqliteTaskStore
from core.ports import Page, Position, TaskStore
from core.task import Status, Task
from support import moto_server
from support.builders import NOW, a_task, an_id, task_in
from support.moto_server import Moto

SECOND = timedelta(seconds=1)


def stored(store: TaskStore, count: int, *, status: Status = Status.PENDING, since: int = 0) -> list[Task]:
    """Tasks a second apart, the newest first."""
    made = (task_in(status, created_at=NOW + (since + number) * SECOND) for number in range(count))
    return [store.create(task) for task in made][::-1]


def pages(store: TaskStore, *, limit: int, status: Status | None = None) -> Iterator[Page]:
    below: Position | None = None
    for _ in range(1000):
        page = store.page(limit=limit, below=below, status=status)
        yield page
        assert len(page.tasks) <= limit
        if page.next is None:
            return
        assert below is None or page.next < below
        below = page.next
    raise AssertionError("it never ends")


def listed(store: TaskStore, **wanted: Any) -> list[Task]:
    return [task for page in pages(store, **wanted) for task in page.tasks]


def test_a_store_without_tasks_has_one_empty_page(store: TaskStore) -> None:
    assert store.page(limit=10) == Page([], None)
    assert store.page(limit=10, status=Status.QUEUED) == Page([], None)


def test_tasks_are_listed_whole_and_the_newest_first(store: TaskStore) -> None:
    tasks = stored(store, 3)
    page = store.page(limit=10)
    assert (list(page.tasks), page.next) == (tasks, None)


@pytest.mark.parametrize("limit", [1, 2, 7, 13, 200])
def test_page_after_page_has_each_task_once(store: TaskStore, limit: int) -> None:
    tasks = stored(store, 13)
    assert listed(store, limit=limit) == tasks


@pytest.mark.parametrize("limit", [1, 3])
def test_tasks_of_one_moment_are_told_apart(store: TaskStore, limit: int) -> None:
    tasks = [store.create(a_task()) for _ in range(9)]
    assert listed(store, limit=limit) == sorted(tasks, key=lambda task: task.task_id, reverse=True)


def test_tasks_that_are_a_microsecond_apart_are_told_apart(store: TaskStore) -> None:
    tasks = [store.create(a_task(created_at=NOW + timedelta(microseconds=number))) for number in range(12)]
    assert listed(store, limit=5) == tasks[::-1]


def test_tasks_that_are_added_meanwhile_move_nothing(store: TaskStore) -> None:
    tasks = stored(store, 20)
    seen: list[Task] = []
    for number, page in enumerate(pages(store, limit=3)):
        seen += page.tasks
        stored(store, 2, since=100 + 10 * number)
    assert seen == tasks


def test_tasks_that_change_or_go_meanwhile_move_nothing(store: TaskStore) -> None:
    tasks = stored(store, 12)
    following = pages(store, limit=4)
    seen = list(next(following).tasks)
    store.forget(tasks[3])  # the last of the page, below which the next one begins
    changed = store.replace(moves.execute(tasks[5], now=NOW), tasks[5])
    store.forget(tasks[8])
    seen += [task for page in following for task in page.tasks]
    assert seen == [*tasks[:5], changed, *tasks[6:8], *tasks[9:]]


@pytest.mark.parametrize("status", list(Status))
def test_of_one_status_all_are_listed_and_no_others(store: TaskStore, status: Status) -> None:
    tasks = {each: stored(store, 5, status=each, since=number) for number, each in enumerate(Status)}
    assert listed(store, limit=2, status=status) == tasks[status]


def test_a_task_that_has_left_a_status_is_not_listed_in_it(store: TaskStore) -> None:
    first, second = stored(store, 2)
    queued = store.replace(moves.execute(first, now=NOW), first)
    assert listed(store, limit=10, status=Status.PENDING) == [second]
    assert listed(store, limit=10, status=Status.QUEUED) == [queued]


# One machine.


def test_a_file_from_before_there_were_lists_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    with contextlib.closing(SqliteTaskStore(path)) as store:
        tasks = stored(store, 3)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP INDEX tasks_listed; DROP INDEX tasks_listed_by_status;")
    with contextlib.closing(SqliteTaskStore(path)) as store:
        assert listed(store, limit=2) == tasks
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert {"tasks_listed", "tasks_listed_by_status"} <= names


@pytest.mark.parametrize(
    ("where", "index"), [("", "tasks_listed"), ("status = 'failed' AND ", "tasks_listed_by_status")]
)
def test_a_page_is_read_by_an_index_and_not_sorted(tmp_path: Path, where: str, index: str) -> None:
    path = tmp_path / "tasks.db"
    with contextlib.closing(SqliteTaskStore(path)) as store:
        store.check()
    query = (
        f"SELECT body FROM tasks WHERE {where}(created_at, task_id) < (1, 'a') ORDER BY created_at DESC, task_id DESC"
    )
    with contextlib.closing(sqlite3.connect(path)) as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
    assert f"USING INDEX {index} " in plan
    assert "TEMP B-TREE" not in plan


# AWS.


def test_a_rare_status_is_looked_for_in_bounded_pages(aws: Moto) -> None:
    store = DynamoTaskStore(moto_server.TABLE, most_looked_at=4)
    made = [
        task_in(
            Status.PENDING if number > 1 else Status.FAILED, task_id=an_id(number), created_at=NOW + number * SECOND
        )
        for number in range(62)
    ]
    rare = [store.create(task) for task in made][1::-1]
    found = list(pages(store, limit=5, status=Status.FAILED))
    assert [task for page in found for task in page.tasks] == rare
    assert len(found) >= 62 // (4 * len(task_store.SHARDS))
    assert found[0].tasks == []


def test_a_status_that_some_have_is_listed_in_order_through_bounded_pages(aws: Moto) -> None:
    """The shards are looked down to different depths, and a page goes no further than the least of them."""
    store = DynamoTaskStore(moto_server.TABLE, most_looked_at=3)
    made = [
        store.create(task_in(Status.PENDING if number % 3 else Status.FAILED, created_at=NOW + number * SECOND))
        for number in range(48)
    ][::-1]
    found = listed(store, limit=5, status=Status.PENDING)
    assert found == [task for task in made if task.status is Status.PENDING]


def test_what_the_index_says_of_a_status_is_judged_by_the_task(aws: Moto) -> None:
    """An index lags behind its table."""
    store = DynamoTaskStore(moto_server.TABLE)
    task = store.create(task_in(Status.PENDING))
    boto3.client("dynamodb").update_item(
        TableName=moto_server.TABLE,
        Key={"task_id": {"S": task.task_id}},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": "failed"}},
    )
    assert listed(store, limit=5, status=Status.FAILED) == []
    assert listed(store, limit=5) == [task]


def test_a_heartbeat_leaves_the_list_as_it_is(aws: Moto) -> None:
    """A write costs in an index only when what it holds is changed."""
    store = DynamoTaskStore(moto_server.TABLE)
    running = store.create(task_in(Status.RUNNING))
    later = replace(running, lease_expires_at=NOW + timedelta(hours=1))
    kept = ("listed_shard", "listed_at", "status")

    def item() -> list[Any]:
        key = {"task_id": {"S": running.task_id}}
        found: Any = boto3.client("dynamodb").get_item(TableName=moto_server.TABLE, Key=key)["Item"]
        return [found[name] for name in kept]

    before = item()
    store.replace(later, running)
    assert item() == before


def test_a_row_that_cannot_be_read_keeps_no_other_from_the_list(aws: Moto) -> None:
    store = DynamoTaskStore(moto_server.TABLE)
    first, broken, last = stored(store, 3)
    boto3.client("dynamodb").update_item(
        TableName=moto_server.TABLE,
        Key={"task_id": {"S": broken.task_id}},
        UpdateExpression="SET body = :body",
        ExpressionAttributeValues={":body": {"S": "{"}},
    )
    assert listed(store, limit=10) == [first, last]


def test_what_the_table_does_not_give_at_once_is_asked_for_again(aws: Moto) -> None:
    """BatchGetItem gives as much as fits into an answer, and names the rest."""
    client: Any = boto3.client("dynamodb")
    rest: list[Any] = []

    def ask_for_two(params: Any, **_: Any) -> Any:
        keys = params["RequestItems"][moto_server.TABLE]["Keys"]
        rest[:] = keys[2:]
        return {**params, "RequestItems": {moto_server.TABLE: {"Keys": keys[:2]}}}

    def name_the_rest(parsed: Any, **_: Any) -> None:
        parsed["UnprocessedKeys"] = {moto_server.TABLE: {"Keys": list(rest)}} if rest else {}

    client.meta.events.register("provide-client-params.dynamodb.BatchGetItem", ask_for_two)
    client.meta.events.register("after-call.dynamodb.BatchGetItem", name_the_rest)
    store = DynamoTaskStore(moto_server.TABLE, client=client)
    tasks = stored(store, 5)
    assert store.page(limit=10) == Page(tasks, None)
    tasks = [*stored(store, 60, since=10), *tasks]
    with pytest.raises(TooManyRequests):  # more than is asked again for
        store.page(limit=65)


def test_a_page_may_be_longer_than_what_is_asked_for_at_once(aws: Moto) -> None:
    store = DynamoTaskStore(moto_server.TABLE)
    tasks = stored(store, 130)
    assert store.page(limit=120).tasks == tasks[:120]
