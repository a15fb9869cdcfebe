"""What ports.TaskStore promises, on both twins; below, what each of them has of its own."""

import json
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

from core import moves
from core.aws import client as clients
from core.aws.task_store import EXPIRES, DynamoTaskStore
from core.destination import Destination
from core.errors import InternalError, TaskChanged, TaskExists, TaskNotFound
from core.local.task_store import COUNT_LIVE, SqliteTaskStore
from core.ports import TaskStore
from core.task import (
    KEEP_RECORD,
    Failure,
    FailureCode,
    Media,
    Notice,
    NoticeStatus,
    Progress,
    Recipe,
    Stage,
    Status,
    Stream,
    Task,
    Timings,
)
from support import moto_server
from support.builders import NOW, a_task, an_output, task_in
from support.moto_server import Moto

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def a_full_task() -> Task:
    """Every field of a task, and of all that it is made of, set to something that is not its default."""
    task = moves.claim(task_in(Status.RUNNING), now=NOW + timedelta(hours=1), owner="worker-2", job_id="job-0")
    stream = Stream(
        type="video", codec="h264", width=1920, height=1080, frame_rate=29.97, pixel_format="yuv420p",
        sample_aspect_ratio="1:1", channels=2, channel_layout="stereo", sample_rate=48000, bit_rate=5_000_000,
    )  # fmt: skip
    media = Media(container="mp4", duration_seconds=12.5, bit_rate=5_100_000, streams=(stream,))
    return replace(
        task,
        command='-i "a b.mp4" -vf "drawtext=text=\'ü 日本\'" out.mp4',
        job_id="job-1",
        batch_id="4f9d2c1e-7a53-4b8e-9c06-5d1f8a2b0000",
        delete_input="a b.mp4",
        fingerprint="ab" * 32,
        key_name="alice",
        callback_url="https://callbacks.example/ended?token=1",
        destination=Destination(bucket="media-out", prefix="shows/42"),
        timeout_seconds=60,
        recipe=Recipe(preset="sprite", text='looks = "sprite"\n', parameters={"every": 2, "rate": "5M"}, gpu=True),
        metadata={"order": "4711", "ü": ""},
        result_ttl_seconds=3600,
        finished_at=NOW,
        dispatch_due_at=NOW,
        expires_at=NOW,
        purged_at=NOW,
        tidy_due_at=NOW,
        queue_reason="No machine yet.",
        notices=(
            Notice(channel="webhook", status=NoticeStatus.ABANDONED, tries=9, error="No."),
            Notice(channel="event", status=NoticeStatus.DELIVERED, tries=1, due_at=NOW, delivered_at=NOW),
        ),
        unread={"priority": 5},
        stage=Stage.UPLOADING,
        progress=Progress(percent=12.5, frame=3, fps=25.0, speed=1.5, out_time_seconds=0.12, eta_seconds=9.0),
        timings=Timings(download_seconds=1.5, transcode_seconds=2.5, upload_seconds=3.5),
        outputs=(an_output(task.task_id, media=media), an_output(task.task_id, filename="ü 日本.mp4")),
        output_count=2,
        error=Failure(code=FailureCode.DISK_FULL, message="Full.", retryable=False, details={"free_bytes": 0}),
    )


def test_create_returns_the_task_with_its_version(store: TaskStore) -> None:
    task = a_task()
    stored = store.create(task)
    assert stored == replace(task, version=1)
    assert store.get(task.task_id) == stored


def test_create_keeps_every_field(store: TaskStore) -> None:
    full = a_full_task()
    assert [field.name for field in fields(Task) if getattr(full, field.name) in (None, (), {})] == []
    stored = store.create(full)
    assert store.get(stored.task_id) == stored


def test_create_refuses_an_id_that_is_taken(store: TaskStore) -> None:
    task = a_task()
    stored = store.create(task)
    for again in (task, replace(task, command="-i input.mp4 other.mp4")):
        with pytest.raises(TaskExists):
            store.create(again)
    assert store.get(task.task_id) == stored


def test_of_many_who_create_one_task_one_succeeds(store: TaskStore) -> None:
    task = a_task()

    def create(number: int) -> bool:
        try:
            store.create(replace(task, correlation_id=str(number)))
        except TaskExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [False] * 7 + [True]


def test_live_tasks_of_a_key_are_counted_up_to_what_is_asked(store: TaskStore) -> None:
    for status in Status:
        store.create(task_in(status, key_name="alice"))
        store.create(task_in(status, key_name="al"))
        store.create(task_in(status))
    store.create(task_in(Status.QUEUED, key_name="alice"))

    assert store.count_live("alice", most=100) == 3
    assert [store.count_live("alice", most=most) for most in (1, 2, 3)] == [1, 2, 3]
    assert store.count_live("bob", most=100) == 0


