"""The Lambda function in a process of its own, on moto's AWS, with the events of events/ as its input."""

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest

from core import moves
from core.aws.object_store import S3ObjectStore
from core.aws.task_store import DynamoTaskStore
from core.task import Failure, FailureCode, Output, Status, Timings
from handlers.web import models
from support import lambda_process, moto_server
from support.doors import an_event
from support.lambda_process import LambdaProcess
from support.moto_server import Moto

EVENTS = lambda_process.ROOT / "events"
PLACEHOLDER = "00000000-0000-4000-8000-000000000000"


def event(name: str, task_id: str = PLACEHOLDER) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text().replace(PLACEHOLDER, task_id))
    return made


@pytest.fixture
def function(aws: Moto, tmp_path: Path) -> Iterator[LambdaProcess]:
    with lambda_process.started({**aws.env, **moto_server.SETTINGS}, tmp_path) as started:
        yield started


def test_from_register_to_the_job_that_will_run_it(function: LambdaProcess) -> None:
    registered = function.invoke(event("register"))
    task = models.Task.model_validate_json(registered["body"])
    assert (registered["statusCode"], task.status) == (201, Status.PENDING)
    assert registered["headers"]["x-correlation-id"] == task.correlation_id == "order-4711-register"
    assert registered["isBase64Encoded"] is False

    key = {"task_id": {"S": task.task_id}}
    item = boto3.client("dynamodb").get_item(TableName=moto_server.TABLE, Key=key)["Item"]
    assert item["status"] == {"S": "pending"}
    assert boto3.client("batch").list_jobs(jobQueue=moto_server.QUEUE)["jobSummaryList"] == []

    executed = function.invoke(event("execute", task.task_id))
    assert (executed["statusCode"], json.loads(executed["body"])["status"]) == (202, "queued")
    stored = DynamoTaskStore(moto_server.TABLE).get(task.task_id)
    (job,) = boto3.client("batch").describe_jobs(jobs=[stored.job_id or ""])["jobs"]
    environment = {pair["name"]: pair["value"] for pair in job["container"]["environment"]}
    assert environment.items() >= {"TASK_ID": task.task_id, "CORRELATION_ID": "order-4711-register"}.items()

    assert function.invoke(event("execute", task.task_id))["statusCode"] == 202
    assert DynamoTaskStore(moto_server.TABLE).get(task.task_id) == stored

    status = function.invoke(event("status", task.task_id))
    assert (status["statusCode"], json.loads(status["body"])["status"]) == (200, "queued")
    assert status["headers"]["retry-after"] == "5"


def test_a_completed_task_has_a_link_that_works(function: LambdaProcess, tmp_path: Path) -> None:
    task_id = json.loads(function.invoke(event("register"))["body"])["task_id"]
    key = f"outputs/{task_id}/1/output.mp4"
    made = tmp_path / "made"
    made.write_bytes(b"video")
    S3ObjectStore(moto_server.BUCKET).put_file(key, made, sha256="ab" * 32, content_type="video/mp4")
    complete(task_id, Output(filename="output.mp4", key=key, size_bytes=5, sha256="ab" * 32))

    answer = function.invoke(event("status", task_id))
    task = models.Task.model_validate_json(answer["body"])
    assert task.status is Status.COMPLETED
    assert task.outputs[0].s3_uri == f"s3://{moto_server.BUCKET}/{key}"
    assert task.output_url == task.outputs[0].url
    assert parse_qs(urlsplit(task.output_url or "").query)["X-Amz-Expires"] == ["3600"]
    assert httpx.get(task.output_url or "", trust_env=False, timeout=60).content == b"video"
    assert "retry-after" not in answer["headers"]


