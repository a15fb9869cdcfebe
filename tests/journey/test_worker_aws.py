"""The whole path in the shape of AWS: Lambda events in, AWS Batch's job out, and the worker run as that job.

moto's server plays DynamoDB, S3 and AWS Batch over real HTTP. The job is not run by moto: the test reads the job that
was submitted, and runs its command with its environment, as an instance would.
"""

import hashlib
import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from support import containment, footage, lambda_process, moto_server
from support.lambda_process import LambdaProcess
from support.moto_server import Moto
from support.source_server import MEDIA, SourceServer, serving
from support.submitted import EVENTS, call, executed, job_of, run, start

CLIP = "bigbuckbunny.mp4"
TRANSCODE = "-i in.mp4 -vf scale=-2:240 -c:v libx264 -preset ultrafast -c:a aac -ac 2 out.mp4"
AT_200 = "-i in.mp4 -vf fps=200 -c:v libx264 -preset ultrafast out.mp4"


@pytest.fixture(scope="module")
def source() -> Iterator[SourceServer]:
    with serving() as server:
        yield server


@pytest.fixture
def function(aws: Moto, tmp_path: Path) -> Iterator[LambdaProcess]:
    with lambda_process.started({**aws.env, **moto_server.SETTINGS}, tmp_path) as started:
        yield started


def test_url_to_s3_through_lambda_and_batch(
    aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    # given a task that was registered and executed through the Lambda function
    task_id = executed(function, TRANSCODE, {"in.mp4": f"{source.url}/media/{CLIP}?token=hunter2"}, "out.mp4")

    # when the job that this submitted is run
    assert run(job_of(task_id), aws, tmp_path) == 0

    # then status has the S3 URL, and behind it is the video
    task = call(function, "status", task_id=task_id)
    assert (task["status"], task["attempt"], task["progress"]["percent"]) == ("completed", 1, 100)
    (output,) = task["outputs"]
    assert output["s3_uri"] == f"s3://{moto_server.BUCKET}/outputs/{task_id}/1/out.mp4"
    body = httpx.get(task["output_url"], trust_env=False, timeout=60).content
    assert (len(body), hashlib.sha256(body).hexdigest()) == (output["size_bytes"], output["sha256"])
    assert probed(body, tmp_path) == [("video", "h264", 426, 240), ("audio", "aac", None, None)]
    head = boto3.client("s3").head_object(Bucket=moto_server.BUCKET, Key=f"outputs/{task_id}/1/out.mp4")
    assert (head["ContentType"], head["Metadata"]["sha256"]) == ("video/mp4", output["sha256"])
    assert leftovers(tmp_path) == []
    # and the query, which may be a signature, stands in neither log
    assert "hunter2" not in (tmp_path / "worker.log").read_text() + function.log_file.read_text()
    records = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines()]
    assert {(record["task_id"], record["correlation_id"]) for record in records} == {(task_id, "order-4711-register")}


def probed(body: bytes, folder: Path) -> list[tuple[str, str, int | None, int | None]]:
    task = containment.made(folder / "seen")
    path = task.inputs / "fetched.mp4"
    path.write_bytes(body)
    with containment.prober(task) as examine:
        found = examine(path, path.name)
    shutil.rmtree(task.root)
    assert found.media
    return [(stream.type, stream.codec, stream.width, stream.height) for stream in found.media.streams]


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name in ("in", "out", "tmp")]