def test_a_task_is_counted_from_when_it_is_queued_until_it_ends(store: TaskStore) -> None:
    task = store.create(a_task(key_name="alice"))
    counted = [store.count_live("alice", most=9)]
    task = store.replace(moves.execute(task, now=NOW), task)
    counted.append(store.count_live("alice", most=9))
    task = store.replace(moves.claim(task, now=NOW, owner="worker-1"), task)
    counted.append(store.count_live("alice", most=9))
    store.replace(moves.cancel(task, now=NOW), task)
    assert [*counted, store.count_live("alice", most=9)] == [0, 1, 1, 0]


def test_get_of_an_unknown_task_says_so(store: TaskStore) -> None:
    with pytest.raises(TaskNotFound) as caught:
        store.get("not-there")
    assert caught.value.details == {"task_id": "not-there"}


def test_replace_counts_the_version_up(store: TaskStore) -> None:
    first = store.create(a_task())
    second = store.replace(moves.execute(first, now=NOW), first)
    assert second == replace(moves.execute(first, now=NOW), version=2)
    assert store.get(first.task_id) == second


def test_replace_of_a_version_that_is_no_more_is_refused(store: TaskStore) -> None:
    first = store.create(a_task())
    second = store.replace(replace(first, job_id="a"), first)
    for stale in (first, replace(second, version=3)):
        with pytest.raises(TaskChanged):
            store.replace(replace(stale, job_id="b"), stale)
    assert store.get(first.task_id) == second


def test_replace_with_the_very_same_content_is_refused_to_the_second(store: TaskStore) -> None:
    first = store.create(a_task())
    queued = moves.execute(first, now=NOW)
    store.replace(queued, first)
    with pytest.raises(TaskChanged):
        store.replace(queued, first)


def test_replace_of_an_unknown_task_says_so(store: TaskStore) -> None:
    task = replace(a_task(), version=1)
    with pytest.raises(TaskNotFound):
        store.replace(task, task)
    with pytest.raises(TaskNotFound):
        store.get(task.task_id)


