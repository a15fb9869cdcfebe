"""Batches in the shape of AWS: registered through the Lambda function, and the children of their array job run.

As in test_worker_aws.py, a child is the command and the environment of the job that was submitted, and what AWS Batch
adds to each child. What AWS Batch says of its jobs is set by the test, since moto's jobs end as they are submitted.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from core import batches, submit
from core.aws.dispatcher import BatchDispatcher
from core.aws.object_store import S3ObjectStore
from core.aws.record_store import DynamoRecordStore
from core.aws.task_store import DynamoTaskStore
from core.batch import MOST_TASKS, Batch, Source, batch_id_of, task_id
from core.ports import Services
from core.task import Ending, Status
from support import aws_faults, batch_index, footage, lambda_process, moto_server
from support.aws_faults import LOST, Faults, error, says
from support.builders import a_task, task_in
from support.lambda_module import imported
from support.lambda_process import LambdaProcess
from support.moto_server import Moto
from support.source_server import SourceServer, serving
from support.submitted import asked

sweep_handler = imported("handlers.sweep")

BATCH_ID = batch_id_of("5e4a1c1e-9b1d-4f6e-8a5c-2d3e4f5a6b7c")
COPY = "-i {name} -c copy {stem}.mkv"
CLIPS = 6


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceServer]:
    folder = tmp_path_factory.mktemp("media")
    footage.run("-i", str(footage.CLIP), "-t", "0.5", "-c", "copy", str(folder / "clip0.mp4"))
    for number in range(1, CLIPS):
        os.link(folder / "clip0.mp4", folder / f"clip{number}.mp4")
    with serving(folder) as server:
        yield server


@pytest.fixture
def faults(aws: Moto) -> Iterator[Faults]:
    with aws_faults.serving(aws.url) as serving:
        yield serving


@pytest.fixture
def function(aws: Moto, faults: Faults, tmp_path: Path) -> Iterator[LambdaProcess]:
    with lambda_process.started(env(aws, faults), tmp_path) as started:
        yield started


@pytest.fixture
def services(aws: Moto) -> Services:
    return Services(
        store=DynamoTaskStore(moto_server.TABLE),
        records=DynamoRecordStore(moto_server.TABLE),
        objects=S3ObjectStore(moto_server.BUCKET),
        dispatcher=BatchDispatcher(moto_server.places()),
    )


def env(aws: Moto, faults: Faults) -> dict[str, str]:
    return {**aws.env, **moto_server.SETTINGS, "AWS_ENDPOINT_URL": faults.url}


def wanted(urls: Sequence[str], **changes: Any) -> dict[str, Any]:
    return {"inputs": list(urls), "command": COPY, "output_filename": "{stem}.mkv", "compute": "cpu", **changes}


def stored(services: Services, urls: Sequence[str], *, per_slice: int = 2, hand_over: bool = True) -> Batch:
    """A batch in slices as small as the service makes none, since they are to be worth minutes."""
    sources = [Source(url.rpartition("/")[2], url) for url in urls]
    now = datetime.now(UTC)
    template = a_task(
        task_id=BATCH_ID,
        created_at=now,
        command=COPY,
        input_files={"{name}": "{url}"},
        output_files=("{stem}.mkv",),
        compute="cpu",
    )
    made = Batch(
        batch_id=BATCH_ID,
        template=template,
        count=len(sources),
        per_slice=per_slice,
        created_at=now,
        correlation_id="corr-1",
        dispatch_due_at=now,
    )
    batch = batches.create_batch(services, made, sources)
    return submit.submit_batch(services, batch, now=now) if hand_over else batch


def jobs(name: str) -> list[dict[str, Any]]:
    """The jobs of that name, in the order in which they were submitted, without the children of arrays."""
    batch = boto3.client("batch")
    listed = batch.list_jobs(jobQueue=moto_server.QUEUE, filters=[{"name": "JOB_NAME", "values": [name]}])
    ids = [job["jobId"] for job in listed["jobSummaryList"] if ":" not in job["jobId"]]
    return [dict(job) for job in batch.describe_jobs(jobs=ids)["jobs"]] if ids else []


def start(job: Mapping[str, Any], aws: Moto, folder: Path, number: int | None = None) -> "subprocess.Popen[bytes]":
    """The job's command under exactly its environment, and under what AWS Batch adds to the child `number`."""
    program, *arguments = job["container"]["command"]
    assert program == "python"
    image = {"PATH": os.environ["PATH"], "PYTHONPATH": str(lambda_process.ROOT / "src")}
    own = {pair["name"]: pair["value"] for pair in job["container"]["environment"]}
    if number is not None:
        own |= {"AWS_BATCH_JOB_ARRAY_INDEX": str(number), "AWS_BATCH_JOB_ID": f"{job['jobId']}:{number}"}
    with (folder / "worker.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments], env={**image, **aws.env, **own}, cwd=folder, stderr=log, stdout=log
        )