def test_second_job_for_the_same_task_ends_at_once(
    aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    task_id = executed(function, TRANSCODE, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4")
    job = job_of(task_id)
    assert run(job, aws, tmp_path) == 0
    before = call(function, "status", task_id=task_id)

    assert run(job, aws, tmp_path) == 0

    after = call(function, "status", task_id=task_id)
    assert without_links(after) == without_links(before)


def without_links(task: dict[str, Any]) -> dict[str, Any]:
    outputs = [{**output, "url": None} for output in task["outputs"]]
    return {**task, "outputs": outputs, "output_url": None}


def test_failure_is_recorded_and_exits_with_success(
    aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    task_id = executed(function, TRANSCODE, {"in.mp4": f"{source.url}/status/404"}, "out.mp4")

    # a job that is run again would not help: AWS Batch must not retry it
    assert run(job_of(task_id), aws, tmp_path) == 0

    task = call(function, "status", task_id=task_id)
    assert (task["status"], task["error"]) == (
        "failed",
        {
            "code": "DOWNLOAD_FAILED",
            "message": "The source of in.mp4 answered 404 (Not Found).",
            "retryable": False,
            "details": {"input": "in.mp4", "http_status": 404},
        },
    )


def test_reclaimed_instance_returns_the_task_for_the_next_attempt(
    aws: Moto, function: LambdaProcess, tmp_path: Path
) -> None:
    # given a source whose transcoding takes many minutes of any machine: a frame each 4 s for nine hours
    media = tmp_path / "media"
    media.mkdir()
    footage.run("-f", "lavfi", "-i", "color=r=1/4:d=8:s=320x180", str(media / "short.mp4"))
    footage.run("-stream_loop", "4000", "-i", str(media / "short.mp4"), "-c", "copy", str(media / "in.mp4"))
    with serving(media) as source:
        task_id = executed(function, AT_200, {"in.mp4": f"{source.url}/media/in.mp4"}, "out.mp4")
        job = job_of(task_id)
        worker = start(job, aws, tmp_path)
        try:
            deadline = time.monotonic() + 120
            while call(function, "status", task_id=task_id)["stage"] != "transcoding":
                assert time.monotonic() < deadline
                time.sleep(0.05)

            # when the container is told to stop, as before a Spot reclaim
            worker.send_signal(signal.SIGTERM)

            # then it gives the task back and exits with the code that AWS Batch retries
            assert worker.wait(60) == 75
        finally:
            worker.kill()
            worker.wait()
        assert call(function, "status", task_id=task_id)["status"] == "queued"
        assert leftovers(tmp_path) == []

        # and the next attempt, of a source that is shorter by now, completes it
        (media / "short.mp4").replace(media / "in.mp4")
        assert run(job, aws, tmp_path) == 0
    task = call(function, "status", task_id=task_id)
    assert (task["status"], task["attempt"]) == ("completed", 2)


def test_playlist_goes_to_s3_with_its_segments(
    aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    command = "-i in.mp4 -c copy -f hls -hls_time 1 out.m3u8"
    task_id = executed(function, command, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.m3u8")
    assert run(job_of(task_id), aws, tmp_path) == 0

    objects = boto3.client("s3").list_objects_v2(Bucket=moto_server.BUCKET, Prefix=f"outputs/{task_id}/")["Contents"]
    names = {item["Key"].rpartition("/")[2]: item["LastModified"] for item in objects}
    task = call(function, "status", task_id=task_id)
    assert task["output_url"].partition("?")[0].endswith("/out.m3u8")
    assert set(names) == {output["filename"] for output in task["outputs"]}
    assert len(names) == task["output_count"] >= 2
    assert names["out.m3u8"] == max(names.values())


def test_memory_of_the_worker_is_bounded_whatever_the_size(aws: Moto, function: LambdaProcess, tmp_path: Path) -> None:
    # given a source much larger than the worker may be
    media = tmp_path / "media"
    media.mkdir()
    silence = ["-f", "lavfi", "-i", "anullsrc=r=192000:cl=stereo", "-t", "330", "-c:a", "pcm_s16le"]
    footage.run(*silence, str(media / "large.wav"))
    assert (media / "large.wav").stat().st_size > 250_000_000

    with serving(media) as source:
        task_id = executed(
            function, "-i in.wav -c copy out.wav", {"in.wav": f"{source.url}/large/large.wav"}, "out.wav"
        )
        worker = start(job_of(task_id), aws, tmp_path)
        peak = 0
        while worker.poll() is None:
            peak = max(peak, peak_memory_bytes(worker.pid))
            time.sleep(0.02)

    assert call(function, "status", task_id=task_id)["status"] == "completed"
    assert 0 < peak < 150_000_000


def peak_memory_bytes(pid: int) -> int:
    """The most that the process has had resident so far; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


@pytest.mark.parametrize("missing", ["TASK_ID", "TASK_TABLE"])
def test_worker_that_is_misconfigured_says_so(aws: Moto, tmp_path: Path, missing: str) -> None:
    settings = {**moto_server.SETTINGS, "TASK_ID": "x"}
    del settings[missing]
    environment = [{"name": name, "value": value} for name, value in settings.items()]
    job = {"container": {"command": list(moto_server.COMMAND), "environment": environment}}

    assert run(job, aws, tmp_path) == 78
    assert missing in (tmp_path / "worker.log").read_text()


def test_worker_without_its_table_asks_to_be_tried_again(aws: Moto, tmp_path: Path) -> None:
    boto3.client("dynamodb").delete_table(TableName=moto_server.TABLE)
    environment = [{"name": name, "value": value} for name, value in {**moto_server.SETTINGS, "TASK_ID": "x"}.items()]

    assert run({"container": {"command": list(moto_server.COMMAND), "environment": environment}}, aws, tmp_path) == 75


INPUTS = "inputs-bucket"


@pytest.fixture
def reader(aws: Moto, tmp_path: Path) -> Iterator[LambdaProcess]:
    """The function of a service that reads one bucket."""
    boto3.client("s3").create_bucket(
        Bucket=INPUTS, CreateBucketConfiguration={"LocationConstraint": moto_server.REGION}
    )
    with lambda_process.started({**aws.env, **moto_server.SETTINGS, "INPUT_BUCKETS": INPUTS}, tmp_path) as started:
        yield started


def run_reading(task_id: str, aws: Moto, folder: Path, **settings: str) -> int:
    job = job_of(task_id)
    more = {"INPUT_BUCKETS": INPUTS, **settings}
    job["container"]["environment"] += [{"name": name, "value": value} for name, value in more.items()]
    return run(job, aws, folder)


def test_object_of_a_listed_bucket_is_an_input(aws: Moto, reader: LambdaProcess, tmp_path: Path) -> None:
    boto3.client("s3").upload_file(str(MEDIA / CLIP), INPUTS, "2026/my clip?.mp4")
    task_id = executed(reader, "-i in.mp4 -c copy out.mp4", {"in.mp4": f"s3://{INPUTS}/2026/my clip?.mp4"}, "out.mp4")

    assert run_reading(task_id, aws, tmp_path) == 0

    task = call(reader, "status", task_id=task_id)
    assert (task["status"], task["error"]) == ("completed", None)
    body = httpx.get(task["output_url"], trust_env=False, timeout=60).content
    assert probed(body, tmp_path) == [("video", "h264", 1280, 720), ("audio", "aac", None, None)]


def test_object_that_is_missing_or_too_large_fails_the_task(aws: Moto, reader: LambdaProcess, tmp_path: Path) -> None:
    boto3.client("s3").put_object(Bucket=INPUTS, Key="large.mp4", Body=b"x" * 2000)
    errors = {}
    for key in ("missing.mp4", "large.mp4"):
        task_id = executed(reader, TRANSCODE, {"in.mp4": f"s3://{INPUTS}/{key}"}, "out.mp4")
        assert run_reading(task_id, aws, tmp_path, MAX_INPUT_BYTES="1000") == 0
        errors[key] = call(reader, "status", task_id=task_id)["error"]

    assert (errors["missing.mp4"]["code"], errors["missing.mp4"]["retryable"]) == ("DOWNLOAD_FAILED", False)
    assert "is not there, or the worker's role may not read it" in errors["missing.mp4"]["message"]
    assert errors["large.mp4"] == {
        "code": "SOURCE_TOO_LARGE",
        "message": "The source of in.mp4 is larger than the 1000 bytes that are taken.",
        "retryable": False,
        "details": {"input": "in.mp4", "max_bytes": 1000},
    }


def test_worker_reads_no_bucket_that_is_no_longer_listed(aws: Moto, reader: LambdaProcess, tmp_path: Path) -> None:
    boto3.client("s3").upload_file(str(MEDIA / CLIP), INPUTS, "a.mp4")
    task_id = executed(reader, TRANSCODE, {"in.mp4": f"s3://{INPUTS}/a.mp4"}, "out.mp4")

    assert run_reading(task_id, aws, tmp_path, INPUT_BUCKETS="") == 0

    error = call(reader, "status", task_id=task_id)["error"]
    assert error["message"] == "The source of in.mp4 is in a bucket that is not open to this service."


def test_bucket_that_is_not_listed_is_refused_at_register(function: LambdaProcess) -> None:
    body = {"command": TRANSCODE, "input_files": {"in.mp4": f"s3://{INPUTS}/a.mp4"}, "output_filename": "out.mp4"}
    event = json.loads((EVENTS / "register.json").read_text())

    answer = function.invoke(event | {"body": json.dumps(body), "isBase64Encoded": False})

    error = json.loads(answer["body"])["error"]
    assert (answer["statusCode"], error["code"]) == (400, "URL_NOT_ALLOWED")
    assert "INPUT_BUCKETS" in error["message"]


def test_worker_judges_the_stored_url_again(
    aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    task_id = executed(function, TRANSCODE, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4")

    assert run_reading(task_id, aws, tmp_path, ALLOW_PRIVATE_NETWORKS="") == 0

    error = call(function, "status", task_id=task_id)["error"]
    assert (error["code"], error["message"]) == (
        "DOWNLOAD_FAILED",
        "The source of in.mp4 has a URL that is not allowed.",
    )
