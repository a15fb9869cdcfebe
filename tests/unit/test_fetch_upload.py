"""Uploads as inputs: what a worker gets of one, and what a store in trouble becomes."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.local.upload_store import FolderUploadStore
from core.ports import InputUnreadable
from core.settings import Settings
from core.task import Failure, FailureCode
from core.upload import Part, UploadStore
from core.worker import fetch
from core.worker.failed import Stopped, TaskFailed
from core.worker.fetch_object import Places, fetch_object

SIZES = (3000, 2000)
POLICY = Settings().url_policy


@pytest.fixture
def store(tmp_path: Path) -> FolderUploadStore:
    """With the finished upload `whole`, and `open`."""
    store = FolderUploadStore(tmp_path / "uploads", base_url="http://127.0.0.1:1", secret=b"secret")
    for upload_id in ("whole", "open"):
        transfer = store.begin(upload_id)
        for number, size in enumerate(SIZES, start=1):
            token = store.link(upload_id, transfer, Part(number, size), expires_in_seconds=60).split("/")[-3]
            draft = store.take(token, upload_id, number)
            draft.write(bytes([number]) * size)
            draft.keep()
            draft.close()
    received = store.received("whole", "whole")
    assert received
    assert store.finish("whole", "whole", received)
    return store


def got(
    store: UploadStore | None,
    path: Path,
    *,
    url: str = "upload:whole",
    max_bytes: int = 10**9,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    source, places = fetch.Source(name="in.mp4", url=url), Places(uploads=store)
    return fetch_object(places, source, path, policy=POLICY, max_bytes=max_bytes, stopped=stopped)


def failure_of(store: UploadStore | None, path: Path, **more: Any) -> Failure:
    with pytest.raises(TaskFailed) as caught:
        got(store, path, **more)
    return caught.value.failure


def test_upload_arrives_whole(store: FolderUploadStore, tmp_path: Path) -> None:
    assert got(store, tmp_path / "i0") == 5000
    assert (tmp_path / "i0").read_bytes() == b"\1" * 3000 + b"\2" * 2000


@pytest.mark.parametrize("upload_id", ["open", "none"])
def test_upload_that_is_not_there_says_what_to_do(store: FolderUploadStore, tmp_path: Path, upload_id: str) -> None:
    assert failure_of(store, tmp_path / "i0", url=f"upload:{upload_id}") == Failure(
        code=FailureCode.SOURCE_EXPIRED,
        message="The upload of in.mp4 has expired or was deleted: upload the file again, and register a new task.",
        retryable=False,
        details={"input": "in.mp4"},
    )


def test_upload_that_is_too_large_is_not_begun(store: FolderUploadStore, tmp_path: Path) -> None:
    failure = failure_of(store, tmp_path / "i0", max_bytes=4999)
    assert (failure.code, failure.retryable) == (FailureCode.SOURCE_TOO_LARGE, False)
    assert not (tmp_path / "i0").exists()


@pytest.mark.parametrize("url", ["upload:../whole", "upload:", "upload:whole/open", "upload:a b"])
def test_row_is_judged_again(store: FolderUploadStore, tmp_path: Path, url: str) -> None:
    failure = failure_of(store, tmp_path / "i0", url=url)
    assert (failure.code, failure.message) == (
        FailureCode.DOWNLOAD_FAILED,
        "The source of in.mp4 is no upload to this service.",
    )


def test_service_without_uploads_has_none(tmp_path: Path) -> None:
    assert failure_of(None, tmp_path / "i0").code is FailureCode.DOWNLOAD_FAILED


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_reading_stops_when_it_is_told_to(store: FolderUploadStore, tmp_path: Path, looks: int) -> None:
    asked: list[None] = []

    def after_a_while() -> bool:
        asked.append(None)
        return len(asked) >= looks

    with pytest.raises(Stopped):
        got(store, tmp_path / "i0", stopped=after_a_while)
    assert len(asked) == looks


class Troubled(FolderUploadStore):
    """A store that fails as it is told to."""

    def __init__(self, error: Exception) -> None:
        super().__init__(Path("unused"), base_url="", secret=b"")
        self._error = error

    def get_file(self, upload_id: str, path: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        raise self._error


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (OSError(errno.ENOSPC, "full"), FailureCode.DISK_FULL, True),
        (OSError(errno.EIO, "broken"), FailureCode.INTERNAL_ERROR, True),
        (InputUnreadable("cannot be read at the moment.", retryable=True), FailureCode.DOWNLOAD_FAILED, True),
    ],
)
def test_trouble_becomes_the_tasks_failure(
    error: Exception, code: FailureCode, retryable: bool, tmp_path: Path
) -> None:
    failure = failure_of(Troubled(error), tmp_path / "i0")
    assert (failure.code, failure.retryable) == (code, retryable)
