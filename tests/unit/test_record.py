"""The stored form of a task: what is written can be read, by this version and by its neighbours."""

import json
from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import record
from core.destination import Destination
from core.task import (
    Attempt,
    Ending,
    Failure,
    FailureCode,
    Media,
    Notice,
    NoticeStatus,
    Output,
    Progress,
    Stage,
    Status,
    Stream,
    Task,
    Timings,
)

GOLDEN = (
    '{"task_id":"0b7c","status":"failed","command":"-i \\"a b.mp4\\" out.mp4","input_files":{"a b.mp4":"https://m.example/ü"},'
    '"output_files":["out.mp4"],"correlation_id":"c","created_at":"2026-11-20T12:00:00.123456+00:00","version":7,"fence":2,'
    '"finished_at":"2026-11-20T12:05:00+00:00","progress":{"percent":12.5,"frame":3},"timings":{"download_seconds":1.5},'
    '"outputs":[{"filename":"out.mp4","key":"o/0b7c/2/out.mp4","size_bytes":5,"sha256":"ab","media":{"container":"mp4",'
    '"streams":[{"type":"video","codec":"h264","width":640}]}}],"output_count":1,'
    '"error":{"code":"DISK_FULL","message":"Full.","retryable":true,"details":{"free_bytes":0}}}'
)

GOLDEN_TASK = Task(
    task_id="0b7c",
    status=Status.FAILED,
    command='-i "a b.mp4" out.mp4',
    input_files={"a b.mp4": "https://m.example/ü"},
    output_files=("out.mp4",),
    correlation_id="c",
    created_at=datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC),
    version=7,
    fence=2,
    finished_at=datetime(2026, 11, 20, 12, 5, tzinfo=UTC),
    progress=Progress(percent=12.5, frame=3),
    timings=Timings(download_seconds=1.5),
    outputs=(
        Output(
            filename="out.mp4",
            key="o/0b7c/2/out.mp4",
            size_bytes=5,
            sha256="ab",
            media=Media(container="mp4", streams=(Stream(type="video", codec="h264", width=640),)),
        ),
    ),
    output_count=1,
    error=Failure(code=FailureCode.DISK_FULL, message="Full.", retryable=True, details={"free_bytes": 0}),
)

# The same, of a task that was tried twice and told of.
GOLDEN_MORE = (
    '{"priority":5,"task_id":"0b7d","status":"canceled","command":"-i a b","input_files":{},"output_files":[],'
    '"correlation_id":"c","created_at":"2026-11-20T12:00:00+00:00","version":9,"fence":2,"fingerprint":"f00d",'
    '"callback_url":"https://c.example/x","result_ttl_seconds":3600,"finished_at":"2026-11-20T12:05:00+00:00",'
    '"tidy_due_at":"2026-11-20T12:08:00+00:00","attempts":[{"number":1,"owner":"w1",'
    '"started_at":"2026-11-20T12:01:00+00:00","job_id":"j1","finished_at":"2026-11-20T12:02:00+00:00","ending":"failed",'
    '"code":"DISK_FULL","message":"Full."},{"number":2,"owner":"w2","started_at":"2026-11-20T12:03:00+00:00",'
    '"finished_at":"2026-11-20T12:05:00+00:00","ending":"canceled"}],"notices":[{"channel":"webhook",'
    '"status":"delivered","tries":2,"delivered_at":"2026-11-20T12:06:00+00:00"},{"channel":"event","tries":1,'
    '"due_at":"2026-11-20T12:07:00+00:00","error":"Busy."}]}'
)


def at(minute: int) -> datetime:
    return datetime(2026, 11, 20, 12, minute, tzinfo=UTC)


GOLDEN_MORE_TASK = Task(
    task_id="0b7d",
    status=Status.CANCELED,
    command="-i a b",
    input_files={},
    output_files=(),
    correlation_id="c",
    created_at=at(0),
    version=9,
    fence=2,
    fingerprint="f00d",
    callback_url="https://c.example/x",
    result_ttl_seconds=3600,
    finished_at=at(5),
    tidy_due_at=at(8),
    attempts=(
        Attempt(
            number=1,
            owner="w1",
            started_at=at(1),
            job_id="j1",
            finished_at=at(2),
            ending=Ending.FAILED,
            code=FailureCode.DISK_FULL,
            message="Full.",
        ),
        Attempt(number=2, owner="w2", started_at=at(3), finished_at=at(5), ending=Ending.CANCELED),
    ),
    notices=(
        Notice(channel="webhook", status=NoticeStatus.DELIVERED, tries=2, delivered_at=at(6)),
        Notice(channel="event", tries=1, due_at=at(7), error="Busy."),
    ),
    unread={"priority": 5},
)
GOLDEN_ROWS = [(GOLDEN, GOLDEN_TASK), (GOLDEN_MORE, GOLDEN_MORE_TASK)]

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
whole = st.integers(0, 2**62)
real = st.floats(allow_nan=False, allow_infinity=False)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])
times = st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=zones)  # noqa: DTZ001
plain = st.recursive(
    st.none() | st.booleans() | whole | real | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)

