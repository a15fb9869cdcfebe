"""The life of an upload: begun, completed, held by tasks, expired, deleted; also when several are at it."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core import moves, uploads
from core.errors import (
    FileTooLarge,
    InvalidArgument,
    RecordChanged,
    ServiceUnavailable,
    TooManyRequests,
    UploadIncomplete,
    UploadNotFound,
)
from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.local.upload_store import FolderUploadStore
from core.ports import InputGone, Record, Services
from core.preview import preview
from core.register import Registration, register
from core.seen import ANYBODY, Caller
from core.settings import Settings
from core.task import Status
from core.upload import Part, Upload, UploadStatus, dumps, loads, part_size_bytes
from core.uploads import CLEAR_AGAIN, KEPT_AT_MOST, LOOK_AGAIN, MOST_TASKS, Uploads
from support.builders import NOW, task_in
from support.recording import RecordingDispatcher

MIB = 1024**2
TTL = timedelta(hours=24)
SECOND = timedelta(seconds=1)
SETTINGS = Settings()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    store, records = SqliteTaskStore(tmp_path / "tasks.db"), SqliteRecordStore(tmp_path / "tasks.db")
    base_url, secret = "http://127.0.0.1:1", b"secret"
    yield Services(
        store=store,
        records=records,
        objects=FolderObjectStore(tmp_path / "objects", base_url=base_url, secret=secret),
        dispatcher=RecordingDispatcher(),
        uploads=FolderUploadStore(tmp_path / "uploads", base_url=base_url, secret=secret),
    )
    store.close()
    records.close()


def of(services: Services, caller: Caller = ANYBODY, ttl: timedelta = TTL, most_open: int = 0) -> Uploads:
    assert services.uploads
    return Uploads(records=services.records, store=services.uploads, caller=caller, ttl=ttl, most_open=most_open)


def begun(mine: Uploads, *, size_bytes: int = 5, now: datetime = NOW) -> Upload:
    return mine.begin("a.mp4", size_bytes, upload_id="one", most_bytes=10**12, now=now)


def send(services: Services, upload: Upload, *numbers: int) -> None:
    """As the links do it; parts of the right size."""
    store = services.uploads
    assert isinstance(store, FolderUploadStore)
    for part in upload.parts:
        if part.number in numbers:
            url = store.link(upload.upload_id, upload.transfer, part, expires_in_seconds=60)
            draft = store.take(url.split("/")[-3], upload.upload_id, part.number)
            draft.write(bytes(part.size_bytes))
            draft.keep()
            draft.close()


def completed(services: Services, mine: Uploads, *, now: datetime = NOW) -> Upload:
    upload = begun(mine, now=now)
    send(services, upload, 1)
    return mine.complete("one", now=now)


def stored(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "uploads").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (1, [1]),
        (100 * MIB, [100 * MIB]),
        (100 * MIB + 1, [64 * MIB, 36 * MIB + 1]),
        (128 * MIB, [64 * MIB, 64 * MIB]),
        (300_000_000, [64 * MIB] * 4 + [300_000_000 - 256 * MIB]),
    ],
)
def test_file_is_cut_into_equal_parts_but_the_last(size: int, sizes: list[int]) -> None:
    upload = an_upload(size_bytes=size, part_size_bytes=part_size_bytes(size))
    assert upload.parts == tuple(Part(number, part) for number, part in enumerate(sizes, start=1))


def test_largest_file_has_few_parts_that_s3_takes() -> None:
    upload = an_upload(size_bytes=20 * 1024**3, part_size_bytes=part_size_bytes(20 * 1024**3))
    assert len(upload.parts) <= 200
    assert sum(part.size_bytes for part in upload.parts) == upload.size_bytes
    assert all(5 * MIB <= part.size_bytes <= 5 * 1024**3 for part in upload.parts[:-1])


def an_upload(**changes: object) -> Upload:
    made = Upload(
        upload_id="one",
        filename="ü.mp4",
        size_bytes=5,
        part_size_bytes=5,
        transfer="t",
        created_at=NOW,
        expires_at=NOW + TTL,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_record_is_read_as_it_was_written_and_by_an_earlier_version() -> None:
    upload = an_upload(status=UploadStatus.COMPLETE, key_name="alice", task_ids=("a", "b"))
    text = dumps(upload)
    assert loads(text) == upload
    assert loads(text[:-1] + ', "later": 1}') == upload


def test_upload_is_open_then_complete_and_its_time_counts_from_there(services: Services) -> None:
    mine = of(services)
    upload = begun(mine, size_bytes=100 * MIB + 1)
    assert mine.get("one", now=NOW) == upload == replace(upload, status=UploadStatus.OPEN, expires_at=NOW + TTL)
    assert mine.missing(upload) == (1, 2)

    send(services, upload, 2)
    assert mine.missing(upload) == (1,)
    with pytest.raises(UploadIncomplete) as refused:
        mine.complete("one", now=NOW)
    assert refused.value.details == {"upload_id": "one", "missing_parts": [1]}

    send(services, upload, 1)
    later = NOW + timedelta(hours=3)
    done = mine.complete("one", now=later)
    assert done == replace(upload, status=UploadStatus.COMPLETE, expires_at=later + TTL)
    assert mine.complete("one", now=later + SECOND) == done == mine.get("one", now=later)
    assert mine.missing(done) == ()


def test_file_that_is_too_large_is_refused_and_nothing_begun(services: Services, tmp_path: Path) -> None:
    with pytest.raises(FileTooLarge) as refused:
        of(services).begin("a.mp4", 11, upload_id="one", most_bytes=10, now=NOW)
    assert refused.value.details == {"size_bytes": 11, "max_bytes": 10}
    assert services.records.find("upload", "one") is None
    assert not (tmp_path / "uploads").exists()


def test_of_many_that_complete_at_once_all_get_the_same(services: Services) -> None:
    mine = of(services)
    send(services, begun(mine), 1)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: mine.complete("one", now=NOW), range(16)))
    assert {upload.status for upload in done} == {UploadStatus.COMPLETE}
    assert set(done) == {mine.get("one", now=NOW)}


def test_complete_whose_end_was_never_written_is_completed_by_the_next(services: Services) -> None:
    mine = of(services)
    upload = begun(mine)
    send(services, upload, 1)
    received = mine.store.received("one", upload.transfer)
    assert received
    assert mine.store.finish("one", upload.transfer, received)  # and then the function died

    assert mine.complete("one", now=NOW).status is UploadStatus.COMPLETE


def test_bytes_that_are_gone_make_it_unknown(services: Services) -> None:
    mine = of(services)
    upload = begun(mine)
    mine.store.delete("one", upload.transfer)
    with pytest.raises(UploadNotFound):
        mine.complete("one", now=NOW)


@pytest.mark.parametrize("complete", [False, True])
def test_deleted_is_gone_at_once_and_forgotten_later(services: Services, tmp_path: Path, complete: bool) -> None:
    mine = of(services)
    upload = begun(mine)
    send(services, upload, 1)
    if complete:
        mine.complete("one", now=NOW)

    mine.delete("one", now=NOW)

    assert stored(tmp_path) == []
    for use in (mine.get, mine.complete, mine.delete):
        with pytest.raises(UploadNotFound):
            use("one", now=NOW)
    assert uploads.sweep(services, now=NOW + CLEAR_AGAIN - SECOND) == 0
    assert services.records.find("upload", "one")
    assert uploads.sweep(services, now=NOW + CLEAR_AGAIN) == 1
    assert services.records.find("upload", "one") is None


def test_deletes_and_completes_at_once_leave_nothing(services: Services, tmp_path: Path) -> None:
    mine = of(services)

    def attempt(number: int) -> None:
        with contextlib.suppress(UploadNotFound):
            (mine.delete if number % 3 == 0 else mine.complete)("one", now=NOW)

    for _ in range(5):
        send(services, begun(mine), 1)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(attempt, range(6)))
        assert stored(tmp_path) == []
        with pytest.raises(UploadNotFound):
            mine.get("one", now=NOW)
        uploads.sweep(services, now=NOW + CLEAR_AGAIN)
        assert services.records.find("upload", "one") is None


@pytest.mark.parametrize("complete", [False, True])
def test_expired_is_unknown_and_the_sweep_deletes_it(services: Services, tmp_path: Path, complete: bool) -> None:
    mine = of(services)
    send(services, begun(mine), 1)
    if complete:
        mine.complete("one", now=NOW)
    assert uploads.sweep(services, now=NOW + TTL - SECOND) == 0
    assert mine.get("one", now=NOW + TTL - SECOND)

    with pytest.raises(UploadNotFound):
        mine.get("one", now=NOW + TTL)
    assert uploads.sweep(services, now=NOW + TTL) == 1
    assert stored(tmp_path) == []
    assert uploads.sweep(services, now=NOW + TTL + CLEAR_AGAIN) == 1
    assert services.records.find("upload", "one") is None


def test_other_keys_do_not_see_it_and_admins_do(services: Services) -> None:
    alice, bob = Caller(name="alice"), Caller(name="bob")
    upload = completed(services, of(services, alice))
    assert upload.key_name == "alice"
    theirs = of(services, bob)
    for use in (theirs.get, theirs.complete, theirs.delete):
        with pytest.raises(UploadNotFound):
            use("one", now=NOW)
    assert theirs.fault("one", now=NOW) == of(services).fault("none", now=NOW)
    assert of(services, Caller(name="root", admin=True)).get("one", now=NOW) == upload
    assert of(services, alice).get("one", now=NOW) == upload


# How many are open


def begun_as(mine: Uploads, upload_id: str, *, now: datetime = NOW) -> Upload:
    return mine.begin("a.mp4", 5, upload_id=upload_id, most_bytes=5, now=now)


@pytest.mark.parametrize("end", ["complete", "delete", "expire"])
def test_caller_has_so_many_uploads_open_until_one_ends(services: Services, end: str) -> None:
    mine = of(services, Caller(name="alice"), most_open=2)
    first = begun_as(mine, "one")
    begun_as(mine, "two", now=NOW + SECOND)
    later = NOW + 2 * SECOND

    with pytest.raises(TooManyRequests) as refused:
        begun_as(mine, "three", now=later)
    assert refused.value.details == {"upload_ids": ["one", "two"], "most_open_uploads": 2, "retry_after_seconds": 10}
    assert refused.value.message.startswith("2 uploads are open, which is all that one caller may have: complete or")
    assert services.records.find("upload", "three") is None
    assert begun_as(of(services, Caller(name="bob"), most_open=2), "bobs", now=later)
    assert begun_as(of(services, ANYBODY, most_open=2), "anybodys", now=later)

    if end == "complete":
        send(services, first, 1)
        mine.complete("one", now=later)
    elif end == "delete":
        mine.delete("one", now=later)
    else:
        later = NOW + TTL
    assert begun_as(mine, "three", now=later)
    with pytest.raises(TooManyRequests) as again:
        begun_as(mine, "four", now=later)
    assert again.value.details["upload_ids"] == ["two", "three"]


def test_of_many_begun_at_once_as_many_are_open_as_may_and_none_has_to_wait_for_its_turn(
    services: Services, tmp_path: Path
) -> None:
    records = Counting(tmp_path / "tasks.db")
    mine = replace(of(services, most_open=20), records=records)

    def begin(number: int) -> bool:
        with contextlib.suppress(TooManyRequests):
            begun_as(mine, f"u-{number}")
            return True
        return False

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(begin, range(30))) == 20
    assert records.written == 20  # none was written in vain, and had to be again
    records.close()


def test_upload_that_came_to_nothing_is_not_counted_for_long(services: Services, tmp_path: Path) -> None:
    mine = of(services, most_open=1)
    records = Troubled(tmp_path / "tasks.db", "upload", ServiceUnavailable())
    with pytest.raises(ServiceUnavailable):
        begun_as(replace(mine, records=records), "lost")
    records.close()
    assert list((tmp_path / "uploads").iterdir()) == []

    with pytest.raises(TooManyRequests):  # it could be about to come
        begun_as(mine, "one")
    assert begun_as(mine, "one", now=NOW + timedelta(minutes=1))


@pytest.mark.parametrize(("times", "admitted"), [(9, True), (10, False)])
def test_list_that_others_write_at_the_same_moment_is_read_again(
    services: Services, tmp_path: Path, times: int, admitted: bool
) -> None:
    records = Troubled(tmp_path / "tasks.db", "openuploads", RecordChanged(), times=times)
    with contextlib.nullcontext() if admitted else pytest.raises(TooManyRequests, match="begin this one again"):
        begun_as(replace(of(services, most_open=1), records=records), "one")
    records.close()


class Counting(SqliteRecordStore):
    """Knows how often a list was to be written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.written = 0

    def create(self, record: Record) -> Record:
        self.written += record.kind == "openuploads"
        return super().create(record)

    def replace(self, new: Record, previous: Record) -> Record:
        self.written += new.kind == "openuploads"
        return super().replace(new, previous)


