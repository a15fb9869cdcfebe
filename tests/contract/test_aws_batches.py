"""What the twins on AWS have of their own for batches: an index, an array job, and buckets that are listed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from core import batch, moves
from core.aws import dispatcher
from core.aws.dispatcher import BatchDispatcher, Place
from core.aws.input_store import S3InputStore
from core.aws.task_store import BATCH_INDEX, DynamoTaskStore
from core.batch import Batch, Member, Source
from core.errors import DispatchDelayed, DispatchUnavailable
from core.ports import InputUnreadable, JobState, Sighting
from core.task import Failure, FailureCode, Progress, Stage, Status, Task, Timings
from support import aws_faults, moto_server
from support.aws_faults import CLOSED, LOST, TRUNCATED, Faults, error, says
from support.builders import NOW, a_task, task_in
from support.moto_server import Moto

BATCH_ID = batch.batch_id_of("5e4a1c1e-9b1d-4f6e-8a5c-2d3e4f5a6b7c")
INPUTS = "inputs-bucket"


@pytest.fixture
def faults(aws: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    with aws_faults.serving(aws.url) as serving:
        monkeypatch.setenv("AWS_ENDPOINT_URL", serving.url)
        yield serving


@pytest.fixture
def store(aws: Moto) -> DynamoTaskStore:
    return DynamoTaskStore(moto_server.TABLE)


def a_batch(**changes: Any) -> Batch:
    made = Batch(
        batch_id=BATCH_ID,
        template=a_task(command="-i {name} {stem}.mp4", input_files={"{name}": "{url}"}),
        count=25,
        per_slice=10,
        created_at=NOW,
        correlation_id="corr-1",
    )
    return replace(made, **changes)


def member(number: int, status: Status = Status.RUNNING, **changes: Any) -> Task:
    return task_in(status, task_id=batch.task_id(BATCH_ID, number), batch_id=BATCH_ID, **changes)


# The index


def entries() -> list[dict[str, Any]]:
    """What the index has, but for the keys."""
    found: list[dict[str, Any]] = boto3.client("dynamodb").scan(TableName=moto_server.TABLE, IndexName=BATCH_INDEX)[
        "Items"
    ]
    return found


def test_members_are_the_rows_of_the_batch_and_of_no_other(store: DynamoTaskStore) -> None:
    # given tasks of a batch in each status, one of another batch, and one of none
    failed = replace(member(3, Status.FAILED), error=Failure.of(FailureCode.MEDIA_INVALID, "é" * 400))
    for task in (member(0, Status.QUEUED), member(1), member(2, Status.COMPLETED), failed, member(4, Status.CANCELED)):
        store.create(task)
    store.create(replace(member(5), batch_id="another", task_id=batch.task_id(BATCH_ID.replace("5e", "6e"), 0)))
    store.create(task_in(Status.RUNNING))

    assert sorted(store.members(BATCH_ID)) == [
        Member(0, Status.QUEUED),
        Member(1, Status.RUNNING),
        Member(2, Status.COMPLETED, NOW),
        Member(3, Status.FAILED, NOW, error="é" * 300),
        Member(4, Status.CANCELED, NOW),
    ]
    assert store.members(batch.batch_id_of(a_task().task_id)) == []


def test_what_a_worker_reports_is_no_write_of_the_index(store: DynamoTaskStore) -> None:
    """DynamoDB writes an entry when what it projects has changed, and else not."""
    task = store.create(member(0))
    before = entries()
    reported = moves.report(
        task,
        now=NOW + timedelta(seconds=20),
        fence=1,
        stage=Stage.TRANSCODING,
        progress=Progress(percent=40.0),
        timings=Timings(),
    )
    store.replace(reported, task)
    assert entries() == before
    assert before == [
        {"batch_id": {"S": BATCH_ID}, "task_id": {"S": task.task_id}, "status": {"S": "running"}}
    ]  # and nothing that a heartbeat moves


def test_a_task_of_no_batch_is_not_in_the_index(store: DynamoTaskStore) -> None:
    for status in Status:
        store.create(task_in(status))
    assert entries() == []


def test_members_come_page_after_page(store: DynamoTaskStore, faults: Faults) -> None:
    tasks = [store.create(member(number)) for number in range(5)]
    known = sorted(entries(), key=lambda entry: str(entry["task_id"]))
    keys = [{name: entry[name] for name in ("batch_id", "task_id")} for entry in known]
    pages = [
        {"Items": known[:2], "Count": 2, "ScannedCount": 2, "LastEvaluatedKey": keys[1]},
        {"Items": [], "Count": 0, "ScannedCount": 0, "LastEvaluatedKey": keys[2]},
        {"Items": known[2:], "Count": 3, "ScannedCount": 3},
    ]
    asked: list[Any] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request.get("ExclusiveStartKey"))
        return pages[len(asked) - 1]

    faults.on("Query", *3 * [says(answer)])
    patient = DynamoTaskStore(moto_server.TABLE, client=boto3.client("dynamodb"))  # asks for no page twice
    found = patient.members(BATCH_ID)
    assert [one.number for one in found] == list(range(len(tasks)))
    assert asked == [None, keys[1], keys[2]]


def test_entries_are_so_small_that_ten_thousand_are_few_answers(store: DynamoTaskStore) -> None:
    """An answer has 1 MB at most, counted by names and values."""
    store.create(replace(member(0, Status.FAILED), error=Failure.of(FailureCode.DOWNLOAD_FAILED, "x" * 1000)))
    store.create(member(1, Status.COMPLETED))
    failed, completed = sorted((sum(map(size, entry.items())) for entry in entries()), reverse=True)
    assert failed * batch.MOST_TASKS <= 5 * 1024**2
    assert completed * batch.MOST_TASKS <= 2 * 1024**2


def size(pair: tuple[str, dict[str, str]]) -> int:
    name, (value,) = pair[0], pair[1].values()
    return len(name.encode()) + len(value.encode())


def test_a_bad_row_hides_no_other(store: DynamoTaskStore) -> None:
    store.create(member(0))
    dynamodb = boto3.client("dynamodb")
    for key, status in ((batch.task_id(BATCH_ID, 1), "unheard of"), ("no-id-of-a-batch", "running")):
        item = {"task_id": {"S": key}, "batch_id": {"S": BATCH_ID}, "status": {"S": status}}
        dynamodb.put_item(TableName=moto_server.TABLE, Item=item)
    assert store.members(BATCH_ID) == [Member(0, Status.RUNNING)]


# The job


def jobs(*job_ids: str) -> list[dict[str, Any]]:
    return [dict(job) for job in boto3.client("batch").describe_jobs(jobs=list(job_ids))["jobs"]]


def environment(job: dict[str, Any]) -> dict[str, str]:
    given = {pair["name"]: pair["value"] for pair in job["container"]["environment"]}
    return {name: value for name, value in given.items() if name not in (*moto_server.SETTINGS, "AWS_BATCH_JOB_ID")}


def test_a_batch_is_one_array_job_with_a_child_for_each_slice(faults: Faults) -> None:
    job_id = BatchDispatcher(moto_server.places(), task_seconds=600).submit_batch(a_batch())

    (parent,) = jobs(job_id)
    assert faults.calls["SubmitJob"] == 1
    assert (parent["jobName"], parent["arrayProperties"]["size"]) == (f"batch-{BATCH_ID}", 3)
    assert environment(parent) == {"BATCH_ID": BATCH_ID, "CORRELATION_ID": "corr-1"}
    assert parent["timeout"] == {"attemptDurationSeconds": 6000}
    assert [child["jobName"] for child in jobs(*(f"{job_id}:{number}" for number in range(3)))] == 3 * [
        parent["jobName"]
    ]


def test_a_batch_of_one_slice_is_a_plain_job(aws: Moto) -> None:
    job_id = BatchDispatcher(moto_server.places(), task_seconds=600).submit_batch(a_batch(count=7))
    (job,) = jobs(job_id)
    assert "arrayProperties" not in job
    assert environment(job) == {"BATCH_ID": BATCH_ID, "CORRELATION_ID": "corr-1"}
    assert job["timeout"] == {"attemptDurationSeconds": 4200}


def test_a_batch_goes_to_the_queue_for_what_it_computes_on(aws: Moto) -> None:
    places = {**moto_server.places(), "cpu": Place("cpu-only", moto_server.DEFINITION)}
    aws.create_queue("cpu-only")
    on_cpu = a_batch(template=a_task(compute="cpu"))
    ids = [BatchDispatcher(places).submit_batch(one) for one in (a_batch(), on_cpu)]
    assert [job["jobQueue"].rpartition("/")[2] for job in jobs(*ids)] == [moto_server.QUEUE, "cpu-only"]


BUSY = error("TooManyRequestsException", 429)


@pytest.mark.parametrize("fault", [BUSY, CLOSED, LOST, TRUNCATED], ids=["busy", "closed", "lost", "truncated"])
def test_a_batch_whose_answer_is_lost_is_left_to_the_sweep(faults: Faults, fault: aws_faults.Fault) -> None:
    faults.on("SubmitJob", fault, always=True)
    with pytest.raises(DispatchDelayed):
        BatchDispatcher(moto_server.places()).submit_batch(a_batch())


def test_a_batch_that_is_refused_is_said_to_be(aws: Moto) -> None:
    with pytest.raises(DispatchUnavailable):
        BatchDispatcher(moto_server.places(queue="no-such-queue")).submit_batch(a_batch())


def parent(status: str, **children: int) -> aws_faults.Fault:
    array = {"size": 3, "statusSummary": children}
    job = {"jobId": "job-1", "jobName": "x", "status": status, "arrayProperties": array, "statusReason": "why"}
    return says(lambda request: {"jobs": [job]})


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (parent("SUBMITTED"), JobState.COMING),
        (parent("PENDING", RUNNABLE=3), JobState.COMING),
        (parent("PENDING", RUNNABLE=1, RUNNING=1, FAILED=1), JobState.RUNNING),
        (parent("PENDING", STARTING=1, SUCCEEDED=2), JobState.COMING),
        (parent("SUCCEEDED", SUCCEEDED=3), JobState.GONE),
        (parent("FAILED", SUCCEEDED=2, FAILED=1), JobState.GONE),
    ],
)
def test_a_batch_is_gone_when_its_parent_has_ended(faults: Faults, fault: aws_faults.Fault, state: JobState) -> None:
    faults.on("DescribeJobs", fault)
    assert BatchDispatcher(moto_server.places()).look_batch(a_batch(job_id="job-1")) == Sighting(state, "why")


def test_a_batch_without_a_job_is_gone(faults: Faults) -> None:
    batches = BatchDispatcher(moto_server.places())
    assert batches.look_batch(a_batch()) == Sighting(JobState.GONE)
    assert faults.calls == {}
    assert batches.look_batch(a_batch(job_id="no-such-job")) == Sighting(JobState.GONE)


def test_stop_of_a_batch_ends_the_parent(faults: Faults) -> None:
    batches = BatchDispatcher(moto_server.places())
    batches.stop_batch(a_batch())
    assert faults.calls == {}
    asked: list[dict[str, Any]] = []

    def noted(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {}

    faults.on("TerminateJob", says(noted))
    batches.stop_batch(a_batch(job_id="job-1"))
    assert asked == [{"jobId": "job-1", "reason": "The batch was canceled."}]


def test_a_task_of_a_batch_is_seen_by_its_child(faults: Faults) -> None:
    faults.on("DescribeJobs", describing({"job-1": "PENDING", "job-1:1": "FAILED", "job-1:2": "RUNNING"}))
    tasks = [member(number, job_id=f"job-1:{number}") for number in (1, 2)]
    seen = BatchDispatcher(moto_server.places()).look(tasks)
    assert [seen[task.task_id].state for task in tasks] == [JobState.GONE, JobState.RUNNING]


def test_a_task_of_a_batch_of_one_slice_is_seen_by_its_plain_job(faults: Faults) -> None:
    faults.on("DescribeJobs", describing({"job-1": "RUNNING"}))
    task, lost = member(1, job_id="job-1:0"), member(2, job_id="job-2:0")
    seen = BatchDispatcher(moto_server.places()).look([task, lost])
    assert (seen[task.task_id].state, seen[lost.task_id].state) == (JobState.RUNNING, JobState.GONE)


def describing(known: dict[str, str]) -> aws_faults.Fault:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked = [job_id for job_id in request["jobs"] if job_id in known]
        return {"jobs": [{"jobId": job_id, "jobName": "x", "status": known[job_id]} for job_id in asked]}

    return says(answer)


def test_a_batch_is_told_by_the_name_of_its_job() -> None:
    assert dispatcher.batch_of(f"batch-{BATCH_ID}") == BATCH_ID
    strangers = ("", "batch-", f"task-{BATCH_ID}", f"batch-{a_task().task_id[:-1]}7", f"batch-{BATCH_ID}0", BATCH_ID)
    assert [dispatcher.batch_of(name) for name in strangers] == 6 * [None]
    assert dispatcher.task_of(f"batch-{BATCH_ID}") is None


# Buckets of inputs


@pytest.fixture
def inputs(aws: Moto) -> S3InputStore:
    boto3.client("s3").create_bucket(
        Bucket=INPUTS, CreateBucketConfiguration={"LocationConstraint": moto_server.REGION}
    )
    return S3InputStore()


def fill(*keys: str) -> None:
    for key in keys:
        boto3.client("s3").put_object(Bucket=INPUTS, Key=key, Body=b"x" * len(key))


def names(found: Sequence[Source]) -> list[str]:
    return [source.url.removeprefix(f"s3://{INPUTS}/") for source in found]


def test_media_below_a_prefix_are_listed_in_order(inputs: S3InputStore) -> None:
    fill("in/b.MOV", "in/a b.mp4", "in/sub/c.mkv", "in/", "in/readme.txt", "in/.hidden.mp4", "other/d.mp4", "in/no")
    assert inputs.list(INPUTS, "in/", limit=10) == [
        Source("a b.mp4", f"s3://{INPUTS}/in/a b.mp4", 10),
        Source("b.MOV", f"s3://{INPUTS}/in/b.MOV", 8),
        Source("c.mkv", f"s3://{INPUTS}/in/sub/c.mkv", 12),
    ]
    assert names(inputs.list(INPUTS, "", limit=2)) == ["in/a b.mp4", "in/b.MOV"]
    assert inputs.list(INPUTS, "nothing/", limit=10) == []


def test_a_key_is_named_as_it_is_written(inputs: S3InputStore) -> None:
    fill("in/what?#1 50%41.mp4")
    url = f"s3://{INPUTS}/in/what?#1 50%41.mp4"
    assert inputs.list(INPUTS, "in/", limit=10) == [Source("what_#1 50_41.mp4", url, 20)]


def page(start: int, count: int, *, more: bool, suffix: str = "mp4") -> aws_faults.Answer:
    contents = "".join(
        f"<Contents><Key>{number:06}.{suffix}</Key><Size>1</Size></Contents>" for number in range(start, start + count)
    )
    token = f"<NextContinuationToken>{start + count}</NextContinuationToken>" if more else ""
    body = f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
    return aws_faults.Answer(200, {"Content-Type": "application/xml"}, body.encode())


def endless(suffix: str) -> "aws_faults.Fault":
    asked = iter(range(10_000))
    return lambda exchange: exchange.answer(page(1000 * next(asked), 1000, more=True, suffix=suffix))


def test_a_list_is_asked_for_page_after_page_and_no_further_than_needed(inputs: S3InputStore, faults: Faults) -> None:
    faults.chosen = lambda exchange: endless_mp4
    endless_mp4 = endless("mp4")
    assert len(S3InputStore().list(INPUTS, "", limit=10_001)) == 10_001
    assert sum(faults.calls.values()) == 11


def test_a_prefix_with_too_much_that_is_no_media_is_refused(inputs: S3InputStore, faults: Faults) -> None:
    endless_text = endless("txt")
    faults.chosen = lambda exchange: endless_text
    with pytest.raises(InputUnreadable, match="has more than 3000 objects below it") as raised:
        S3InputStore(most_listed=3000).list(INPUTS, "", limit=10_001)
    assert not raised.value.retryable
    assert sum(faults.calls.values()) == 4


@pytest.mark.parametrize(
    ("fault", "sentence", "retryable"),
    [
        (error("AccessDenied", 403), "the API's role may not list its bucket", False),
        (error("SlowDown", 503), "cannot be listed at the moment", True),
        (CLOSED, "cannot be listed at the moment", True),
    ],
    ids=["denied", "busy", "closed"],
)
def test_a_list_that_cannot_be_had_says_why(
    inputs: S3InputStore, faults: Faults, fault: aws_faults.Fault, sentence: str, retryable: bool
) -> None:
    faults.chosen = lambda exchange: fault
    with pytest.raises(InputUnreadable, match=sentence) as raised:
        S3InputStore(client=quick()).list(INPUTS, "in/", limit=10)
    assert raised.value.retryable is retryable


def quick() -> Any:
    """Without the waits between the tries."""
    from botocore.config import Config

    return boto3.client("s3", config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}))


def read(inputs: S3InputStore, key: str, folder: Path) -> None:
    inputs.get_file(INPUTS, key, folder / "copy", max_bytes=2**20, on_piece=lambda: None)


def test_an_input_is_deleted(inputs: S3InputStore, tmp_path: Path) -> None:
    fill("a.mp4", "b.mp4", "gone.mp4")
    for key in ("a.mp4", "gone.mp4"):
        read(inputs, key, tmp_path)
    boto3.client("s3").delete_object(Bucket=INPUTS, Key="gone.mp4")

    inputs.delete(INPUTS, "a.mp4")
    inputs.delete(INPUTS, "gone.mp4")

    assert names(inputs.list(INPUTS, "", limit=10)) == ["b.mp4"]


def test_what_is_not_the_object_that_was_read_is_not_deleted(inputs: S3InputStore, tmp_path: Path) -> None:
    fill("a.mp4", "b.mp4")
    read(inputs, "a.mp4", tmp_path)
    boto3.client("s3").put_object(Bucket=INPUTS, Key="a.mp4", Body=b"another one, that came meanwhile")

    with pytest.raises(InputUnreadable, match="has changed while it was read, or since"):
        inputs.delete(INPUTS, "a.mp4")
    with pytest.raises(InputUnreadable, match="has not been read"):
        inputs.delete(INPUTS, "b.mp4")

    assert names(inputs.list(INPUTS, "", limit=10)) == ["a.mp4", "b.mp4"]


@dataclass
class Denied:
    """An S3 client that may read and not delete."""

    inner: Any

    def delete_object(self, **_: Any) -> Any:
        raise ClientError({"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "DeleteObject")  # type: ignore[typeddict-item]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_an_input_that_may_not_be_deleted_is_said_to_be(inputs: S3InputStore, tmp_path: Path) -> None:
    fill("a.mp4")
    client: Any = Denied(boto3.client("s3"))
    store = S3InputStore(client=client)
    read(store, "a.mp4", tmp_path)
    with pytest.raises(InputUnreadable, match="may not delete"):
        store.delete(INPUTS, "a.mp4")
