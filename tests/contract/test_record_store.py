"""What ports.RecordStore promises, on both twins."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.aws.record_store import DynamoRecordStore
from core.aws.task_store import DynamoTaskStore
from core.errors import RecordChanged
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.ports import Position, Record, RecordStore, TaskStore
from support import moto_server
from support.builders import NOW, a_task

TWINS = ["local", "aws"]
LATER = NOW + timedelta(hours=1)


@pytest.fixture(params=TWINS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[RecordStore, TaskStore]]:
    """Records and tasks in one place, as they are in use."""
    if request.param == "aws":
        request.getfixturevalue("aws")
        yield DynamoRecordStore(moto_server.TABLE), DynamoTaskStore(moto_server.TABLE)
        return
    records, tasks = SqliteRecordStore(tmp_path / "data" / "tasks.db"), SqliteTaskStore(tmp_path / "data" / "tasks.db")
    yield records, tasks
    records.close()
    tasks.close()


@pytest.fixture
def records(stores: tuple[RecordStore, TaskStore]) -> RecordStore:
    return stores[0]


def a_record(record_id: str = "one", kind: str = "upload", **fields: object) -> Record:
    made = Record(kind=kind, record_id=record_id, body='{"words": "ü 日本"}', created_at=NOW)
    return replace(made, **fields)  # type: ignore[arg-type]


def test_record_is_found_as_it_was_stored(records: RecordStore) -> None:
    stored = records.create(a_record(due_at=LATER))

    assert stored == a_record(due_at=LATER, version=1)
    assert records.find("upload", "one") == stored
    assert records.find("upload", "another") is None
    assert records.find("batch", "one") is None


def test_record_is_created_once(records: RecordStore) -> None:
    records.create(a_record())

    with pytest.raises(RecordChanged):
        records.create(a_record(body="{}"))

    assert records.find("upload", "one") == a_record(version=1)


def test_replace_is_for_who_read_the_newest_version(records: RecordStore) -> None:
    first = records.create(a_record())

    second = records.replace(replace(first, body="{}", due_at=LATER), first)

    assert second == replace(first, body="{}", due_at=LATER, version=2)
    assert records.find("upload", "one") == second
    with pytest.raises(RecordChanged):
        records.replace(replace(first, body="[]"), first)
    records.delete(second)
    with pytest.raises(RecordChanged):
        records.replace(replace(second, body="[]"), second)
    assert records.find("upload", "one") is None


def test_of_many_that_replace_at_once_one_wins(records: RecordStore) -> None:
    first = records.create(a_record())

    def change(number: int) -> int | None:
        with suppress(RecordChanged):
            records.replace(replace(first, body=str(number)), first)
            return number
        return None

    with ThreadPoolExecutor(8) as pool:
        won = [number for number in pool.map(change, range(1, 17)) if number]

    found = records.find("upload", "one")
    assert found
    assert [found.body] == [str(number) for number in won]


def test_delete_is_for_who_read_the_newest_version(records: RecordStore) -> None:
    first = records.create(a_record())
    second = records.replace(replace(first, body="{}"), first)

    with pytest.raises(RecordChanged):
        records.delete(first)
    records.delete(second)
    records.delete(second)

    assert records.find("upload", "one") is None


def test_due_are_those_of_the_kind_whose_time_has_come(records: RecordStore) -> None:
    times = {"late": LATER, "early": NOW - timedelta(hours=1), "now": NOW, "never": None}
    for name, due_at in times.items():
        records.create(a_record(name, due_at=due_at))
    records.create(a_record("other", kind="batch", due_at=NOW))

    assert [record.record_id for record in records.due("upload", NOW, limit=10)] == ["early", "now"]
    assert [record.record_id for record in records.due("upload", NOW, limit=1)] == ["early"]
    early = records.due("upload", NOW, limit=1)[0]
    records.replace(replace(early, due_at=None), early)
    assert [record.record_id for record in records.due("upload", NOW, limit=10)] == ["now"]


def test_newest_come_first_and_go_on_below(records: RecordStore) -> None:
    for minute, name in enumerate("abc"):
        records.create(a_record(name, created_at=NOW + timedelta(minutes=minute)))
    records.create(a_record("d", created_at=NOW + timedelta(minutes=2)))
    records.create(a_record("x", kind="batch"))

    first = records.newest("upload", limit=2)
    rest = records.newest("upload", limit=10, below=first.next)

    assert [record.record_id for record in (*first.records, *rest.records)] == ["d", "c", "b", "a"]
    assert (first.next, rest.next) == (Position(NOW + timedelta(minutes=2), "c"), None)


def test_newest_are_not_older_than_asked_for(records: RecordStore) -> None:
    for minute, name in enumerate("abcd"):
        records.create(a_record(name, created_at=NOW + timedelta(minutes=minute)))

    def named(limit: int, below: Position | None = None, since: timedelta = timedelta(minutes=1)) -> list[str]:
        page = records.newest("upload", limit=limit, below=below, since=NOW + since)
        return [found.record_id for found in page.records]

    assert named(10) == ["d", "c", "b"]
    assert named(2) == ["d", "c"]
    assert named(10, below=Position(NOW + timedelta(minutes=3), "d")) == ["c", "b"]
    assert named(10, below=Position(NOW + timedelta(minutes=1), "b")) == []
    assert named(10, below=Position(NOW, "z")) == []
    assert named(10, since=timedelta(hours=1)) == []


def test_records_and_tasks_do_not_meet(stores: tuple[RecordStore, TaskStore]) -> None:
    records, tasks = stores
    task = tasks.create(a_task())
    records.create(a_record(task.task_id, due_at=NOW))

    assert tasks.get(task.task_id) == task
    assert tasks.page(limit=10).tasks == [task]
    assert list(tasks.due(LATER, limit=10)) == []
    assert list(tasks.due(LATER, limit=10, live=False)) == []