class Troubled(SqliteRecordStore):
    """Creates a record of one kind only when it has failed so often."""

    def __init__(self, path: Path, kind: str, error: Exception, *, times: int = 1) -> None:
        super().__init__(path)
        self.kind, self.error, self.times = kind, error, times

    def create(self, record: Record) -> Record:
        if record.kind == self.kind and self.times:
            self.times -= 1
            raise self.error
        return super().create(record)


# As inputs


def wanted(upload_id: str = "one") -> Registration:
    files = {"in.mp4": f"upload:{upload_id}"}
    return Registration(command="-i in.mp4 out.mp4", input_files=files, output_files=("out.mp4",))


def registered(
    services: Services, mine: Uploads, task_id: str, *, now: datetime = NOW, idempotency_key: str | None = None
) -> None:
    register(
        services.store,
        wanted(),
        settings=SETTINGS,
        task_id=task_id,
        correlation_id="c",
        now=now,
        uploads=mine,
        idempotency_key=idempotency_key,
    )


def test_registering_keeps_it_for_the_task_and_its_time_counts_from_there(services: Services) -> None:
    mine = of(services)
    upload = completed(services, mine)
    later = NOW + timedelta(hours=20)
    registered(services, mine, "task-1", now=later)
    assert mine.get("one", now=later) == replace(upload, task_ids=("task-1",), expires_at=later + TTL)
    assert services.store.get("task-1").input_files == {"in.mp4": "upload:one"}


