"""The whole template, deployed by an emulator's CloudFormation with its own SAM transform, and then used over HTTP.

What this emulator's CloudFormation lacks is AWS Batch and the routes of an HTTP API that come as an OpenAPI document.
The first is left out of the template and made through AWS Batch's API from the same properties, the second is added.
It keeps no lifecycle of a bucket and no TTL of a table from a template, and does not check permissions; tests/infra
looks at those. Run by `make emulator`, which installs it.
"""

import base64
import http.client
import io
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest

from support.lambda_process import ROOT
from support.template import ACCOUNT, FILE, NAME, REGION, Stack, as_requested, load

EMULATOR = os.environ.get("EMULATOR", "")
pytestmark = pytest.mark.skipif(not EMULATOR, reason="EMULATOR names no emulator; `make emulator` installs one")

LACKING = ("AWS::Batch::",)
PROVIDED = ("boto3", "botocore", "s3transfer")  # by the emulator's environment, as by Lambda's runtime
PARAMETERS = {"WorkerImage": "worker:1", "EventBus": "default", "InputBuckets": "media", "InputDeletion": "allowed"}
STACK = Stack(PARAMETERS)


def package() -> bytes:
    """What `sam build` packs, without leaving anything out: the sources and the packages that they need."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted((ROOT / "src").rglob("*.py")):
            archive.write(file, file.relative_to(ROOT / "src"))
        for name in re.findall(r"^([\w.-]+)==", (ROOT / "src" / "requirements.txt").read_text(), re.MULTILINE):
            for part in () if name in PROVIDED else metadata.distribution(name).files or ():
                if part.parts[0] != ".." and "__pycache__" not in part.parts:
                    archive.write(str(part.locate()), str(part))
    return packed.getvalue()


def deployable() -> str:
    """The template as text, with the package's place and without what the emulator's CloudFormation lacks."""
    dropped = [name for name, it in load()["Resources"].items() if it["Type"].startswith(LACKING)]
    text = FILE.read_text().replace("CodeUri: ../src", "CodeUri: s3://code/package.zip")
    for name in dropped:
        text = re.sub(rf"^  {name}:\n(?:(?:    .*)?\n)+", "", text, flags=re.MULTILINE)
    return text


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("emulator")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    own = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "LOG_LEVEL": "WARNING",
        "TMPDIR": str(folder),
        "PATH": os.environ["PATH"],
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([Path(EMULATOR).absolute()], env=own, cwd=folder, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            wait(lambda: answers(address), seconds=60)
            with mock.patch.dict(os.environ, {**own, "AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": REGION}):
                yield address
        finally:
            server.terminate()
            server.wait(30)


def wait(done: Callable[[], Any], *, seconds: float) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := done():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/_ministack/health", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def stack(url: str) -> Mapping[str, str]:
    """The deployed stack: each resource's name by its name in the template, the outputs among them as `out:NAME`."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="code", Key="package.zip", Body=package())
    template = re.sub(r"^  (?:Gpu|Cpu)Queue:\n    Value: .*\n", "", deployable(), flags=re.MULTILINE)
    s3.put_object(Bucket="code", Key="template.yaml", Body=template.encode())  # as sam does: it is too large for a call
    formation = boto3.client("cloudformation")
    formation.create_stack(
        StackName=NAME,
        TemplateURL=f"{url}/code/template.yaml",
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in PARAMETERS.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )

    def ended() -> Any:
        (found,) = formation.describe_stacks(StackName=NAME)["Stacks"]
        return not found["StackStatus"].endswith("IN_PROGRESS") and found

    done = wait(ended, seconds=60)
    events = formation.describe_stack_events(StackName=NAME)["StackEvents"]
    failed = [(it["LogicalResourceId"], it["ResourceStatus"]) for it in events if "FAILED" in it["ResourceStatus"]]
    assert (done["StackStatus"], failed) == ("CREATE_COMPLETE", [])
    names = {
        it["LogicalResourceId"]: it["PhysicalResourceId"]
        for it in formation.describe_stack_resources(StackName=NAME)["StackResources"]
    }
    create_batch()
    return names


