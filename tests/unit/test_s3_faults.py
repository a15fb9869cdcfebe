"""S3 on a bad day, through the real boto3: what becomes of an upload, and of a deletion.

An upload is either there, whole and verified, or the task has failed in a way that is worth another try; and what was
begun and not ended, the deletion takes away.
"""

import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import boto3
import pytest

from core.aws.object_store import S3ObjectStore
from core.errors import InternalError, ServiceUnavailable
from core.task import FailureCode, Output
from core.worker.failed import Stopped, TaskFailed
from core.worker.upload import Finished, upload
from support import leftovers, s3_proxy
from support.moto_server import BUCKET, Moto
from support.s3_proxy import Fault, S3Proxy

# boto3 leaves the connection of a request that was broken off to the garbage collector, which warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SMALL = b"a small output" * 10
LARGE = bytes(range(256)) * 4096 * 17  # two parts
FOLDER = "outputs/t/1"
KEY = f"{FOLDER}/out.mp4"
NOT_STORED = "out.mp4 could not be stored."
NOT_WHOLE = "out.mp4 did not arrive whole in the object store."

SLOW_DOWN = s3_proxy.answers(503, "SlowDown")
BROKEN = s3_proxy.answers(500, "InternalError")
EXPIRED = s3_proxy.answers(403, "ExpiredToken")
DENIED = s3_proxy.answers(403, "AccessDenied")
NO_BUCKET = s3_proxy.answers(404, "NoSuchBucket")
NOT_THERE = s3_proxy.says(b"", 404)
REFUSED_LATE = s3_proxy.says(b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>No.</Message></Error>")
NO_UPLOAD_ID = s3_proxy.says(b"<?xml version='1.0'?><InitiateMultipartUploadResult/>")


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()  # here, and not in the tests of another file


@pytest.fixture
def proxy(aws: Moto) -> Iterator[S3Proxy]:
    with s3_proxy.proxying(aws.url) as proxy:
        yield proxy


def finished(folder: Path, content: bytes, name: str = "out.mp4") -> Finished:
    path = folder / name
    path.write_bytes(content)
    return Finished(path=path, filename=name, declared=0, media=None)


def stored(content: bytes) -> Output:
    return Output(filename="out.mp4", key=KEY, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def objects_there() -> list[str]:
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def transfers_there() -> list[str]:
    return [entry["Key"] for entry in boto3.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What goes wrong, once or always, and what the upload ends in: None when it is stored."""

    once: Mapping[str, Fault | list[Fault]] | None = None
    always: Mapping[str, Fault] | None = None
    failure: str | None = None
    content: bytes = SMALL
    read_timeout: float = 20
    left: tuple[str, ...] = ()  # transfers that only a deletion takes away


CASES = {
    # a file that goes in one piece
    "put: 500 once": Case(once={"PutObject": BROKEN}),
    "put: 500 always": Case(always={"PutObject": BROKEN}, failure=NOT_STORED),
    "put: SlowDown once": Case(once={"PutObject": SLOW_DOWN}),
    "put: SlowDown always": Case(always={"PutObject": SLOW_DOWN}, failure=NOT_STORED),
    "put: hangs up once": Case(once={"PutObject": s3_proxy.hangs_up}),
    "put: hangs up always": Case(always={"PutObject": s3_proxy.hangs_up}, failure=NOT_STORED),
    "put: answer lost once": Case(once={"PutObject": s3_proxy.loses_the_answer}),
    "put: answer lost always": Case(always={"PutObject": s3_proxy.loses_the_answer}),
    "put: no answer once": Case(once={"PutObject": s3_proxy.silent_for(60)}, read_timeout=1),
    "put: no answer always": Case(always={"PutObject": s3_proxy.silent_for(60)}, read_timeout=1, failure=NOT_STORED),
    "put: credentials expired": Case(always={"PutObject": EXPIRED, "HeadObject": EXPIRED}, failure=NOT_STORED),
    "put: no such bucket": Case(always={"PutObject": NO_BUCKET, "HeadObject": NOT_THERE}, failure=NOT_STORED),
    # a file of several parts
    "create: 500 once": Case(content=LARGE, once={"CreateMultipartUpload": BROKEN}),
    "create: SlowDown always": Case(content=LARGE, always={"CreateMultipartUpload": SLOW_DOWN}, failure=NOT_STORED),
    "create: garbled": Case(
        content=LARGE, always={"CreateMultipartUpload": s3_proxy.garbles}, failure=NOT_STORED, left=(KEY,)
    ),
    "create: names no upload": Case(content=LARGE, always={"CreateMultipartUpload": NO_UPLOAD_ID}, failure=NOT_STORED),
    "create: answer cut": Case(
        content=LARGE, always={"CreateMultipartUpload": s3_proxy.truncates}, failure=NOT_STORED, left=(KEY,)
    ),
    "part: 500 once": Case(content=LARGE, once={"UploadPart": BROKEN}),
    "part: SlowDown for both": Case(content=LARGE, once={"UploadPart": [SLOW_DOWN, SLOW_DOWN]}),
    "part: 500 always": Case(content=LARGE, always={"UploadPart": BROKEN}, failure=NOT_STORED),
    "part: hangs up always": Case(content=LARGE, always={"UploadPart": s3_proxy.hangs_up}, failure=NOT_STORED),
    "part: answer lost once": Case(content=LARGE, once={"UploadPart": s3_proxy.loses_the_answer}),
    "part: credentials expired": Case(content=LARGE, always={"UploadPart": EXPIRED}, failure=NOT_STORED),
    "complete: error in a 200 once": Case(content=LARGE, once={"CompleteMultipartUpload": REFUSED_LATE}),
    "complete: error in a 200 always": Case(
        content=LARGE, always={"CompleteMultipartUpload": REFUSED_LATE}, failure=NOT_STORED
    ),
    "complete: answer lost once": Case(content=LARGE, once={"CompleteMultipartUpload": s3_proxy.loses_the_answer}),
    "complete: answer lost always": Case(content=LARGE, always={"CompleteMultipartUpload": s3_proxy.loses_the_answer}),
    "complete: answer cut": Case(content=LARGE, always={"CompleteMultipartUpload": s3_proxy.truncates}),
    "complete: garbled": Case(content=LARGE, always={"CompleteMultipartUpload": s3_proxy.garbles}),
    "part and abort: 500 always": Case(
        content=LARGE, always={"UploadPart": BROKEN, "AbortMultipartUpload": BROKEN}, failure=NOT_STORED, left=(KEY,)
    ),
    # the look at what has arrived
    "head: another size": Case(always={"HeadObject": s3_proxy.changes("Content-Length", "3")}, failure=NOT_WHOLE),
    "head: another checksum": Case(
        always={"HeadObject": s3_proxy.changes("x-amz-meta-sha256", "0" * 64)}, failure=NOT_WHOLE
    ),
    "head: nothing there": Case(always={"HeadObject": NOT_THERE}, failure=NOT_WHOLE),
    "head: 500 once": Case(once={"HeadObject": BROKEN}),
    "head: 500 always": Case(always={"HeadObject": BROKEN}, failure=NOT_STORED),
    "head: denied": Case(always={"HeadObject": DENIED}, failure=NOT_STORED),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_upload_is_verified_or_failed(proxy: S3Proxy, tmp_path: Path, case: Case) -> None:
    # given
    for operation, faults in (case.once or {}).items():
        proxy.once(operation, *(faults if isinstance(faults, list) else [faults]))
    for operation, fault in (case.always or {}).items():
        proxy.always(operation, fault)
    # What always fails need not be tried twice, which takes time; what fails some times may all meet one part, and be
    # followed by what a busy machine adds.
    tries = 5 if case.once else 1
    objects = S3ObjectStore(BUCKET, client=proxy.client(read_timeout=case.read_timeout, tries=tries))

    # when
    began = time.monotonic()
    outcome: tuple[Output, ...] | TaskFailed
    try:
        outcome = upload(objects, [finished(tmp_path, case.content)], prefix=FOLDER, stop=Event())
    except TaskFailed as failed:
        outcome = failed
    took = time.monotonic() - began

    # then
    assert took < 60
    assert transfers_there() == list(case.left)
    if case.failure is None:
        assert outcome == (stored(case.content),)
        assert boto3.client("s3").get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == case.content
    else:
        assert isinstance(outcome, TaskFailed)
        failure = outcome.failure
        assert (failure.code, failure.message, failure.retryable) == (FailureCode.UPLOAD_FAILED, case.failure, True)

    # and then nothing of it is left where it was not published
    S3ObjectStore(BUCKET).delete(FOLDER)
    assert (objects_there(), transfers_there()) == ([], [])


def test_refusal_for_good_is_not_tried_again(proxy: S3Proxy, tmp_path: Path) -> None:
    proxy.always("PutObject", EXPIRED)
    objects = S3ObjectStore(BUCKET, client=proxy.client())

    with pytest.raises(TaskFailed):
        upload(objects, [finished(tmp_path, SMALL)], prefix=FOLDER, stop=Event())

    assert proxy.seen == ["PutObject", "HeadObject"]


@pytest.mark.parametrize(("fault", "reason"), [(DENIED, "AccessDenied"), (NO_BUCKET, "NoSuchBucket")])
def test_failure_has_what_s3_calls_it(proxy: S3Proxy, tmp_path: Path, fault: Fault, reason: str) -> None:
    proxy.always("PutObject", fault)
    objects = S3ObjectStore(BUCKET, client=proxy.client())

    with pytest.raises(TaskFailed) as caught:
        upload(objects, [finished(tmp_path, SMALL)], prefix=FOLDER, stop=Event())

    assert caught.value.failure.details == {"output": "out.mp4", "reason": reason}


def test_first_file_to_fail_ends_the_others(proxy: S3Proxy, tmp_path: Path) -> None:
    # given an upload that would take minutes, and one that fails
    proxy.bytes_per_second = 200_000
    proxy.always("PutObject", DENIED)
    objects = S3ObjectStore(BUCKET, client=proxy.client())
    files = [finished(tmp_path, LARGE), finished(tmp_path, SMALL, "other.mp4")]

    began = time.monotonic()
    with pytest.raises(TaskFailed, match=r"^other\.mp4 could not be stored\.$"):
        upload(objects, files, prefix=FOLDER, stop=Event())

    assert time.monotonic() - began < 40
    assert "CompleteMultipartUpload" not in proxy.seen


def stopped(run: Callable[[Event], object], *, when: Callable[[], bool]) -> float:
    """How many seconds it takes `run` to end with Stopped after it was told to."""
    stop, told_at = Event(), []

    def tell() -> None:
        while not when():
            time.sleep(0.01)
        told_at.append(time.monotonic())
        stop.set()

    teller = Thread(target=tell)
    teller.start()
    with pytest.raises(Stopped):
        run(stop)
    ended_at = time.monotonic()
    teller.join()
    return ended_at - told_at[0]


def of_size(path: Path, size: int) -> Finished:
    with path.open("wb") as file:
        file.truncate(size)
    return Finished(path=path, filename="out.mp4", declared=0, media=None)


def test_upload_over_a_slow_line_stops_at_once_and_leaves_nothing(proxy: S3Proxy, tmp_path: Path) -> None:
    # given a file that would take minutes, and is on its way
    proxy.bytes_per_second = 300_000
    files = [of_size(tmp_path / "out.mp4", 64 * 1024**2)]
    objects = S3ObjectStore(BUCKET, client=proxy.client())

    took = stopped(
        lambda stop: upload(objects, files, prefix=FOLDER, stop=stop), when=lambda: proxy.body_bytes > 1_000_000
    )

    print(f"stopped after {took:.2f} s")
    assert took < 40
    assert objects_there() == []
    leftovers.seconds_until(lambda: not transfers_there(), most=60)  # its threads clear away, also after its end


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
def test_upload_to_a_store_that_never_answers_stops_within_bounds(
    proxy: S3Proxy, tmp_path: Path, operation: str
) -> None:
    proxy.always(operation, s3_proxy.silent_for(120))
    objects = S3ObjectStore(BUCKET, client=proxy.client(read_timeout=120, tries=1))
    files = [finished(tmp_path, SMALL if operation == "PutObject" else LARGE)]

    took = stopped(lambda stop: upload(objects, files, prefix=FOLDER, stop=stop), when=lambda: operation in proxy.seen)

    assert took < 40
    S3ObjectStore(BUCKET).delete(FOLDER)
    assert (objects_there(), transfers_there()) == ([], [])


def test_upload_to_a_store_that_always_refuses_stops_within_bounds(proxy: S3Proxy, tmp_path: Path) -> None:
    # given a client that would try for minutes
    proxy.always("PutObject", SLOW_DOWN)
    objects = S3ObjectStore(BUCKET, client=proxy.client(tries=5))
    files = [finished(tmp_path, SMALL)]

    took = stopped(
        lambda stop: upload(objects, files, prefix=FOLDER, stop=stop), when=lambda: "PutObject" in proxy.seen
    )

    assert took < 40


def test_hashing_of_a_large_file_stops_at_once(tmp_path: Path) -> None:
    # given a file that takes minutes to read
    files = [of_size(tmp_path / "out.mp4", 512 * 1024**3)]
    objects: Any = None  # it does not get so far
    begun = time.monotonic()

    took = stopped(
        lambda stop: upload(objects, files, prefix=FOLDER, stop=stop), when=lambda: time.monotonic() > begun + 0.3
    )

    assert took < 40


# Deleting


@pytest.fixture
def deletable(aws: Moto) -> None:
    """Three objects, and a transfer that was begun."""
    client = boto3.client("s3")
    for name in ("a.ts", "b.ts", "c.ts"):
        client.put_object(Bucket=BUCKET, Key=f"{FOLDER}/{name}", Body=b"x")
    client.create_multipart_upload(Bucket=BUCKET, Key=KEY)


ONE_REFUSED = s3_proxy.says(
    b"<?xml version='1.0'?><DeleteResult><Error><Key>outputs/t/1/a.ts</Key><Code>AccessDenied</Code>"
    b"<Message>No.</Message></Error></DeleteResult>"
)
DELETIONS: Mapping[str, tuple[str, Fault, bool]] = {
    "list: 500": ("ListObjectsV2", BROKEN, False),
    "list: SlowDown": ("ListObjectsV2", SLOW_DOWN, False),
    "list: cut": ("ListObjectsV2", s3_proxy.truncates, False),
    "list: garbled": ("ListObjectsV2", s3_proxy.garbles, False),
    "list: hangs up": ("ListObjectsV2", s3_proxy.hangs_up, False),
    "list: no such bucket": ("ListObjectsV2", NO_BUCKET, False),
    "transfers: denied": ("ListMultipartUploads", DENIED, False),
    "transfers: garbled": ("ListMultipartUploads", s3_proxy.garbles, False),
    "abort: 500": ("AbortMultipartUpload", BROKEN, False),
    "abort: answer lost": ("AbortMultipartUpload", s3_proxy.loses_the_answer, False),
    "abort: has ended": ("AbortMultipartUpload", s3_proxy.answers(404, "NoSuchUpload"), True),
    "delete: 500": ("DeleteObjects", BROKEN, False),
    "delete: SlowDown": ("DeleteObjects", SLOW_DOWN, False),
    "delete: answer lost": ("DeleteObjects", s3_proxy.loses_the_answer, False),
    "delete: garbled": ("DeleteObjects", s3_proxy.garbles, False),
    "delete: credentials expired": ("DeleteObjects", EXPIRED, False),
    "delete: one refused": ("DeleteObjects", ONE_REFUSED, False),
}


@pytest.mark.usefixtures("deletable")
@pytest.mark.parametrize(("operation", "fault", "done"), DELETIONS.values(), ids=DELETIONS)
def test_deletion_says_when_something_is_left_and_can_be_repeated(
    proxy: S3Proxy, operation: str, fault: Fault, done: bool
) -> None:
    proxy.always(operation, fault)
    objects = S3ObjectStore(BUCKET, client=proxy.client(tries=1))

    if done:
        assert objects.delete(FOLDER) == 3
    else:
        with pytest.raises((InternalError, ServiceUnavailable), match="could not be deleted"):
            objects.delete(FOLDER)

    proxy.heal()
    objects.delete(FOLDER)
    assert (objects_there(), transfers_there()) == ([], [])


@pytest.mark.usefixtures("deletable")
@pytest.mark.parametrize(
    "operation", ["ListObjectsV2", "ListMultipartUploads", "AbortMultipartUpload", "DeleteObjects"]
)
@pytest.mark.parametrize(
    "fault", [SLOW_DOWN, s3_proxy.hangs_up, s3_proxy.loses_the_answer], ids=["SlowDown", "hangs up", "answer lost"]
)
def test_deletion_gets_over_a_fault_that_passes(proxy: S3Proxy, operation: str, fault: Fault) -> None:
    proxy.once(operation, fault)

    assert S3ObjectStore(BUCKET, client=proxy.client()).delete(FOLDER) == 3

    assert (objects_there(), transfers_there()) == ([], [])