def test_however_often_it_is_used_it_is_not_kept_for_ever(services: Services) -> None:
    mine = of(services, ttl=timedelta(hours=60))
    completed(services, mine)
    for hour in range(MOST_TASKS + 20):
        registered(services, mine, f"task-{hour}", now=NOW + timedelta(hours=hour))
    upload = mine.get("one", now=NOW + timedelta(hours=MOST_TASKS + 20))
    assert upload.expires_at == NOW + KEPT_AT_MOST
    assert upload.task_ids == tuple(f"task-{hour}" for hour in range(20, MOST_TASKS + 20))


@pytest.mark.parametrize("state", ["unknown", "open", "another's", "expired", "deleted"])
def test_upload_that_cannot_be_an_input_is_refused_by_register_and_validate(services: Services, state: str) -> None:
    mine = of(services, Caller(name="alice"))
    now = NOW
    if state == "open":
        begun(mine)
    elif state != "unknown":
        completed(services, of(services, Caller(name="bob")) if state == "another's" else mine)
    if state == "deleted":
        mine.delete("one", now=NOW)
    if state == "expired":
        now = NOW + TTL

    with pytest.raises(InvalidArgument) as refused:
        registered(services, mine, "task-1", now=now)

    assert refused.value.code == "INVALID_ARGUMENT"
    assert refused.value.details == {"field": "input_files.in.mp4"}
    what = "is not complete: send" if state == "open" else "is not there: it has expired, was deleted, or is another's"
    assert refused.value.message.startswith(f"The upload of input_files.in.mp4 {what}")
    assert services.store.page(limit=1).tasks == []
    found = preview(
        wanted(),
        policy=SETTINGS.url_policy,
        max_output_bytes=1000,
        most_seconds=60,
        upload_fault=lambda upload_id: mine.fault(upload_id, now=now),
    )
    assert found.violations == ({"position": None, "token": "in.mp4", "reason": refused.value.message},)