def test_a_registration_sent_twice_with_its_key_makes_one_task(function: LambdaProcess) -> None:
    keyed = with_header(event("register"), "idempotency-key", "order-4711")
    first, again = function.invoke(keyed), function.invoke(keyed)
    assert (first["statusCode"], again["statusCode"]) == (201, 200)
    assert json.loads(first["body"]) == json.loads(again["body"])
    assert first["headers"]["location"] == again["headers"]["location"]
    assert boto3.client("dynamodb").scan(TableName=moto_server.TABLE)["Count"] == 1

    other = function.invoke({**keyed, "body": keyed["body"].replace("-crf 23", "-crf 24")})
    error = json.loads(other["body"])["error"]
    task_id = json.loads(first["body"])["task_id"]
    assert (other["statusCode"], error["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert error["details"] == {"task_id": task_id}
    assert '"order-4711"' not in function.log_file.read_text()


def test_options_and_presets_become_commands(function: LambdaProcess) -> None:
    listed = function.invoke(event("presets"))
    assert listed["statusCode"] == 200
    assert "web-mp4-720p" in {preset["name"] for preset in json.loads(listed["body"])["presets"]}
    for name, quality in (("register_options", "-crf 21"), ("register_preset", "-crf 18")):
        registered = function.invoke(event(name))
        task = models.Task.model_validate_json(registered["body"])
        assert (registered["statusCode"], task.status) == (201, Status.PENDING)
        assert f"-c:v libx264 {quality} -pix_fmt yuv420p -c:a aac -b:a 128k" in task.command
        assert DynamoTaskStore(moto_server.TABLE).get(task.task_id).command == task.command


def with_header(made: dict[str, Any], name: str, value: str) -> dict[str, Any]:
    return {**made, "headers": {**made["headers"], name: value}}


def test_a_task_is_canceled_and_its_notices_asked_for_again(function: LambdaProcess) -> None:
    task_id = json.loads(function.invoke(event("register"))["body"])["task_id"]
    early = function.invoke(event("notify", task_id))
    assert (early["statusCode"], json.loads(early["body"])["error"]["code"]) == (409, "TASK_NOT_READY")

    canceled = function.invoke(event("cancel", task_id))
    task = models.Task.model_validate_json(canceled["body"])
    assert (canceled["statusCode"], task.status) == (202, Status.CANCELED)
    assert DynamoTaskStore(moto_server.TABLE).get(task_id).status is Status.CANCELED

    again = function.invoke(event("cancel", task_id))
    assert (again["statusCode"], json.loads(again["body"])["error"]["code"]) == (409, "TASK_ENDED")
    notified = function.invoke(event("notify", task_id))
    assert (notified["statusCode"], json.loads(notified["body"])) == (202, json.loads(canceled["body"]))


def complete(task_id: str, output: Output) -> None:
    store, now = DynamoTaskStore(moto_server.TABLE), datetime.now(UTC)
    registered = store.get(task_id)
    queued = store.replace(moves.execute(registered, now=now), registered)
    claimed = store.replace(moves.claim(queued, now=now, owner="worker-1"), queued)
    done = moves.complete(claimed, now=now, fence=1, outputs=(output,), output_count=1, timings=Timings())
    store.replace(done, claimed)


def test_a_completed_task_is_listed_led_to_logged_and_deleted(function: LambdaProcess, tmp_path: Path) -> None:
    task_id = json.loads(function.invoke(event("register"))["body"])["task_id"]
    early = function.invoke(event("result", task_id))
    assert (early["statusCode"], json.loads(early["body"])["error"]["code"]) == (409, "TASK_NOT_READY")
    assert early["headers"]["retry-after"] == "5"
    assert function.invoke(event("delete", task_id))["statusCode"] == 409
    assert function.invoke(event("log", task_id))["statusCode"] == 404
    keys = {"made": f"outputs/{task_id}/1/output.mp4", "log": f"outputs/logs/{task_id}/1.log"}
    for name, key in keys.items():
        (tmp_path / name).write_bytes(name.encode())
        S3ObjectStore(moto_server.BUCKET).put_file(key, tmp_path / name, sha256="ab" * 32, content_type="video/mp4")
    complete(task_id, Output(filename="output.mp4", key=keys["made"], size_bytes=4, sha256="ab" * 32))

    listed = function.invoke(event("tasks"))
    page = models.TaskPage.model_validate_json(listed["body"])
    assert (listed["statusCode"], [item.task_id for item in page.items], page.next_cursor) == (200, [task_id], None)
    for name in ("result", "result_file"):
        result = function.invoke(event(name, task_id))
        assert (result["statusCode"], result["body"], result["headers"]["cache-control"]) == (307, "", "no-store")
        link = result["headers"]["location"]
        assert httpx.get(link, trust_env=False, timeout=60).content == b"made"
    log = function.invoke(event("log", task_id))
    assert (log["statusCode"], log["body"], log["isBase64Encoded"]) == (200, "log", False)
    assert log["headers"]["content-type"] == "text/plain; charset=utf-8"

    assert function.invoke(event("delete", task_id))["statusCode"] == 204
    assert boto3.client("s3").list_objects_v2(Bucket=moto_server.BUCKET)["KeyCount"] == 0
    assert httpx.get(link, trust_env=False, timeout=60).status_code == 404
    for name in ("result", "log"):
        gone = function.invoke(event(name, task_id))
        assert (gone["statusCode"], json.loads(gone["body"])["error"]["code"]) == (410, "RESULT_GONE")
    assert function.invoke(event("delete", task_id))["statusCode"] == 204
    stored = DynamoTaskStore(moto_server.TABLE).get(task_id)
    assert (stored.status, stored.purged_at is None) == (Status.COMPLETED, False)
    assert link not in function.log_file.read_text()


def test_a_failed_task_leads_to_its_failure(function: LambdaProcess) -> None:
    task_id = json.loads(function.invoke(event("register"))["body"])["task_id"]
    store, now = DynamoTaskStore(moto_server.TABLE), datetime.now(UTC)
    registered = store.get(task_id)
    queued = store.replace(moves.execute(registered, now=now), registered)
    claimed = store.replace(moves.claim(queued, now=now, owner="worker-1"), queued)
    error = Failure.of(FailureCode.MEDIA_INVALID, "It is no video.")
    failed = moves.fail(claimed, now=now, fence=1, error=error, timings=Timings(), retry_after=timedelta(0))
    store.replace(failed, claimed)
    answer = function.invoke(event("result", task_id))
    shown = json.loads(answer["body"])["error"]
    assert (answer["statusCode"], shown["code"]) == (422, "TRANSCODE_FAILED")
    assert shown["details"]["error"]["code"] == "MEDIA_INVALID"


def test_a_wrong_cursor_is_refused(function: LambdaProcess) -> None:
    answer = function.invoke({**event("tasks"), "rawQueryString": "cursor=x"})
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["details"]) == (400, {"field": "cursor"})


def test_every_operation_answers_to_an_event_of_its_own(function: LambdaProcess) -> None:
    spec = json.loads(function.invoke(an_event("GET", "/openapi.json", None, {}))["body"])
    operations = {(method.upper(), path) for path, methods in spec["paths"].items() for method in methods}
    sent = set()
    for file in sorted(EVENTS.glob("*.json")):
        sample = event(file.stem)
        if "rawPath" not in sample:  # what AWS Batch and the schedule send
            continue
        asked = sample["requestContext"]["http"]["method"], sample["rawPath"]
        sent |= {one for one in operations if one[0] == asked[0] and _is_of(asked[1], one[1])}
        answer = function.invoke(sample)
        assert answer["statusCode"] in (200, 201, 202, 404), (file.name, answer)
    assert sent == operations


def _is_of(path: str, template: str) -> bool:
    return bool(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path))