def create_batch() -> None:
    """What is left out of the template, by AWS Batch's API, whose model checks each property's name and kind."""
    batch = boto3.client("batch")
    for kind in ("Gpu", "Cpu"):
        for name in (f"{kind}Spot", f"{kind}OnDemand"):
            wanted = as_requested(STACK.properties(name))
            kept = {part: wanted[part] for part in ("type", "computeResources")}
            kept["computeResources"].pop("updateToLatestImageVersion")  # of updates only
            batch.create_compute_environment(computeEnvironmentName=name, state="ENABLED", **kept)
        queue = as_requested(STACK.properties(f"{kind}Queue"))
        for place in queue["computeEnvironmentOrder"]:
            place["computeEnvironment"] = place["computeEnvironment"].strip("<>")
        batch.create_job_queue(state="ENABLED", **queue)
        batch.register_job_definition(**as_requested(STACK.properties(f"{kind}Job")))


@pytest.fixture(scope="module")
def call(url: str, stack: Mapping[str, str]) -> Callable[..., tuple[int, Any]]:
    """Requests through the HTTP API; the route that the emulator did not take from the template is added."""
    gateway = boto3.client("apigatewayv2")
    (api,) = gateway.get_apis()["Items"]
    function = boto3.client("lambda").get_function_configuration(FunctionName=stack["ApiFunction"])["FunctionArn"]
    integration = gateway.create_integration(
        ApiId=api["ApiId"], IntegrationType="AWS_PROXY", IntegrationUri=function, PayloadFormatVersion="2.0"
    )
    gateway.create_route(ApiId=api["ApiId"], RouteKey="$default", Target=f"integrations/{integration['IntegrationId']}")

    def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        headers = {"Host": f"{api['ApiId']}.execute-api.localhost", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    return call


WANTED = {
    "command": "-i input.mp4 -c:v libx264 out.mp4",
    "input_files": {"input.mp4": "https://media.example.com/a.mp4"},
    "output_filename": "out.mp4",
}


def test_everything_but_aws_batch_is_created(stack: Mapping[str, str]) -> None:
    wanted = {
        name for name, it in load()["Resources"].items() if STACK.exists(name) and not it["Type"].startswith(LACKING)
    }
    assert wanted - stack.keys() == set()
    made = stack.keys() - wanted  # what SAM made of the functions
    assert made >= {"ApiFunctionRole", "SweepFunctionRole", "EventsFunctionRole", "SweepFunctionEveryMinute"}


def test_the_table_and_the_bucket_are_as_the_template_says(stack: Mapping[str, str]) -> None:
    dynamodb, s3 = boto3.client("dynamodb"), boto3.client("s3")
    table = dynamodb.describe_table(TableName=stack["TaskTable"])["Table"]
    assert table["KeySchema"] == [{"AttributeName": "task_id", "KeyType": "HASH"}]
    names = [index["IndexName"] for index in table["GlobalSecondaryIndexes"]]
    assert names == ["due", "live", "listed", "states", "batched"]
    policy = json.loads(s3.get_bucket_policy(Bucket=stack["OutputBucket"])["Policy"])
    assert [statement["Sid"] for statement in policy["Statement"]] == ["TlsOnly"]


@pytest.mark.parametrize("name", ["ApiFunction", "SweepFunction", "EventsFunction"])
def test_the_functions_have_what_they_need(stack: Mapping[str, str], name: str) -> None:
    function = boto3.client("lambda").get_function_configuration(FunctionName=stack[name])
    variables = function["Environment"]["Variables"]
    expected = STACK.variables(name) | {"TASK_TABLE": stack["TaskTable"], "OUTPUT_BUCKET": stack["OutputBucket"]}
    assert {key: value for key, value in variables.items() if value} == {k: v for k, v in expected.items() if v}
    assert function["Architectures"] == ["arm64"]
    assert function["Timeout"] == STACK.properties(name)["Timeout"]


def test_the_rules_and_the_schedule_lead_to_the_functions(stack: Mapping[str, str]) -> None:
    events = boto3.client("events")
    for rule in events.list_rules()["Rules"]:
        (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        assert target["Arn"].endswith(f":function:{stack['EventsFunction']}")
        assert json.loads(rule["EventPattern"])["detail"]["jobQueue"] == [
            f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{NAME}-{kind}" for kind in ("gpu", "cpu")
        ]
    assert len(events.list_rules()["Rules"]) == 2
    schedule = boto3.client("scheduler").get_schedule(Name=f"{NAME}-sweep")
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert schedule["Target"]["Arn"].endswith(f":function:{stack['SweepFunction']}")


def test_the_deployed_api_is_healthy(call: Callable[..., tuple[int, Any]]) -> None:
    status, health = call("GET", "/ffmpeg/health")
    assert (status, health["status"]) == (200, "healthy")
    assert {name: check["ready"] for name, check in health["checks"].items()} == {
        "task_store": True,
        "object_store": True,
        "dispatcher": True,
    }


@pytest.mark.parametrize(("encoder", "kind"), [("libx264", "cpu"), ("h264_nvenc", "gpu")])
def test_a_task_is_registered_and_executed_in_the_queue_that_it_needs(
    call: Callable[..., tuple[int, Any]], encoder: str, kind: str
) -> None:
    wanted = {**WANTED, "command": f"-i input.mp4 -c:v {encoder} out.mp4"}
    status, task = call("POST", "/ffmpeg/register", wanted)
    assert (status, task["status"]) == (201, "pending")
    status, task = call("POST", f"/ffmpeg/execute/{task['task_id']}")
    assert (status, task["status"]) == (202, "queued")
    status, task = call("GET", f"/ffmpeg/status/{task['task_id']}")
    assert (status, task["status"]) == (200, "queued")

    batch = boto3.client("batch")
    listed = [
        job["jobName"]
        for state in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
        for job in batch.list_jobs(jobQueue=f"{NAME}-{kind}", jobStatus=state)["jobSummaryList"]
    ]
    assert f"task-{task['task_id']}" in listed


def test_a_batch_is_registered_as_one_array_job(call: Callable[..., tuple[int, Any]]) -> None:
    urls = [f"https://media.example.com/{number}.mp4" for number in range(200)]
    wanted = {"inputs": urls, "command": "-i {name} -c:v libx264 {stem}.mkv", "output_filename": "{stem}.mkv"}
    status, made = call("POST", "/ffmpeg/batches", wanted)
    assert (status, made["status"]) == (202, "queued")
    status, shown = call("GET", f"/ffmpeg/batches/{made['batch_id']}")
    assert (status, shown["counts"]["queued"]) == (200, 200)

    batch = boto3.client("batch")
    listed = [
        job["jobName"]
        for state in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
        for job in batch.list_jobs(jobQueue=f"{NAME}-cpu", jobStatus=state)["jobSummaryList"]
    ]
    assert f"batch-{made['batch_id']}" in listed


def test_an_unknown_path_is_the_applications_404(call: Callable[..., tuple[int, Any]]) -> None:
    status, answer = call("GET", "/nowhere")
    assert (status, answer["error"]["code"]) == (404, "NOT_FOUND")


def test_the_deployed_sweep_sweeps(call: Callable[..., tuple[int, Any]], stack: Mapping[str, str]) -> None:
    event = (ROOT / "events" / "sweep.json").read_bytes()
    answer = boto3.client("lambda").invoke(FunctionName=stack["SweepFunction"], Payload=event)
    swept = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer
    assert swept.keys() >= {"LiveTasksMoved", "EndedTasksMoved", "OldestDueSeconds", "WaitingJobs"}


def test_an_event_of_aws_batch_passes_a_deployed_rule_and_is_handled(
    call: Callable[..., tuple[int, Any]], stack: Mapping[str, str]
) -> None:
    """In two steps: nobody may send an event in the name of AWS Batch, neither on AWS nor here."""
    _, task = call("POST", "/ffmpeg/register?execute=true", WANTED)
    event = json.loads((ROOT / "events" / "job_failed.json").read_text())
    event["detail"] |= {
        "jobName": f"task-{task['task_id']}",
        "jobQueue": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{NAME}-cpu",
    }
    events = boto3.client("events")
    patterns = [rule["EventPattern"] for rule in events.list_rules()["Rules"]]
    passed = [events.test_event_pattern(EventPattern=it, Event=json.dumps(event))["Result"] for it in patterns]
    assert sorted(passed) == [False, True]

    answer = boto3.client("lambda").invoke(
        FunctionName=stack["EventsFunction"], Payload=json.dumps(event).encode(), LogType="Tail"
    )
    assert "FunctionError" not in answer
    assert f'"task_id":"{task["task_id"]}"' in base64.b64decode(answer["LogResult"]).decode()