def run(job: Mapping[str, Any], aws: Moto, folder: Path, number: int | None = None) -> int:
    return start(job, aws, folder, number).wait(120)


@contextmanager
def running(job: Mapping[str, Any], aws: Moto, folder: Path, number: int) -> Iterator["subprocess.Popen[bytes]"]:
    worker = start(job, aws, folder, number)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait(30)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def show(function: LambdaProcess, batch_id: str = BATCH_ID) -> dict[str, Any]:
    status, shown = asked(function, "GET", f"/ffmpeg/batches/{batch_id}")
    assert status == 200
    assert sum(shown["counts"].values()) == shown["count"]
    found: dict[str, Any] = shown
    return found


def listed(function: LambdaProcess, batch_id: str = BATCH_ID) -> Counter[str]:
    """How many tasks of the batch the list has in each status."""
    status, page = asked(function, "GET", f"/ffmpeg/tasks?batch_id={batch_id}&limit=200")
    assert status == 200
    assert len({task["task_id"] for task in page["items"]}) == len(page["items"])
    return Counter(task["status"] for task in page["items"])


def swept(services: Services, *, after: timedelta = timedelta(minutes=2)) -> dict[str, int]:
    """What a minute's sweep does, so long from now."""
    done: dict[str, int] = sweep_handler.run(services, now=lambda: datetime.now(UTC) + after, seconds_left=lambda: 60.0)
    return done


def describing(states: Mapping[str, str]) -> aws_faults.Fault:
    """AWS Batch, as it speaks of these jobs; it has never heard of others."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        known = [job_id for job_id in request["jobs"] if job_id in states]
        return {"jobs": [{"jobId": job_id, "jobName": "x", "status": states[job_id]} for job_id in known]}

    return says(answer)


def urls(source: SourceServer, count: int = CLIPS) -> list[str]:
    return [f"{source.url}/media/clip{number}.mp4" for number in range(count)]


def objects() -> Counter[str]:
    """How often each output's name is in the bucket."""
    found = boto3.client("s3").list_objects_v2(Bucket=moto_server.BUCKET, Prefix="outputs/").get("Contents", [])
    keys = [entry["Key"] for entry in found]
    return Counter(key.rpartition("/")[2] for key in keys if not key.startswith("outputs/logs/"))


