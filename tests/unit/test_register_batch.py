"""Registering a batch: all of it is judged before anything is stored; then it is one list, one record, one job."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import manifest
from core.batch import MOST_TASKS, Source, batch_id_of, task_id, with_name
from core.batches import get_batch, put_manifest, read_manifest
from core.errors import BatchNotFound, CommandNotAllowed, IdempotencyConflict, InvalidArgument, ListGone, UrlNotAllowed
from core.ffmpeg import names
from core.local.input_folders import LocalInputFolders
from core.moves import QUEUE_PATIENCE, SUBMIT_GRACE
from core.ports import Record, RecordStore, Services
from core.register import Registration, id_of
from core.register_batch import BatchWanted, RegisteredBatch, register_batch
from core.settings import Settings
from core.sources import MOST_CHARACTERS, source
from core.submit import AGAIN_AFTER
from core.task import Status
from support.batches import registered, urls, wanted
from support.builders import NOW
from support.recording import RecordingDispatcher


def register(services: Services, wishes: BatchWanted, **known: Any) -> RegisteredBatch:
    given: dict[str, Any] = {
        "settings": Settings(),
        "batch_id": str(uuid4()),
        "correlation_id": "corr-1",
        "now": NOW,
    } | known
    return register_batch(services, wishes, **given)


def test_a_batch_is_one_list_one_record_and_one_job(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = registered(services, 3, key_name="alice", most_live=2)

    assert get_batch(services, batch.batch_id) == batch
    assert list(read_manifest(services, batch)) == [
        Source(f"clip-{number}.mp4", f"https://media.example/day/clip-{number}.mp4?signature=secret")
        for number in range(3)
    ]
    assert [one.batch_id for one in dispatcher.batches] == [batch.batch_id]
    assert (batch.job_id, batch.dispatch_due_at) == ("batch-job-1", NOW + QUEUE_PATIENCE)
    assert (batch.concurrency, batch.key_name, batch.template.key_name) == (2, "alice", "alice")
    assert services.store.page(limit=10).tasks == []
    assert batch.batch_id.endswith("0000")


def test_a_task_is_the_template_with_its_file(services: Services) -> None:
    batch = registered(services)
    task = batch.task(1, read_manifest(services, batch)[1])
    assert (task.status, task.batch_id, task.created_at, task.queued_at) == (Status.QUEUED, batch.batch_id, NOW, NOW)
    assert task.command == "-i clip-1.mp4 -c:v libx264 -crf 23 clip-1.mkv"
    assert task.output_files == ("clip-1.mkv",)


def test_presets_and_options_have_gaps_too(services: Services) -> None:
    registration = Registration(preset="web-mp4-480p", input_files={}, output_files=("{stem}-480p.mp4",))
    batch, _, _ = register(services, replace(wanted(*urls(1)), registration=registration))
    task = batch.task(0, read_manifest(services, batch)[0])
    assert task.command.startswith("-i clip-0.mp4 ")
    assert task.output_files == ("clip-0-480p.mp4",)


def test_all_that_is_wrong_is_told_and_nothing_stored(services: Services, dispatcher: RecordingDispatcher) -> None:
    given = [*urls(2), "https://10.0.0.1/private.mp4?token=secret", "ftp://media.example/x.mp4", urls(3)[2]]

    with pytest.raises(UrlNotAllowed) as refusal:
        register(services, wanted(*given), batch_id="3f0c1f60-0000-4000-8000-000000000001")

    assert refusal.value.message == (
        "2 of 5 files cannot be taken. The first, private.mp4: The URL of private.mp4 has an address that is not on "
        "the public internet."
    )
    assert [(one["index"], one["file"]) for one in refusal.value.details["files"]] == [(2, "private.mp4"), (3, "x.mp4")]
    assert "secret" not in str(refusal.value.details)
    assert dispatcher.batches == []
    with pytest.raises(BatchNotFound):
        get_batch(services, batch_id_of("3f0c1f60-0000-4000-8000-000000000001"))


def test_of_many_faults_twenty_are_told(services: Services) -> None:
    with pytest.raises(UrlNotAllowed) as refusal:
        register(services, wanted(*["https://localhost/x.mp4"] * 50))
    assert (refusal.value.details["count"], len(refusal.value.details["files"])) == (50, 20)


@pytest.mark.parametrize(
    ("wishes", "error", "message"),
    [
        (wanted(), InvalidArgument, "Give exactly one of inputs, input_folder and input_prefix."),
        (wanted(*urls(1), folder="/srv"), InvalidArgument, "Give exactly one of"),
        (replace(wanted(), sources=()), InvalidArgument, "There are no files in inputs"),
        (wanted(*urls(1), delete_inputs=True), InvalidArgument, "delete_inputs is for the files of"),
        (wanted(folder="/srv"), InvalidArgument, "The input_folder is for one machine"),
        (wanted(prefix="s3://media/x/"), UrlNotAllowed, "is in a bucket that is not open"),
        (wanted(*urls(1), command="-i {name} -f tee {stem}.mkv"), CommandNotAllowed, "tee"),
        (wanted(*urls(1), command="-i {name} out.mkv"), CommandNotAllowed, "out.mkv"),
        (wanted("https://media.example/a.mkv"), InvalidArgument, "Two files of its task would have the same name"),
        (
            wanted(
                f"https://media.example/{'x' * 70}.mp4",
                command="-i {name} {stem}-{stem}.mkv",
                output="{stem}-{stem}.mkv",
            ),
            InvalidArgument,
            "is longer than 120 characters",
        ),
    ],
)
def test_what_makes_no_batch_is_refused(
    services: Services, wishes: BatchWanted, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        register(services, wishes)


def test_no_more_than_ten_thousand(services: Services) -> None:
    with pytest.raises(InvalidArgument, match="more than 10000 files"):
        register(services, replace(wanted(), sources=tuple([source("https://media.example/a.mp4")] * (MOST_TASKS + 1))))


def test_a_name_that_would_mean_something_elsewhere_is_judged_there(services: Services) -> None:
    """What a plain name cannot do in a filter, another might."""
    command = "-i {name} -vf drawtext=text={stem} {stem}.mkv"
    plain, _, _ = register(services, wanted("https://media.example/a-b.mp4", command=command))
    assert plain.count == 1
    with pytest.raises(CommandNotAllowed):
        register(services, wanted("https://media.example/a[b];movie=x,.mp4", command=command))


def test_the_same_request_with_its_key_makes_one_batch(services: Services, dispatcher: RecordingDispatcher) -> None:
    first = register(services, wanted(*urls(2)), idempotency_key="monday")
    again = register(services, wanted(*urls(2)), idempotency_key="monday")
    others = register(services, wanted(*urls(2)), idempotency_key="monday", key_name="bob")

    assert (first.again, again.again, again.batch) == (False, True, first.batch)
    assert list(again.sources) == list(first.sources)
    assert others.batch.batch_id != first.batch.batch_id
    assert len(dispatcher.batches) == 2
    with pytest.raises(IdempotencyConflict):
        register(services, wanted(*urls(3)), idempotency_key="monday")


@pytest.mark.parametrize(
    "left",
    [b"", b"no gzip", gzip.compress(b""), manifest.write([source("http://a/b")])[:-4]],
    ids=["deleted", "another", "empty", "cut off"],
)
def test_a_list_that_is_not_what_was_written_is_gone(services: Services, left: bytes) -> None:
    batch = register(services, wanted(*urls(1))).batch
    services.objects.delete(services.batch_folder(batch.batch_id))
    if left:
        put_manifest(services, batch, left)
    with pytest.raises(ListGone):
        read_manifest(services, batch)


def test_a_key_for_a_task_and_for_a_batch_makes_two_of_them(services: Services) -> None:
    """A task of that id might else be one of the batch's own, which then would never end."""
    batch, _, _ = register(services, wanted(*urls(2)), idempotency_key="monday")
    assert task_id(batch.batch_id, 0)[:-4] != id_of("monday", None)[:-4]


