"""The journey on AWS with the worker inside the image: the job that was submitted says how the container is started.

The API is the Lambda function, moto's server plays DynamoDB, S3 and AWS Batch; what would be an instance is runc.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from support import image, lambda_process, moto_server
from support.image import Container, Image
from support.lambda_process import LambdaProcess
from support.moto_server import Moto
from support.source_server import SourceServer, serving
from support.submitted import call, executed, job_of

CLIP = "bigbuckbunny.mp4"
TRANSCODE = "-i in.mp4 -vf scale=-2:240 -c:v libx264 -preset ultrafast -c:a aac -ac 2 out.mp4"
LONG = "-i in.mp4 -c:v libx264 -preset slow -c:a copy out.mp4"


@pytest.fixture(scope="module")
def source() -> Iterator[SourceServer]:
    with serving() as server:
        yield server


@pytest.fixture
def function(aws: Moto, tmp_path: Path) -> Iterator[LambdaProcess]:
    with lambda_process.started({**aws.env, **moto_server.SETTINGS}, tmp_path) as started:
        yield started


def started(
    worker: Image, job: Mapping[str, Any], aws: Moto, folder: Path, **more: str
) -> AbstractContextManager[Container]:
    """A container as the job wants it: its command, its environment, and what an instance's role gives."""
    container = job["container"]
    own = {pair["name"]: pair["value"] for pair in container["environment"]}
    return image.started(worker, folder, env={**aws.env, **own, **more}, command=container["command"])


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "work").iterdir())


def wait_for_stage(function: LambdaProcess, task_id: str, stage: str) -> None:
    deadline = time.monotonic() + 60
    while (task := call(function, "status", task_id=task_id))["stage"] != stage:
        assert task["status"] in ("queued", "running"), task
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_url_to_s3_with_the_worker_in_the_image(
    worker: Image, aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    # given a task that was registered and executed through the Lambda function
    task_id = executed(function, TRANSCODE, {"in.mp4": f"{source.url}/media/{CLIP}?token=hunter2"}, "out.mp4")

    # when the container of the job that this submitted is run
    with started(worker, job_of(task_id), aws, tmp_path) as container:
        assert container.wait(120) == 0, container.said()

    # then status has the S3 URL, and behind it is the video
    task = call(function, "status", task_id=task_id)
    assert (task["status"], task["attempt"], task["progress"]["percent"]) == ("completed", 1, 100)
    (output,) = task["outputs"]
    assert output["s3_uri"] == f"s3://{moto_server.BUCKET}/outputs/{task_id}/1/out.mp4"
    body = httpx.get(task["output_url"], trust_env=False).content
    assert (len(body), hashlib.sha256(body).hexdigest()) == (output["size_bytes"], output["sha256"])
    assert [(stream["codec"], stream["height"]) for stream in output["media"]["streams"]] == [
        ("h264", 240),
        ("aac", None),
    ]
    head = boto3.client("s3").head_object(Bucket=moto_server.BUCKET, Key=f"outputs/{task_id}/1/out.mp4")
    assert head["Metadata"]["sha256"] == output["sha256"]
    # and nothing is left in the work folder, nor the query in the log, each line of which is JSON
    assert leftovers(tmp_path) == []
    records = [json.loads(line) for line in container.said().splitlines()]
    assert {record["task_id"] for record in records} == {task_id}
    assert "hunter2" not in container.said()
    # and ffmpeg was contained, inside the container too
    assert any(record["message"].startswith("strict: landlock") for record in records)


def test_command_of_the_image_is_the_worker(
    worker: Image, aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    # a job definition need not repeat the command
    task_id = executed(function, TRANSCODE, {"in.mp4": f"{source.url}/status/404"}, "out.mp4")
    job = job_of(task_id)
    job["container"]["command"] = None

    with started(worker, job, aws, tmp_path) as container:
        assert container.wait(60) == 0

    error = call(function, "status", task_id=task_id)["error"]
    assert (error["code"], error["details"]) == ("DOWNLOAD_FAILED", {"input": "in.mp4", "http_status": 404})


def test_process_one_returns_the_task_when_it_is_told_to_stop(
    worker: Image, aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    task_id = executed(function, LONG, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4")
    job = job_of(task_id)
    with started(worker, job, aws, tmp_path) as container:
        wait_for_stage(function, task_id, "transcoding")
        inside = container.processes()

        # when process 1 gets what `docker stop`, or the end of a Spot instance, sends it
        container.process.send_signal(signal.SIGTERM)

        # then it gives the task back, exits with the code that AWS Batch retries, and leaves nothing behind
        assert container.wait(25) == 75, container.said()
    assert len(inside) >= 2
    assert [pid for pid in inside if Path(f"/proc/{pid}").exists()] == []
    assert call(function, "status", task_id=task_id)["status"] == "queued"
    assert leftovers(tmp_path) == []
    # and the next attempt of the same job completes it
    with started(worker, job, aws, tmp_path) as container:
        assert container.wait(120) == 0, container.said()
    task = call(function, "status", task_id=task_id)
    assert (task["status"], task["attempt"]) == ("completed", 2)


def test_worker_as_process_one_leaves_no_zombies(
    worker: Image, aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    task_id = executed(function, LONG, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4")
    with started(worker, job_of(task_id), aws, tmp_path) as container:
        wait_for_stage(function, task_id, "transcoding")
        seen = []
        for _ in range(20):
            seen.append(container.processes().values())
            time.sleep(0.05)

    assert [states for states in seen if "Z" in states] == []
    # the worker, its prober, that one's child for this task, and ffmpeg: the canary was collected
    assert max(map(len, seen)) == 4


@pytest.mark.parametrize("missing", ["TASK_ID", "TASK_TABLE"])
def test_misconfigured_container_says_so(worker: Image, aws: Moto, tmp_path: Path, missing: str) -> None:
    settings = {**moto_server.SETTINGS, "TASK_ID": "x"}
    del settings[missing]

    with image.started(worker, tmp_path, env={**aws.env, **settings}) as container:
        assert container.wait(30) == 78

    assert missing in container.said()


def test_container_whose_work_folder_is_not_writable_says_so(
    worker: Image, aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    # given a volume of the instance's that nobody made over to the image's user
    task_id = executed(function, TRANSCODE, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4")
    (tmp_path / "work").mkdir()
    os.chown(tmp_path / "work", 0, 0)

    with started(worker, job_of(task_id), aws, tmp_path) as container:
        code = container.wait(30)

    assert code == 78, (code, container.said())
    assert "SCRATCH_DIR" in container.said()
    assert call(function, "status", task_id=task_id)["status"] == "queued"