def test_a_batch_from_one_request_to_its_files(
    aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    # given a batch whose second file is not there, registered in one call
    given = urls(source, 3)
    given[1] = f"{source.url}/status/404"
    status, made = asked(function, "POST", "/ffmpeg/batches", wanted(given))
    assert (status, made["status"], made["count"]) == (202, "queued", 3)
    batch_id = made["batch_id"]

    # then its tasks are known before any has a row
    assert listed(function, batch_id) == {"queued": 3}
    assert asked(function, "GET", f"/ffmpeg/status/{task_id(batch_id, 2)}")[1]["status"] == "queued"
    assert show(function, batch_id)["counts"]["queued"] == 3

    # when its one job is run, which is no array
    (job,) = jobs(f"batch-{batch_id}")
    assert "arrayProperties" not in job
    assert run(job, aws, tmp_path) == 0

    # then two files are done and one has failed, in every sight of it
    shown = show(function, batch_id)
    assert (shown["status"], shown["percent"]) == ("failed", 100)
    assert [file["file"] for file in shown["converted"]] == ["clip0.mp4", "clip2.mp4"]
    (failure,) = shown["failures"]
    assert (failure["index"], failure["file"]) == (1, "404")
    assert "answered 404" in failure["reason"]
    assert listed(function, batch_id) == {"completed": 2, "failed": 1}
    assert objects() == {"clip0.mkv": 1, "clip2.mkv": 1}
    status, task = asked(function, "GET", f"/ffmpeg/status/{task_id(batch_id, 2)}")
    assert (task["batch_id"], task["attempt"], task["correlation_id"]) == (batch_id, 1, "order-4711-register")


def test_children_of_an_array_do_their_slices_and_a_killed_one_goes_on(
    aws: Moto, function: LambdaProcess, services: Services, faults: Faults, source: SourceServer, tmp_path: Path
) -> None:
    # given an array of three children, the second of which has a file whose source pauses
    given = urls(source, 5)
    given[2] = f"{source.url}/held/clip2.mp4"
    source.asked.clear()  # which holds only the first who asks
    batch = stored(services, given)
    (job,) = jobs(f"batch-{BATCH_ID}")
    assert job["arrayProperties"]["size"] == 3
    faults.on("DescribeJobs", describing({f"{batch.job_id}": "PENDING"}), always=True)

    # when the first has done its slice
    assert run(job, aws, tmp_path, 0) == 0
    assert show(function)["counts"] == {"queued": 3, "running": 0, "completed": 2, "failed": 0, "canceled": 0}

    # and the second is killed in the middle of its first task
    with running(job, aws, tmp_path, 1) as worker:
        until(lambda: services.store.members(BATCH_ID)[-1:] and show(function)["counts"]["running"] == 1)
        assert listed(function) == {"completed": 2, "running": 1, "queued": 2}
        worker.send_signal(signal.SIGKILL)
        worker.wait(30)

    # then its second attempt, which is the same job, has the task at once, and all are done
    assert run(job, aws, tmp_path, 1) == 0
    assert run(job, aws, tmp_path, 2) == 0
    shown = show(function)
    assert (shown["status"], shown["percent"], len(shown["converted"])) == ("completed", 100, 5)
    again = services.store.get(task_id(BATCH_ID, 2))
    assert (again.fence, [tried.ending for tried in again.attempts]) == (2, [Ending.LOST, Ending.COMPLETED])
    assert again.job_id == f"{batch.job_id}:1"
    assert objects() == {f"clip{number}.mkv": 1 for number in range(5)}

    # and the sweep ends it
    assert swept(services, after=timedelta(hours=3))["BatchesMoved"] == 1
    ended = batches.get_batch(services, BATCH_ID)
    assert (ended.counts, bool(ended.finished_at)) == (
        {"queued": 0, "running": 0, "completed": 5, "failed": 0, "canceled": 0},
        True,
    )


def test_a_canceled_batch_ends_with_its_parent_and_begins_nothing(
    aws: Moto, function: LambdaProcess, services: Services, faults: Faults, source: SourceServer, tmp_path: Path
) -> None:
    given = urls(source, 6)
    given[2] = f"{source.url}/held/clip2.mp4"
    source.asked.clear()  # which holds only the first who asks
    batch = stored(services, given)
    (job,) = jobs(f"batch-{BATCH_ID}")
    assert run(job, aws, tmp_path, 0) == 0

    with running(job, aws, tmp_path, 1) as worker:
        until(lambda: show(function)["counts"]["running"] == 1)
        # when it is canceled while one child works and one has not begun
        status, shown = asked(function, "POST", f"/ffmpeg/batches/{BATCH_ID}/cancel")
        assert (status, shown["status"]) == (202, "canceled")
        assert faults.calls["TerminateJob"] == 1
        # then the parent's end is that of the child
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) in (0, 75)
    assert run(job, aws, tmp_path, 2) == 0
    assert show(function)["counts"] == {"queued": 0, "running": 0, "completed": 2, "failed": 0, "canceled": 4}
    assert listed(function) == {"completed": 2, "canceled": 4}
    assert objects() == {"clip0.mkv": 1, "clip1.mkv": 1}
    # and the last two tasks never had a row
    assert {member.number for member in services.store.members(BATCH_ID)} <= {0, 1, 2, 3}
    swept(services)
    assert batches.get_batch(services, BATCH_ID).finished_at
    assert jobs("task-*") == []
    assert batch.job_id


