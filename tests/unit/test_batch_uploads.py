"""Uploads as inputs of a batch: which can be, what they are called, and how long they are kept."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from core import uploads as verbs
from core.batch import Source
from core.batch_uploads import MOST_UPLOADS
from core.batches import change_batch, read_manifest
from core.cancel_batch import cancel_batch
from core.errors import InvalidArgument
from core.local.upload_store import FolderUploadStore
from core.ports import Record, RecordStore, Services
from core.register import Registration
from core.register_batch import BatchWanted, RegisteredBatch, register_batch
from core.seen import ANYBODY, Caller
from core.settings import Settings
from core.sources import source
from core.upload import Upload, UploadStatus, dumps, loads
from core.uploads import KIND, Uploads
from support.batches import wanted
from support.builders import NOW

HOUR = timedelta(hours=1)
TTL = 24 * HOUR


@pytest.fixture
def services(services: Services, tmp_path: Path) -> Services:
    store = FolderUploadStore(tmp_path / "uploads", base_url="http://127.0.0.1:1", secret=b"secret")
    return replace(services, uploads=store)


def an_upload(services: Services, upload_id: str, filename: str = "a.mp4", **changes: Any) -> str:
    """What is given for it, complete unless it is said otherwise."""
    made = Upload(
        upload_id=upload_id,
        filename=filename,
        size_bytes=5,
        part_size_bytes=5,
        transfer="t",
        created_at=NOW,
        expires_at=NOW + TTL,
        status=UploadStatus.COMPLETE,
    )
    made = replace(made, **changes)
    services.records.create(
        Record(kind=KIND, record_id=upload_id, body=dumps(made), created_at=NOW, due_at=made.expires_at)
    )
    return f"upload:{upload_id}"


def stored(services: Services, upload_id: str) -> Upload:
    found = services.records.find(KIND, upload_id)
    assert found
    return loads(found.body)


def register(
    services: Services, wishes: BatchWanted, *, caller: Caller = ANYBODY, now: datetime = NOW, **known: Any
) -> RegisteredBatch:
    assert services.uploads
    mine = Uploads(records=services.records, store=services.uploads, caller=caller, ttl=TTL)
    return register_batch(
        services,
        wishes,
        settings=Settings(),
        batch_id=str(uuid4()),
        correlation_id="corr-1",
        now=now,
        uploads=mine,
        **known,
    )


def test_an_upload_is_called_as_its_file_was(services: Services) -> None:
    given = [an_upload(services, "one", "Ü ber/1?.mov"), "https://media.example/b.mp4", an_upload(services, "two")]

    batch, _, sources = register(services, wanted(*given), idempotency_key="monday")
    again = register(services, wanted(*given), idempotency_key="monday")

    expected = [Source("Ü ber_1_.mov", given[0], 5), source(given[1]), Source("a.mp4", given[2], 5)]
    assert list(sources) == expected
    assert list(read_manifest(services, batch)) == expected
    assert batch.task(0, expected[0]).output_files == ("Ü ber_1_.mkv",)
    assert (again.again, again.batch, list(again.sources)) == (True, batch, expected)


def test_it_is_kept_until_the_batch_has_ended(services: Services) -> None:
    """Those of all tasks as well as those of one, though no task has a row."""
    common = Registration(
        command="-i {name} -i logo.png -filter_complex overlay {stem}.mkv",
        input_files={"logo.png": an_upload(services, "logo")},
        output_files=("{stem}.mkv",),
    )
    wishes = replace(wanted(an_upload(services, "one"), "https://media.example/b.mp4"), registration=common)
    batch = register(services, wishes, now=NOW + HOUR).batch
    for upload_id in ("logo", "one"):
        held = stored(services, upload_id)
        assert (held.task_ids, held.expires_at) == ((batch.batch_id,), NOW + HOUR + TTL)

    over = NOW + 2 * HOUR + TTL
    verbs.sweep(services, now=over)
    assert {stored(services, one).status for one in ("logo", "one")} == {UploadStatus.COMPLETE}

    cancel_batch(services, batch.batch_id, now=over)
    change_batch(services, batch.batch_id, lambda one: replace(one, finished_at=over))
    verbs.sweep(services, now=over + HOUR)
    assert {stored(services, one).status for one in ("logo", "one")} == {UploadStatus.DELETED}


def test_those_that_cannot_be_inputs_are_told_with_the_others(services: Services) -> None:
    given = [
        an_upload(services, "one"),
        an_upload(services, "open", status=UploadStatus.OPEN),
        "ftp://media.example/x.mp4",
        "upload:unheard-of",
        an_upload(services, "over", expires_at=NOW),
        an_upload(services, "another", key_name="bob"),
        "upload:../x",
    ]

    with pytest.raises(InvalidArgument) as refusal:
        register(services, wanted(*given), caller=Caller(name="alice"))

    reasons = {one["index"]: one["reason"] for one in refusal.value.details["files"]}
    gone = "The upload is not there: it has expired, was deleted, or is another's; upload the file again."
    assert {index: reasons[index] for index in (0, 3, 4, 5)} == dict.fromkeys((0, 3, 4, 5), gone)
    assert reasons[1] == gone  # which is nobody's, as the first one is
    assert "must begin with http" in reasons[2]
    assert "must have the form upload:ID" in reasons[6]

    with pytest.raises(InvalidArgument, match="is not complete: send the parts that are missing") as refusal:
        register(services, wanted(*given[:2]))
    assert [one["index"] for one in refusal.value.details["files"]] == [1]
    assert stored(services, "one").task_ids == ()


def test_one_that_all_tasks_have_must_be_whole_too(services: Services) -> None:
    common = Registration(
        command="-i {name} -i logo.png {stem}.mkv",
        input_files={"logo.png": an_upload(services, "logo", status=UploadStatus.OPEN)},
        output_files=("{stem}.mkv",),
    )
    with pytest.raises(InvalidArgument, match=r"The upload of input_files\.logo\.png is not complete"):
        register(services, replace(wanted("https://media.example/b.mp4"), registration=common))


@dataclass
class Counting:
    inner: RecordStore
    calls: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        self.calls[name] += 1
        found: Callable[..., Any] = getattr(self.inner, name)
        return found


def test_there_are_few_and_where_there_are_none_nothing_is_looked_up(services: Services) -> None:
    records = Counting(services.records)
    counted = replace(services, records=records)
    too_many = [f"upload:{number}" for number in range(MOST_UPLOADS + 1)]

    with pytest.raises(InvalidArgument, match="There are more than 100 uploads among the inputs"):
        register(counted, wanted(*too_many))
    assert records.calls == {}

    register(counted, wanted(*(f"https://media.example/{number}.mp4" for number in range(MOST_UPLOADS + 1))))
    assert records.calls == {"create": 1, "replace": 1}
