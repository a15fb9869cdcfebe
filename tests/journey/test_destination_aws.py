"""A destination on AWS: Lambda events in, AWS Batch's job run as it was submitted, and two buckets."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from support import lambda_process, moto_server
from support.lambda_process import LambdaProcess
from support.moto_server import BUCKET, Moto
from support.source_server import SourceServer, serving
from support.submitted import EVENTS, PLACEHOLDER, call, job_of

PARTNER = "partner-bucket"
LISTED = {"DESTINATIONS": f"{PARTNER}/incoming"}
SHOW = {"bucket": PARTNER, "prefix": "incoming/shows/42"}
TRANSCODE = "-i in.mp4 -t 1 -vf scale=-2:120 -c:v libx264 -preset ultrafast -an out.mp4"


@pytest.fixture(scope="module")
def source() -> Iterator[SourceServer]:
    with serving() as server:
        yield server


@pytest.fixture
def function(aws: Moto, tmp_path: Path) -> Iterator[LambdaProcess]:
    place: Any = {"LocationConstraint": moto_server.REGION}
    boto3.client("s3").create_bucket(Bucket=PARTNER, CreateBucketConfiguration=place)
    with lambda_process.started({**aws.env, **moto_server.SETTINGS, **LISTED}, tmp_path) as started:
        yield started


def executed(function: LambdaProcess, source: SourceServer) -> str:
    inputs = {"in.mp4": f"{source.url}/media/bigbuckbunny.mp4"}
    body = {"command": TRANSCODE, "input_files": inputs, "output_filename": "out.mp4", "destination": SHOW}
    task_id: str = call(function, "register", body=body)["task_id"]
    call(function, "execute", task_id=task_id)
    return task_id


def run(task_id: str, aws: Moto, folder: Path, **settings: str) -> int:
    """The task's job, with settings besides those that moto's job definition has."""
    container = job_of(task_id)["container"]
    own = {pair["name"]: pair["value"] for pair in container["environment"]}
    image = {"PATH": os.environ["PATH"], "PYTHONPATH": str(lambda_process.ROOT / "src")}
    program = [sys.executable, *container["command"][1:]]
    with (folder / "worker.log").open("ab") as log:
        return subprocess.run(
            program, env={**image, **aws.env, **own, **settings}, cwd=folder, stderr=log, stdout=log, timeout=120
        ).returncode


def keys(bucket: str) -> list[str]:
    return [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_outputs_go_to_the_callers_bucket_and_the_log_to_ours(
    aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    task_id = executed(function, source)
    key = f"incoming/shows/42/{task_id}/1/out.mp4"

    assert run(task_id, aws, tmp_path, **LISTED) == 0

    task = call(function, "status", task_id=task_id)
    assert (task["status"], task["destination"], task["expires_at"]) == ("completed", SHOW, None)
    assert (keys(PARTNER), keys(BUCKET)) == ([key], [f"outputs/logs/{task_id}/1.log"])
    (output,) = task["outputs"]
    assert output["s3_uri"] == f"s3://{PARTNER}/{key}"
    assert len(httpx.get(task["output_url"], trust_env=False, timeout=60).content) == output["size_bytes"]

    # and they go when the caller deletes the task
    event = json.loads((EVENTS / "delete.json").read_text().replace(PLACEHOLDER, task_id))
    assert function.invoke(event)["statusCode"] == 204
    assert (keys(PARTNER), keys(BUCKET)) == ([], [])


def test_a_worker_for_which_the_destination_is_not_listed_stores_nothing(
    aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    task_id = executed(function, source)

    # a job definition from before, say; what is recorded is no reason for AWS Batch to try again
    assert run(task_id, aws, tmp_path, DESTINATIONS=f"{PARTNER}/outgoing") == 0

    task = call(function, "status", task_id=task_id)
    assert (task["status"], task["attempt"], task["error"]) == (
        "failed",
        1,
        {
            "code": "UPLOAD_FAILED",
            "message": "The outputs cannot be stored: destination.prefix must be outgoing, or begin with that and a "
            "slash.",
            "retryable": False,
            "details": {"field": "destination.prefix", "allowed": ["outgoing"]},
        },
    )
    assert (keys(PARTNER), keys(BUCKET)) == ([], [])


def test_a_bucket_that_is_not_there_fails_the_task_and_says_so(
    aws: Moto, function: LambdaProcess, source: SourceServer, tmp_path: Path
) -> None:
    task_id = executed(function, source)
    boto3.client("s3").delete_bucket(Bucket=PARTNER)

    assert run(task_id, aws, tmp_path, **LISTED) == 0

    task = call(function, "status", task_id=task_id)
    (attempt,) = task["attempts"]
    assert (task["status"], attempt["code"]) == ("queued", "UPLOAD_FAILED")  # it may be back at the next try
    assert "out.mp4 could not be stored" in attempt["message"]
