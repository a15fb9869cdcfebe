"""Objects as inputs: S3 as moto plays it, and what a store in trouble becomes."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from core import urls
from core.aws.input_store import S3InputStore
from core.ports import InputStore, InputUnreadable
from core.task import Failure, FailureCode
from core.worker import fetch, fetch_object
from core.worker.failed import Stopped, TaskFailed
from support.moto_server import BUCKET, Moto

LARGE = bytes(range(256)) * 4096 * 40  # three parts
POLICY = urls.Policy(buckets=(BUCKET,))


@pytest.fixture
def key(aws: Moto) -> str:
    boto3.client("s3").put_object(Bucket=BUCKET, Key="in/large file.mp4", Body=LARGE)
    return "in/large file.mp4"


def got(
    key: str,
    path: Path,
    *,
    store: InputStore | None = None,
    policy: urls.Policy = POLICY,
    max_bytes: int = 10**9,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    source = fetch.Source(name="in.mp4", url=f"s3://{BUCKET}/{key}")
    given = store or S3InputStore()
    places = fetch_object.Places(given)
    return fetch_object.fetch_object(places, source, path, policy=policy, max_bytes=max_bytes, stopped=stopped)


def failure_of(key: str, path: Path, **more: Any) -> Failure:
    with pytest.raises(TaskFailed) as caught:
        got(key, path, **more)
    return caught.value.failure


def test_object_arrives_whole(key: str, tmp_path: Path) -> None:
    assert got(key, tmp_path / "i0") == len(LARGE)
    assert (tmp_path / "i0").read_bytes() == LARGE


def test_object_that_is_too_large_is_not_begun(key: str, tmp_path: Path) -> None:
    failure = failure_of(key, tmp_path / "i0", max_bytes=len(LARGE) - 1)

    assert (failure.code, failure.retryable) == (FailureCode.SOURCE_TOO_LARGE, False)
    assert list(tmp_path.iterdir()) == []


# boto3 leaves the connection of a transfer that was ended to the garbage collector, which warns of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_transfer_stops_when_it_is_told_to(key: str, tmp_path: Path) -> None:
    asked: list[None] = []

    def after_a_while() -> bool:
        asked.append(None)
        return len(asked) > 2

    with pytest.raises(Stopped):
        got(key, tmp_path / "i0", stopped=after_a_while)
    gc.collect()

    assert list(tmp_path.iterdir()) == []


def test_row_is_judged_again(key: str, tmp_path: Path) -> None:
    failure = failure_of(key, tmp_path / "i0", policy=urls.PUBLIC)

    assert failure.message == "The source of in.mp4 is in a bucket that is not open to this service."


class Troubled:
    """An S3 client each of whose calls fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def head_object(self, **_: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "words", "retryable"),
    [
        (404, "is not there, or the worker's role may not read it", False),
        (403, "is not there, or the worker's role may not read it", False),
        (412, "has changed while it was read", True),
        (503, "cannot be read at the moment", True),
        (400, "cannot be read at the moment", False),
        (EndpointConnectionError(endpoint_url="https://secret"), "cannot be read at the moment", True),
    ],
)
def test_trouble_is_told_in_words(error: int | Exception, words: str, retryable: bool, tmp_path: Path) -> None:
    if isinstance(error, int):
        error = ClientError({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": error}}, "HeadObject")  # type: ignore[typeddict-item]
    client: Any = Troubled(error)

    failure = failure_of("a.mp4", tmp_path / "i0", store=S3InputStore(client=client))

    assert (failure.code, failure.retryable) == (FailureCode.DOWNLOAD_FAILED, retryable)
    assert failure.message.startswith(f"The source of in.mp4 {words}")
    assert "secret" not in failure.message


def test_unwritable_place_says_so(key: str, tmp_path: Path) -> None:
    assert failure_of(key, tmp_path / "missing" / "i0").code is FailureCode.INTERNAL_ERROR


def test_unreadable_input_is_a_sentence() -> None:
    assert str(InputUnreadable("is gone.", retryable=False)) == "is gone."