def test_health_examines_aws(function: LambdaProcess) -> None:
    answer = function.invoke(event("health"))
    health = models.Health.model_validate_json(answer["body"])
    assert (answer["statusCode"], health.status) == (200, "healthy"), answer["body"]
    boto3.client("s3").delete_bucket(Bucket=moto_server.BUCKET)
    answer = function.invoke(event("health"))
    assert answer["statusCode"] == 503
    checks = models.Health.model_validate_json(answer["body"]).checks
    assert [name for name, check in checks.items() if not check.ready] == ["object_store"]
    assert moto_server.BUCKET not in answer["body"]


def test_a_body_may_come_base64_encoded(function: LambdaProcess) -> None:
    plain = event("register")
    encoded = {**plain, "body": base64.b64encode(plain["body"].encode()).decode(), "isBase64Encoded": True}
    assert function.invoke(encoded)["statusCode"] == 201


def test_errors_have_the_same_body_as_everywhere(function: LambdaProcess) -> None:
    for changed, expected in (
        (event("status"), (404, "TASK_NOT_FOUND")),
        (event("status", "x" * 4000), (404, "TASK_NOT_FOUND")),
        ({**event("register"), "body": "{"}, (400, "INVALID_ARGUMENT")),
        ({**event("register"), "body": " " * 300_000}, (413, "REQUEST_TOO_LARGE")),
        ({**event("register"), "headers": {}}, (415, "UNSUPPORTED_MEDIA_TYPE")),
        (event("execute") | {"requestContext": event("register")["requestContext"]}, (415, "UNSUPPORTED_MEDIA_TYPE")),
    ):
        answer = function.invoke(changed)
        assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == expected
        assert answer["headers"]["content-type"] == "application/json"
        assert answer["headers"]["x-correlation-id"]