def test_a_batch_whose_children_are_all_lost_is_handed_over_by_the_sweep(
    aws: Moto, services: Services, source: SourceServer, tmp_path: Path
) -> None:
    """moto says of each job that it has ended; so did these, which nobody has run."""
    stored(services, urls(source, 3), per_slice=1)

    done = swept(services, after=timedelta(hours=3))

    assert (done["BatchesMoved"], done["LiveTasksMoved"]) == (1, 3)
    given = jobs("task-*")
    assert sorted(job["jobName"] for job in given) == [f"task-{task_id(BATCH_ID, number)}" for number in range(3)]
    assert [run(job, aws, tmp_path) for job in given] == [0, 0, 0]
    assert sorted(services.store.members(BATCH_ID))[0].status is Status.COMPLETED
    assert objects() == {f"clip{number}.mkv": 1 for number in range(3)}
    swept(services, after=timedelta(hours=6))
    counts = batches.get_batch(services, BATCH_ID).counts
    assert counts
    assert counts["completed"] == 3


def test_an_array_that_was_submitted_twice_does_everything_once(
    aws: Moto, function: LambdaProcess, faults: Faults, services: Services, source: SourceServer, tmp_path: Path
) -> None:
    # given a hand-over whose answer is lost, each time that boto3 asks, and then the sweep's
    faults.on("SubmitJob", LOST, LOST)
    status, made = asked(function, "POST", "/ffmpeg/batches", wanted(urls(source)))
    assert (status, made["status"]) == (202, "queued")
    batch_id = made["batch_id"]
    assert batches.get_batch(services, batch_id).job_id is None
    assert swept(services)["BatchesMoved"] == 1
    given = jobs(f"batch-{batch_id}")
    assert len(given) == 3
    assert batches.get_batch(services, batch_id).job_id == given[-1]["jobId"]

    # when two of the jobs run side by side, and then the third
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda job: run(job, aws, tmp_path), given[:2])) == [0, 0]
    assert run(given[2], aws, tmp_path) == 0

    # then nothing was done twice
    tasks = [services.store.get(task_id(batch_id, number)) for number in range(CLIPS)]
    assert [(task.status, task.fence, len(task.attempts)) for task in tasks] == CLIPS * [(Status.COMPLETED, 1, 1)]
    assert objects() == {f"clip{number}.mkv": 1 for number in range(CLIPS)}


def test_a_batch_that_a_throttled_aws_batch_did_not_take_is_handed_over_later(
    function: LambdaProcess, faults: Faults, services: Services, source: SourceServer
) -> None:
    faults.on("SubmitJob", error("TooManyRequestsException", 429), always=True)
    status, made = asked(function, "POST", "/ffmpeg/batches", wanted(urls(source)))
    assert (status, made["status"], jobs(f"batch-{made['batch_id']}")) == (202, "queued", [])
    swept(services)
    assert len(jobs(f"batch-{made['batch_id']}")) == 1