@dataclass
class Meanwhile:
    """Records; right after the first look for one, something else happens."""

    inner: RecordStore
    after: Callable[[], object]

    def find(self, kind: str, record_id: str) -> Record | None:
        found = self.inner.find(kind, record_id)
        after, self.after = self.after, lambda: None
        after()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_a_request_that_is_refused_leaves_the_list_of_the_other_alone(services: Services) -> None:
    def asking(count: int) -> Callable[[Services], RegisteredBatch]:
        return lambda seen: register(seen, wanted(*urls(count)), idempotency_key="monday")

    won: list[RegisteredBatch] = []
    records = Meanwhile(services.records, lambda: won.append(asking(2)(services)))
    with pytest.raises(IdempotencyConflict):
        asking(3)(replace(services, records=records))

    ((batch, _, _),) = won
    assert [source.url for source in read_manifest(services, get_batch(services, batch.batch_id))] == urls(2)


def test_of_the_same_request_twice_at_once_one_list_holds(services: Services, tmp_path: Path) -> None:
    """Though a file has come into the folder meanwhile."""
    (tmp_path / "1.mp4").write_bytes(b"12345")
    here = replace(services, folders=LocalInputFolders([tmp_path]))

    def asked(seen: Services) -> RegisteredBatch:
        settings = Settings(input_roots=(tmp_path,))
        return register(seen, wanted(folder=str(tmp_path)), settings=settings, idempotency_key="monday")

    won: list[RegisteredBatch] = []

    def meanwhile() -> None:
        won.append(asked(here))
        (tmp_path / "0.mp4").write_bytes(b"1")

    again = asked(replace(here, records=Meanwhile(here.records, meanwhile)))

    assert (again.again, again.batch, again.batch.count) == (True, won[0].batch, 1)
    assert [source.name for source in read_manifest(here, again.batch)] == ["1.mp4"]