def test_the_log_is_json_with_the_ids_and_the_metrics(function: LambdaProcess) -> None:
    task_id = json.loads(function.invoke(event("register"))["body"])["task_id"]
    function.invoke(event("execute", task_id))
    function.invoke(event("execute", task_id))
    lines = function.log()

    requests = [line for line in lines if line.get("message") == "request"]
    assert [(line["correlation_id"], line["task_id"], line["status"], line["cold_start"]) for line in requests] == [
        ("order-4711-register", task_id, 201, True),
        ("order-4711-execute", task_id, 202, False),
        ("order-4711-execute", task_id, 202, False),
    ]
    assert requests[0]["function_request_id"] == "request-1"
    assert requests[1]["route"] == "/ffmpeg/execute/{task_id}"

    metrics = [line for line in lines if "_aws" in line]
    named = {
        name: line for line in metrics for name in ("ColdStart", "TasksRegistered", "TasksExecuted") if name in line
    }
    assert len(metrics) == len(named) == 3  # the second execute executed nothing
    for name, line in named.items():
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "Transcoding"
        assert directive["Metrics"] == [{"Name": name, "Unit": "Count"}]
        assert all(line[dimension] for dimension in directive["Dimensions"][0])
        assert line[name] == [1.0]
        assert isinstance(line["_aws"]["Timestamp"], int)


def test_what_core_logs_is_json_with_the_ids(function: LambdaProcess) -> None:
    boto3.client("dynamodb").delete_table(TableName=moto_server.TABLE)
    function.invoke(event("health"))
    (line,) = [line for line in function.log() if line["message"] == "not ready"]
    assert (line["level"], line["part"], line["correlation_id"]) == ("WARNING", "task_store", "order-4711-health")
    assert "ResourceNotFoundException" in line["exception"]


def test_the_log_keeps_the_secrets_of_a_url(function: LambdaProcess) -> None:
    made = event("register")
    body = json.loads(made["body"])
    body["input_files"] = {"input.mp4": "https://media.example.com/a?X-Signature=s3cr3t"}
    function.invoke({**made, "body": json.dumps(body)})
    assert "s3cr3t" not in function.log_file.read_text()


def test_a_cold_start_loads_nothing_that_its_request_does_not_need(function: LambdaProcess) -> None:
    never = {"av", "httpx", "sqlite3", "uvicorn", "core.worker", "core.local", "aws_xray_sdk"}
    assert never.isdisjoint(function.loaded)
    assert "boto3" not in function.loaded
    unknown = event("health")
    unknown["requestContext"]["http"]["path"] = "/nothing"
    answer = function.invoke(unknown)
    assert answer["statusCode"] == 404
    assert {"boto3", "botocore.client"}.isdisjoint(answer["loaded"])
    # DynamoDB takes keys of 2 KB at most, moto any: what cannot be an id must not even reach the store.
    answer = function.invoke(event("status", "x" * 4000))
    assert answer["statusCode"] == 404
    assert "boto3" not in answer["loaded"]
    assert never.isdisjoint(function.invoke(event("status"))["loaded"])


def test_tracing_is_loaded_for_those_who_ask(aws: Moto, tmp_path: Path) -> None:
    asked = {"POWERTOOLS_TRACE_DISABLED": "false"}
    with lambda_process.started({**aws.env, **moto_server.SETTINGS, **asked}, tmp_path) as function:
        assert "aws_xray_sdk" in function.loaded
        assert function.invoke(event("register"))["statusCode"] == 201