def test_no_increment_is_lost_when_many_replace(store: TaskStore) -> None:
    threads, each = (8, 25) if isinstance(store, SqliteTaskStore) else (4, 5)
    task = store.create(a_task())

    def increment() -> None:
        for _ in range(each):
            while True:
                seen = store.get(task.task_id)
                try:
                    store.replace(replace(seen, output_count=seen.output_count + 1), seen)
                    break
                except TaskChanged:
                    continue

    running = [threading.Thread(target=increment) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    expected = replace(task, output_count=threads * each, version=1 + threads * each)
    assert store.get(task.task_id) == expected


def test_due_lists_what_is_due_the_longest_due_first(store: TaskStore) -> None:
    for status in (Status.PENDING, Status.COMPLETED, Status.FAILED, Status.CANCELED):
        store.create(task_in(status))
    queued = [
        store.create(replace(task_in(Status.QUEUED), dispatch_due_at=NOW + timedelta(seconds=seconds)))
        for seconds in (30, 10, 20, 10.5)
    ]
    running = store.create(replace(task_in(Status.RUNNING), lease_expires_at=NOW + timedelta(seconds=15)))
    a, b, c, d = queued
    assert store.due(NOW + timedelta(seconds=30), limit=10) == [b, d, running, c, a]
    assert store.due(NOW + timedelta(seconds=29.999999), limit=10) == [b, d, running, c]
    assert store.due(NOW + timedelta(seconds=30), limit=2) == [b, d]
    assert store.due(NOW, limit=10) == []


def test_due_lists_those_that_no_longer_go_on_apart(store: TaskStore) -> None:
    """Any number of them must not keep a sweep from those that live."""
    for status in (Status.QUEUED, Status.RUNNING):
        store.create(task_in(status))
    completed = store.create(task_in(Status.COMPLETED))  # nothing is to be done for it, ever
    failed = store.create(task_in(Status.FAILED))
    pending = store.create(replace(task_in(Status.PENDING), created_at=NOW - timedelta(days=1)))
    canceled = store.create(task_in(Status.CANCELED))
    ever = NOW + timedelta(days=365)
    assert store.due(ever, limit=10, live=False) == [failed, pending, canceled]
    assert store.due(ever, limit=2, live=False) == [failed, pending]
    assert completed not in store.due(ever, limit=10)
    assert len(store.due(ever, limit=10)) == 2


def test_due_follows_a_task_through_its_life(store: TaskStore) -> None:
    late = NOW + timedelta(days=365)

    def lists() -> tuple[list[Task], list[Task]]:
        return list(store.due(late, limit=10)), list(store.due(late, limit=10, live=False))

    task = store.create(a_task())
    assert lists() == ([], [task])
    queued = store.replace(moves.execute(task, now=NOW), task)
    assert lists() == ([queued], [])
    running = store.replace(moves.claim(queued, now=NOW, owner="w"), queued)
    assert lists() == ([running], [])
    error = Failure.of(FailureCode.MEDIA_INVALID, "No.")
    ended = moves.fail(running, now=NOW, fence=1, error=error, timings=Timings(), retry_after=timedelta(0))
    failed = store.replace(ended, running)
    assert lists() == ([], [failed])
    store.forget(failed)
    assert lists() == ([], [])


def test_forget_leaves_nothing_of_the_task(store: TaskStore) -> None:
    task, other = store.create(a_task()), store.create(a_task())
    store.forget(task)
    for _ in range(2):
        with pytest.raises(TaskNotFound):
            store.get(task.task_id)
        with pytest.raises(TaskNotFound):
            store.forget(task)
    assert store.get(other.task_id) == other
    assert store.create(task) == task  # its id is free again


def test_forget_of_a_version_that_is_no_more_is_refused(store: TaskStore) -> None:
    task = store.create(a_task())
    queued = store.replace(moves.execute(task, now=NOW), task)
    with pytest.raises(TaskChanged):
        store.forget(task)
    assert store.get(task.task_id) == queued


def test_what_a_later_version_keeps_in_a_task_outlives_a_write_by_this_one(store: TaskStore) -> None:
    later = {"priority": 5, "labels": {"team": ["a", "ü"]}}
    task = store.create(a_task(unread=later))
    assert store.get(task.task_id).unread == later
    store.replace(moves.execute(store.get(task.task_id), now=NOW), task)
    assert store.get(task.task_id) == replace(moves.execute(task, now=NOW), version=2, unread=later)


def test_due_finds_many(store: TaskStore) -> None:
    created = {store.create(task_in(Status.QUEUED)).task_id for _ in range(25)}
    assert {task.task_id for task in store.due(NOW + timedelta(minutes=1), limit=100)} == created
    assert len(store.due(NOW + timedelta(minutes=1), limit=7)) == 7


def test_a_task_of_300_kb_fits(store: TaskStore) -> None:
    names = {f"input {number}.mp4": f"https://media.example/{'x' * 3000}" for number in range(98)}
    stored = store.create(a_task(input_files=names))
    assert store.get(stored.task_id) == stored


def test_check_says_what_is_in_use(store: TaskStore) -> None:
    assert store.check().split()[0] in ("SQLite", "DynamoDB")


# One machine


def test_sqlite_check_refuses_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "tasks.db").write_bytes(b"something else" * 1000)
    with pytest.raises(InternalError):
        SqliteTaskStore(tmp_path / "tasks.db").check()


PROCESS = """
import sys
from dataclasses import replace
from pathlib import Path
from core.errors import TaskChanged, TaskExists
from core.local.task_store import SqliteTaskStore
from support.builders import a_task

store = SqliteTaskStore(Path(sys.argv[1]))
try:
    store.create(a_task(task_id="shared"))
except TaskExists:
    pass
done = 0
while done < 25:
    seen = store.get("shared")
    try:
        store.replace(replace(seen, output_count=seen.output_count + 1), seen)
        done += 1
    except TaskChanged:
        pass
store.close()
"""


