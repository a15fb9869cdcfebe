"""How things stand, by ports.TaskStore.survey, on both twins."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from core import moves
from core.aws import client as clients
from core.aws.task_store import DynamoTaskStore
from core.local.task_store import COUNT, ENDS, WAITING, SqliteTaskStore
from core.ports import End, Survey, TaskStore
from core.task import Progress, Stage, Status, Task, Timings
from support import moto_server
from support.builders import NOW, a_task, an_id, task_in
from support.moto_server import Moto

HOUR = timedelta(hours=1)
EMPTY = Survey({Status.PENDING: 0, Status.QUEUED: 0, Status.RUNNING: 0}, [], None)


@pytest.fixture(params=["local", "aws"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskStore]:
    if request.param == "aws":
        request.getfixturevalue("aws")
        yield DynamoTaskStore(moto_server.TABLE)
        return
    with contextlib.closing(SqliteTaskStore(tmp_path / "tasks.db")) as made:
        yield made


def ended(status: Status, *, after: float, queued: bool = True) -> Task:
    """A task that was executed at NOW, unless it never was, and ended so many seconds later."""
    return replace(
        task_in(status), queued_at=NOW if queued else None, finished_at=NOW + timedelta(seconds=after), attempts=()
    )


def test_survey_of_nothing_says_so(store: TaskStore) -> None:
    assert store.survey(ended_since=NOW - HOUR, most=100) == EMPTY


def test_survey_counts_what_lives_and_lists_what_has_ended_of_late(store: TaskStore) -> None:
    for status, number in ((Status.PENDING, 3), (Status.QUEUED, 2), (Status.RUNNING, 4)):
        for _ in range(number):
            store.create(task_in(status))
    for task in (
        ended(Status.COMPLETED, after=20.5),
        ended(Status.COMPLETED, after=10),
        ended(Status.FAILED, after=11),
        ended(Status.CANCELED, after=12, queued=False),
        ended(Status.COMPLETED, after=9.999999),  # a moment too early
        ended(Status.FAILED, after=-HOUR.total_seconds()),
    ):
        store.create(task)

    found = store.survey(ended_since=NOW + timedelta(seconds=10), most=100)

    assert found.counts == {Status.PENDING: 3, Status.QUEUED: 2, Status.RUNNING: 4}
    assert sorted(found.ends) == [
        End(Status.CANCELED, NOW + timedelta(seconds=12), None),
        End(Status.COMPLETED, NOW + timedelta(seconds=10), 10),
        End(Status.COMPLETED, NOW + timedelta(seconds=20.5), 20.5),
        End(Status.FAILED, NOW + timedelta(seconds=11), 11),
    ]
    assert found.waiting_since == NOW


def test_survey_follows_a_task_through_its_life(store: TaskStore) -> None:
    def counted() -> tuple[dict[Status, int], int]:
        found = store.survey(ended_since=NOW - HOUR, most=100)
        return {status: number for status, number in found.counts.items() if number}, len(found.ends)

    task = store.create(a_task())
    assert counted() == ({Status.PENDING: 1}, 0)
    task = store.replace(moves.execute(task, now=NOW), task)
    assert counted() == ({Status.QUEUED: 1}, 0)
    task = store.replace(moves.claim(task, now=NOW, owner="worker-1"), task)
    assert counted() == ({Status.RUNNING: 1}, 0)
    done = moves.complete(task, now=NOW, fence=1, outputs=(), output_count=0, timings=Timings())
    task = store.replace(done, task)
    assert counted() == ({}, 1)
    store.forget(task)
    assert counted() == ({}, 0)


def test_survey_knows_who_has_waited_the_longest_for_its_next_worker(store: TaskStore) -> None:
    since = [NOW + timedelta(seconds=seconds) for seconds in (40, 30.25, 50)]
    for moment in since:
        store.create(replace(moves.execute(a_task(), now=moment), created_at=NOW))
    # One that was executed before all of them, and had a worker until later.
    again = task_in(Status.RUNNING)
    store.create(moves.release(again, now=NOW + timedelta(seconds=45), fence=1))

    assert store.survey(ended_since=NOW, most=100).waiting_since == NOW + timedelta(seconds=30.25)


def test_survey_counts_no_further_than_asked(store: TaskStore) -> None:
    for number in range(30):
        store.create(task_in(Status.QUEUED, task_id=an_id(number)))
        store.create(replace(ended(Status.COMPLETED, after=number), task_id=an_id(100 + number)))

    found = store.survey(ended_since=NOW, most=8)

    assert found.counts[Status.QUEUED] == 8
    assert 4 <= len(found.ends) <= 8


@pytest.mark.parametrize("query", [COUNT, WAITING, ENDS], ids=["count", "waiting", "ends"])
def test_one_machine_surveys_by_indexes_and_sorts_nothing(tmp_path: Path, query: str) -> None:
    path = tmp_path / "tasks.db"
    with contextlib.closing(SqliteTaskStore(path)) as store:
        store.check()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        values = ("queued", 5) if query is COUNT else ("2026", 5) if query is ENDS else ()
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values))
    index = {COUNT: "tasks_listed_by_status", WAITING: "tasks_waiting", ENDS: "tasks_ended"}[query]
    assert f"INDEX {index}" in plan
    assert "TEMP B-TREE" not in plan


def test_aws_surveys_by_a_bounded_number_of_queries_however_much_is_stored(aws: Moto) -> None:
    client = clients.dynamodb()
    calls: list[str] = []
    client.meta.events.register("before-call.dynamodb.*", lambda model, **_: calls.append(model.name))
    store = DynamoTaskStore(moto_server.TABLE, client=client)
    for number in range(120):
        store.create(ended(Status.COMPLETED, after=number))
        store.create(task_in(Status.QUEUED))
    calls.clear()

    found = store.survey(ended_since=NOW, most=16)

    assert found.counts[Status.QUEUED] == 16
    assert calls == ["Query"] * 20


def test_aws_keeps_out_of_the_index_of_states_what_only_moves_within_one(aws: Moto) -> None:
    store = DynamoTaskStore(moto_server.TABLE)
    task = store.create(task_in(Status.RUNNING))
    before = _in_index(task)
    progress, timings = Progress(percent=5.0), Timings()
    later = moves.report(task, now=NOW + HOUR, fence=1, stage=Stage.UPLOADING, progress=progress, timings=timings)
    store.replace(later, task)

    assert _in_index(task) == before


def _in_index(task: Task) -> object:
    items = boto3.client("dynamodb").scan(TableName=moto_server.TABLE, IndexName="states")["Items"]
    return next(item for item in items if item["task_id"]["S"] == task.task_id)