streams = st.builds(
    Stream,
    type=words,
    codec=words,
    width=st.none() | whole,
    frame_rate=st.none() | real,
    pixel_format=st.none() | words,
    channels=st.none() | whole,
)
media = st.builds(
    Media,
    container=words,
    duration_seconds=st.none() | real,
    bit_rate=st.none() | whole,
    streams=st.lists(streams, max_size=3).map(tuple),
)
outputs = st.builds(Output, filename=words, key=words, size_bytes=whole, sha256=words, media=st.none() | media)
failures = st.builds(
    Failure,
    code=st.sampled_from(FailureCode),
    message=words,
    retryable=st.booleans(),
    details=st.dictionaries(words, plain, max_size=3),
)
progress = st.builds(
    Progress, percent=st.none() | real, frame=st.none() | whole, fps=st.none() | real, eta_seconds=st.none() | real
)
timings = st.builds(Timings, download_seconds=st.none() | real, upload_seconds=st.none() | real)
attempts = st.builds(
    Attempt,
    number=whole,
    owner=words,
    job_id=st.none() | words,
    started_at=times,
    finished_at=st.none() | times,
    ending=st.none() | st.sampled_from(Ending),
    code=st.none() | st.sampled_from(FailureCode),
    message=st.none() | words,
)
notices = st.builds(
    Notice,
    channel=words,
    status=st.sampled_from(NoticeStatus),
    tries=whole,
    due_at=st.none() | times,
    error=st.none() | words,
)
tasks = st.builds(
    Task,
    task_id=words,
    status=st.sampled_from(Status),
    command=words,
    input_files=st.dictionaries(words, words, max_size=3),
    output_files=st.lists(words, max_size=3).map(tuple),
    correlation_id=words,
    created_at=times,
    version=whole,
    fence=whole,
    owner=st.none() | words,
    job_id=st.none() | words,
    queued_at=st.none() | times,
    started_at=st.none() | times,
    finished_at=st.none() | times,
    dispatch_due_at=st.none() | times,
    lease_expires_at=st.none() | times,
    stage=st.none() | st.sampled_from(Stage),
    progress=progress,
    timings=timings,
    outputs=st.lists(outputs, max_size=3).map(tuple),
    output_count=whole,
    attempts=st.lists(attempts, max_size=3).map(tuple),
    notices=st.lists(notices, max_size=2).map(tuple),
    fingerprint=st.none() | words,
    result_ttl_seconds=st.none() | whole,
    purged_at=st.none() | times,
    destination=st.none() | st.builds(Destination, bucket=words, prefix=words),
    error=st.none() | failures,
)


@given(tasks)
def test_what_is_written_is_read_back(task: Task) -> None:
    assert record.loads(record.dumps(task)) == task


@given(tasks)
def test_a_record_is_one_line_of_json_with_times_in_utc(task: Task) -> None:
    text = record.dumps(task)
    assert "\n" not in text
    assert json.loads(text)["created_at"].endswith("+00:00")


@given(tasks, st.dictionaries(words.map(lambda word: f"later_{word}"), plain, max_size=3))
def test_what_a_later_version_adds_is_kept_but_not_read(task: Task, added: dict[str, Any]) -> None:
    data = json.loads(record.dumps(task))
    data["progress"] = {**data.get("progress", {}), **added}
    read = record.loads(json.dumps({**data, **added}))
    assert replace(read, unread={}) == task
    assert {name: json.loads(record.dumps(read))[name] for name in added} == added


@pytest.mark.parametrize(("row", "task"), GOLDEN_ROWS)
def test_a_row_that_was_written_long_ago_is_readable(row: str, task: Task) -> None:
    assert record.loads(row) == task


@pytest.mark.parametrize(("row", "task"), GOLDEN_ROWS)
def test_rows_are_written_as_they_always_were(row: str, task: Task) -> None:
    assert record.dumps(task) == row


def test_a_row_without_any_optional_field_is_readable() -> None:
    required = {field.name for field in fields(Task) if field.default is MISSING}
    data = {name: item for name, item in json.loads(GOLDEN).items() if name in required}
    expected = replace(
        GOLDEN_TASK,
        version=0,
        fence=0,
        finished_at=None,
        progress=Progress(),
        timings=Timings(),
        outputs=(),
        output_count=0,
        error=None,
    )
    assert record.loads(json.dumps(data)) == expected