def test_sqlite_serves_processes_that_start_together_on_nothing(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "tasks.db"
    env = {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", PROCESS, str(path)]
    processes = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    store = SqliteTaskStore(path)
    assert store.get("shared").output_count == 100
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["tasks.db"]


def test_sqlite_writes_are_there_for_whoever_opens_the_file_next(tmp_path: Path) -> None:
    first, second = SqliteTaskStore(tmp_path / "tasks.db"), SqliteTaskStore(tmp_path / "tasks.db")
    stored = first.create(a_task())
    assert second.get(stored.task_id) == stored
    changed = second.replace(replace(stored, job_id="x"), stored)
    assert first.get(stored.task_id) == changed
    first.close()
    second.close()


# AWS


def test_dynamo_takes_its_own_write_for_its_own_when_the_answer_was_lost(aws: Moto) -> None:
    client = clients.dynamodb()
    store = DynamoTaskStore(moto_server.TABLE, client=client)
    task = a_task()
    lost = _LostAnswers(client)
    lost.lose_next()
    stored = store.create(task)
    lost.lose_next()
    queued = store.replace(moves.execute(stored, now=NOW), stored)
    assert store.get(task.task_id) == queued == replace(moves.execute(task, now=NOW), version=2)
    assert lost.count == 2


def test_dynamo_keeps_only_what_conditions_and_the_index_need_beside_the_body(aws: Moto) -> None:
    store = DynamoTaskStore(moto_server.TABLE)
    queued, ended = store.create(task_in(Status.QUEUED)), store.create(task_in(Status.COMPLETED))
    items = {item["task_id"]["S"]: item for item in boto3.client("dynamodb").scan(TableName=moto_server.TABLE)["Items"]}
    listed, state = {"listed_shard", "listed_at"}, {"state", "state_since", "seconds"}
    assert set(items[ended.task_id]) == {"task_id", "version", "status", "created_at", "body"} | listed | state
    assert items[ended.task_id]["listed_at"] == {"S": f"01795176000123456#{ended.task_id}"}
    assert set(items[queued.task_id]) == {*items[ended.task_id], "due_shard", "due_at"} - {"seconds"}
    assert items[queued.task_id]["due_at"] == {"N": "1795176015.123456"}
    assert json.loads(items[queued.task_id]["body"]["S"])["version"] == 1


def test_dynamo_without_its_table_is_not_usable(aws: Moto) -> None:
    with pytest.raises(InternalError):
        DynamoTaskStore("no-such-table").check()


class _LostAnswers:
    """Lets the next PutItem reach the server, and its answer be lost on the way back."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self.count = 0
        self._wanted = False
        client.meta.events.register("before-send.dynamodb.PutItem", self._lose)

    def lose_next(self) -> None:
        self._wanted = True

    def _lose(self, request: AWSPreparedRequest, **_: object) -> None:
        if self._wanted:
            self._wanted = False
            self.count += 1
            assert URLLib3Session().send(request).status_code == 200
            raise ReadTimeoutError(endpoint_url=request.url)


@pytest.mark.parametrize(
    ("task", "expires"),
    [
        (task_in(Status.PENDING), NOW + KEEP_RECORD),
        (task_in(Status.FAILED), NOW + KEEP_RECORD),
        (task_in(Status.QUEUED), None),
        (task_in(Status.RUNNING), None),
        (task_in(Status.COMPLETED), None),  # its outputs are there
        (moves.purged(task_in(Status.COMPLETED), now=NOW + timedelta(days=2)), NOW + timedelta(days=2) + KEEP_RECORD),
    ],
    ids=["pending", "failed", "queued", "running", "completed", "purged"],
)
def test_the_table_drops_a_record_that_nobody_has_deleted_a_day_after_its_time(
    aws: Moto, task: Task, expires: datetime | None
) -> None:
    DynamoTaskStore(moto_server.TABLE).create(task)
    (item,) = boto3.client("dynamodb").scan(TableName=moto_server.TABLE)["Items"]
    expected = {"N": str(int((expires + timedelta(days=1)).timestamp()))} if expires else None
    assert item.get(EXPIRES) == expected


def test_a_task_that_goes_on_is_no_longer_dropped(aws: Moto) -> None:
    store = DynamoTaskStore(moto_server.TABLE)
    task = store.create(task_in(Status.PENDING))
    store.replace(moves.execute(task, now=NOW), task)
    (item,) = boto3.client("dynamodb").scan(TableName=moto_server.TABLE)["Items"]
    assert EXPIRES not in item


def test_sqlite_counts_live_tasks_by_an_index_also_in_a_file_from_before_there_were_keys(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    with closing(SqliteTaskStore(path)) as store:
        store.create(task_in(Status.QUEUED, key_name="alice"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX tasks_live_by_key")

    with closing(SqliteTaskStore(path)) as store:
        assert store.count_live("alice", most=9) == 1
    with closing(sqlite3.connect(path)) as connection:
        plan = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {COUNT_LIVE}", ("alice", 9))]
    assert "SEARCH tasks USING INDEX tasks_live_by_key (<expr>=?)" in plan


def test_dynamo_counts_live_tasks_over_several_pages(aws: Moto) -> None:
    """A page of the index has 1 MB at most: 520 keys of 2 kB are two."""
    with boto3.resource("dynamodb").Table(moto_server.TABLE).batch_writer() as batch:
        for number in range(520):
            batch.put_item({"task_id": f"{number:02000}", "live_key": "alice"})
    pages: list[int] = []
    client = clients.dynamodb()
    client.meta.events.register("after-call.dynamodb.Query", lambda parsed, **_: pages.append(parsed["Count"]))
    store = DynamoTaskStore(moto_server.TABLE, client=client)

    assert store.count_live("alice", most=600) == sum(pages) == 520
    assert len(pages) > 1