@pytest.mark.parametrize("mood", ["refusing", "delaying", "losing"])
def test_a_batch_that_nobody_takes_yet_is_stored_and_due(
    services: Services, dispatcher: RecordingDispatcher, mood: str
) -> None:
    setattr(dispatcher, mood, True)

    batch = registered(services)

    assert batch.job_id is None
    assert batch.dispatch_due_at is not None
    assert NOW + AGAIN_AFTER / 2 <= batch.dispatch_due_at <= NOW + 2 * AGAIN_AFTER
    assert batch.dispatch_due_at != NOW + SUBMIT_GRACE
    assert [one.record_id for one in services.records.due("batch", batch.dispatch_due_at, limit=9)] == [batch.batch_id]


def test_a_folder_is_listed_and_its_sizes_known(services: Services, tmp_path: Path) -> None:
    (tmp_path / "media" / "b").mkdir(parents=True)
    for name in ("b/2.mov", "ü 1.mp4", "notes.txt", "b/.3.mp4"):
        (tmp_path / "media" / name).write_bytes(b"12345")
    here = replace(services, folders=LocalInputFolders([tmp_path]))

    batch, _, _ = register(here, wanted(folder=str(tmp_path / "media")), settings=Settings(input_roots=(tmp_path,)))

    folder = f"file://{tmp_path}/media"
    assert list(read_manifest(here, batch)) == [
        Source("ü 1.mp4", f"{folder}/%C3%BC%201.mp4", 5),
        Source("2.mov", f"{folder}/b/2.mov", 5),
    ]


def test_a_file_of_a_folder_that_cannot_be_taken_is_told_of(services: Services, tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(b"12345")
    here = replace(services, folders=LocalInputFolders([tmp_path]))
    with pytest.raises(InvalidArgument) as refusal:
        register(here, wanted(folder=str(tmp_path)), settings=Settings(input_roots=(tmp_path,)))
    reason = "Two files of its task would have the same name."
    assert refusal.value.details == {
        "field": "input_folder",
        "count": 1,
        "files": [{"index": 0, "file": "a.mkv", "reason": reason}],
    }


@given(st.text())
def test_every_last_part_of_a_url_makes_a_legal_name(text: str) -> None:
    name = source(f"https://media.example/x/{text}?y").name
    assert names.fault(name, "input") is None
    assert names.fault(f"{name}.mkv", "output") is None
    assert names.has_extension(with_name("{stem}.mkv", name))
    assert len(name) <= MOST_CHARACTERS


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://media.example/clip.mp4?x=/y.mov#z", "clip.mp4"),
        ("https://media.example/a%20b%2Fc.MP4", "a b_c.MP4"),
        ("https://media.example/" + "x" * 300 + ".webm", "x" * 75 + ".webm"),
        ("https://media.example/", "media.example"),
        ("https://media.example/%2e%2e", "file"),
        ("https://media.example/-rf.mp4", "rf.mp4"),
        ("https://media.example/a...mp4", "a.mp4"),  # else a.. would be its stem, and a...mkv has no extension
        ("https://media.example/.mp4", "mp4"),
    ],
)
def test_a_name_keeps_what_it_can(url: str, name: str) -> None:
    assert source(url).name == name