def test_a_sweep_that_knows_the_children_to_work_lets_the_batch_be(
    services: Services, faults: Faults, monkeypatch: pytest.MonkeyPatch, source: SourceServer
) -> None:
    batch = stored(services, urls(source))
    faults.on("DescribeJobs", describing({f"{batch.job_id}": "PENDING"}), always=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", faults.url)
    through = replace(services, dispatcher=BatchDispatcher(moto_server.places()))
    assert swept(through, after=timedelta(hours=3))["BatchesMoved"] == 1  # to be looked at again
    assert services.store.members(BATCH_ID) == []
    assert faults.calls["SubmitJob"] == 0


# Buckets

INPUTS = "inputs-bucket"


@pytest.fixture
def reader(aws: Moto, faults: Faults, tmp_path: Path) -> Iterator[LambdaProcess]:
    """The function of a service that reads one bucket, in which three clips and a note lie."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=INPUTS, CreateBucketConfiguration={"LocationConstraint": moto_server.REGION})
    footage.run("-i", str(footage.CLIP), "-t", "0.5", "-c", "copy", str(tmp_path / "clip.mp4"))
    for key in ("in/b.mp4", "in/a.mp4", "in/deep/c?.mp4", "other/d.mp4"):
        s3.upload_file(str(tmp_path / "clip.mp4"), INPUTS, key)
    s3.put_object(Bucket=INPUTS, Key="in/note.txt", Body=b"note")
    with lambda_process.started({**env(aws, faults), "INPUT_BUCKETS": INPUTS}, tmp_path) as started:
        yield started


def keys() -> list[str]:
    return [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=INPUTS)["Contents"]]


def test_a_batch_of_a_prefix_takes_its_media_and_deletes_them_when_asked_to(
    aws: Moto, reader: LambdaProcess, tmp_path: Path
) -> None:
    from_prefix = {"input_prefix": f"s3://{INPUTS}/in/", "command": COPY, "output_filename": "{stem}.mkv"}
    status, made = asked(reader, "POST", "/ffmpeg/batches", {**from_prefix, "delete_inputs": True})
    assert (status, made["count"], made["files"]) == (202, 3, ["a.mp4", "b.mp4", "c_.mp4"])
    (job,) = jobs(f"batch-{made['batch_id']}")
    job["container"]["environment"].append({"name": "INPUT_BUCKETS", "value": INPUTS})

    assert run(job, aws, tmp_path) == 0

    assert show(reader, made["batch_id"])["status"] == "completed"
    assert objects() == {"a.mkv": 1, "b.mkv": 1, "c_.mkv": 1}
    assert keys() == ["in/note.txt", "other/d.mp4"]


@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        ("s3://another-bucket/in/", "URL_NOT_ALLOWED"),
        (f"s3://{INPUTS}/nothing/", "INVALID_ARGUMENT"),
    ],
)
def test_a_prefix_that_cannot_be_taken_is_refused(
    reader: LambdaProcess, faults: Faults, prefix: str, code: str
) -> None:
    body = {"input_prefix": prefix, "command": COPY, "output_filename": "{stem}.mkv"}
    status, answer = asked(reader, "POST", "/ffmpeg/batches", body)
    assert (status, answer["error"]["code"]) == (400, code)
    assert not {"PutItem", "SubmitJob"} & set(faults.calls)


# Ten thousand


def ten_thousand() -> list[str]:
    return [f"https://media.example.com/2026/footage/camera-{number:05}.mp4" for number in range(MOST_TASKS)]


def test_ten_thousand_tasks_are_a_handful_of_calls(function: LambdaProcess, faults: Faults, services: Services) -> None:
    # given a function that is warm
    asked(function, "GET", "/ffmpeg/health")
    faults.calls.clear()

    # when a batch of as many as may be is registered
    status, made = asked(function, "POST", "/ffmpeg/batches", wanted(ten_thousand()))

    # then it took a look at the settings, an object, a record, a job, and the note of the job
    assert (status, made["count"], len(made["files"])) == (202, MOST_TASKS, MOST_TASKS)
    batch_id = made["batch_id"]
    assert faults.calls == {
        f"/{moto_server.BUCKET}/{services.manifest_key(batches.get_batch(services, batch_id))}": 1,
        "PutItem": 2,
        "SubmitJob": 1,
        "GetItem": 1,  # the settings at run time
    }
    # and is all there
    assert services.store.members(batch_id) == []
    for number in (0, 4711, MOST_TASKS - 1):
        status, task = asked(function, "GET", f"/ffmpeg/status/{task_id(batch_id, number)}")
        assert (status, task["status"], task["batch_id"]) == (200, "queued", batch_id)
        assert task["input_files"] == {f"camera-{number:05}.mp4": ten_thousand()[number]}
    (job,) = jobs(f"batch-{batch_id}")
    assert job["arrayProperties"]["size"] == batches.get_batch(services, batch_id).slices


def test_ten_thousand_ended_tasks_are_shown_by_a_handful_of_calls(
    function: LambdaProcess, faults: Faults, services: Services
) -> None:
    """The rows are DynamoDB's to find: its answers, of 1 MB each, are made by the test."""
    _, made = asked(function, "POST", "/ffmpeg/batches", wanted(ten_thousand()))
    batch_id = made["batch_id"]
    pages = batch_index.answers(batch_id, MOST_TASKS, like=task_in(Status.COMPLETED, batch_id=batch_id))
    faults.on("Query", *pages)
    faults.calls.clear()

    shown = show(function, batch_id)

    assert (shown["status"], shown["counts"]["completed"], shown["percent"]) == ("completed", MOST_TASKS, 100)
    assert (len(shown["converted"]), len(shown["log"])) == (100, 100)
    assert faults.calls == {
        f"/{moto_server.BUCKET}/{services.manifest_key(batches.get_batch(services, batch_id))}": 1,
        "GetItem": 1,
        "Query": len(pages),
    }
    assert len(pages) == 2