def test_same_request_sent_again_is_answered_also_when_the_upload_is_gone(services: Services) -> None:
    mine = of(services)
    completed(services, mine)
    registered(services, mine, "task-1", idempotency_key="k")
    mine.delete("one", now=NOW)
    registered(services, mine, "task-2", idempotency_key="k")
    assert len(services.store.page(limit=10).tasks) == 1


def test_sweep_keeps_it_as_long_as_a_task_that_uses_it_lives(services: Services, tmp_path: Path) -> None:
    mine = of(services)
    completed(services, mine)
    registered(services, mine, "task-1")
    registered(services, mine, "task-2")
    task = services.store.get("task-1")
    queued = services.store.replace(moves.execute(task, now=NOW), task)

    over = NOW + TTL
    assert uploads.sweep(services, now=over) == 1
    assert uploads.sweep(services, now=over) == 0  # not due for a while
    assert stored(tmp_path) == ["00001"]
    with pytest.raises(UploadNotFound):
        mine.get("one", now=over)
    assert mine.store.get_file("one", tmp_path / "got", max_bytes=10, on_piece=lambda: None) == 5

    services.store.replace(moves.cancel(queued, now=over), queued)
    assert uploads.sweep(services, now=over + LOOK_AGAIN) == 1
    assert stored(tmp_path) == []
    with pytest.raises(InputGone):
        mine.store.get_file("one", tmp_path / "again", max_bytes=10, on_piece=lambda: None)


def test_sweep_goes_on_past_one_that_fails(services: Services, tmp_path: Path) -> None:
    mine = of(services)
    for number, name in enumerate(("bad", "good")):
        mine.begin("a", 1, upload_id=name, most_bytes=1, now=NOW + number * SECOND)
    bad = services.records.find("upload", "bad")
    assert bad
    services.records.replace(replace(bad, body="{}"), bad)
    assert uploads.sweep(services, now=NOW + 2 * TTL) == 1
    assert services.records.find("upload", "bad")
    assert not (tmp_path / "uploads" / "good").exists()


def test_services_that_take_no_uploads_sweep_none(services: Services) -> None:
    services.store.create(task_in(Status.PENDING))
    assert uploads.sweep(replace(services, uploads=None), now=NOW) == 0
