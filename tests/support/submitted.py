"""Through the Lambda function to the job that AWS Batch was given, and its run: what journeys on AWS begin with."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3

from support import lambda_process, moto_server
from support.lambda_process import LambdaProcess
from support.moto_server import Moto

EVENTS = lambda_process.ROOT / "events"
PLACEHOLDER = "00000000-0000-4000-8000-000000000000"  # what stands for a task in the sample events


def call(function: LambdaProcess, name: str, *, task_id: str = PLACEHOLDER, body: Any = None) -> dict[str, Any]:
    """What the function answers to the event of that name."""
    event = json.loads((EVENTS / f"{name}.json").read_text().replace(PLACEHOLDER, task_id))
    if body is not None:
        event |= {"body": json.dumps(body), "isBase64Encoded": False}
    answer = function.invoke(event)
    assert answer["statusCode"] < 300, answer
    answered: dict[str, Any] = json.loads(answer["body"])
    return answered


def asked(function: LambdaProcess, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and the answer to a request for which there is no sample event."""
    event = json.loads((EVENTS / "register.json").read_text())
    path, _, query = path.partition("?")
    event["requestContext"]["http"] |= {"method": method, "path": path}
    event["headers"].pop("content-length")
    event |= {"rawPath": path, "rawQueryString": query, "body": None if body is None else json.dumps(body)}
    answer = function.invoke(event)
    return answer["statusCode"], json.loads(answer["body"])


def executed(function: LambdaProcess, command: str, inputs: Mapping[str, str], output: str) -> str:
    """The id of a task that was registered and executed."""
    body = {"command": command, "input_files": dict(inputs), "output_filename": output}
    task_id: str = call(function, "register", body=body)["task_id"]
    assert call(function, "execute", task_id=task_id)["status"] == "queued"
    return task_id


def job_of(task_id: str) -> dict[str, Any]:
    """The one job that was submitted for the task, as AWS Batch describes it."""
    batch = boto3.client("batch")
    summaries = batch.list_jobs(jobQueue=moto_server.QUEUE, filters=[{"name": "JOB_NAME", "values": ["task-*"]}])
    found = batch.describe_jobs(jobs=[job["jobId"] for job in summaries["jobSummaryList"]])["jobs"]
    (job,) = [dict(job) for job in found if job["jobName"] == f"task-{task_id}"]
    return job


def start(job: Mapping[str, Any], aws: Moto, folder: Path) -> "subprocess.Popen[bytes]":
    """The job's command under exactly its environment, beside what its instance and image give it."""
    container = job["container"]
    program, *arguments = container["command"]
    assert program == "python"
    image = {"PATH": os.environ["PATH"], "PYTHONPATH": str(lambda_process.ROOT / "src")}
    own = {pair["name"]: pair["value"] for pair in container["environment"]}
    with (folder / "worker.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments], env={**image, **aws.env, **own}, cwd=folder, stderr=log, stdout=log
        )


def run(job: Mapping[str, Any], aws: Moto, folder: Path) -> int:
    return start(job, aws, folder).wait(120)
