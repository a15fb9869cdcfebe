"""AWS as moto plays it, on a loopback port of this process: real HTTP, and boto3 as it ships.

`running()` starts it and points this process's environment at it; `Moto.reset()` empties it and creates what
infra/template.yaml creates: the table, the bucket, the queue and the job definition.
"""

import io
import json
import os
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from core.aws.dispatcher import Place

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

REGION: Final = "eu-central-1"
TABLE = "tasks"
BUCKET = "outputs-bucket"
QUEUE = "transcode"
DEFINITION = "transcode"
COMMAND = ("python", "-m", "handlers.batch_worker")


def places(*, queue: str = QUEUE, definition: str = DEFINITION) -> Mapping[str, Place]:
    """One place for all that is computed."""
    return {"gpu": Place(queue, definition), "cpu": Place(queue, definition)}


# The table as the service needs it; also what infra/template.yaml is compared with.
TABLE_SCHEMA: Mapping[str, Any] = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [
        {"AttributeName": "task_id", "AttributeType": "S"},
        {"AttributeName": "due_shard", "AttributeType": "S"},
        {"AttributeName": "due_at", "AttributeType": "N"},
        {"AttributeName": "live_key", "AttributeType": "S"},
        {"AttributeName": "listed_shard", "AttributeType": "S"},
        {"AttributeName": "listed_at", "AttributeType": "S"},
        {"AttributeName": "state", "AttributeType": "S"},
        {"AttributeName": "state_since", "AttributeType": "N"},
        {"AttributeName": "batch_id", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "task_id", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": "due",
            "KeySchema": [
                {"AttributeName": "due_shard", "KeyType": "HASH"},
                {"AttributeName": "due_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        },
        {
            "IndexName": "live",
            "KeySchema": [{"AttributeName": "live_key", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        },
        {
            "IndexName": "listed",
            "KeySchema": [
                {"AttributeName": "listed_shard", "KeyType": "HASH"},
                {"AttributeName": "listed_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status"]},
        },
        {
            "IndexName": "states",
            "KeySchema": [
                {"AttributeName": "state", "KeyType": "HASH"},
                {"AttributeName": "state_since", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status", "seconds"]},
        },
        {
            "IndexName": "batched",
            "KeySchema": [{"AttributeName": "batch_id", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status", "ended_at", "ended_by"]},
        },
    ],
}

# What a process needs in order to run with BACKEND=aws on what reset() creates.
SETTINGS: Mapping[str, str] = {
    "BACKEND": "aws",
    "TASK_TABLE": TABLE,
    "OUTPUT_BUCKET": BUCKET,
    "JOB_QUEUE": QUEUE,
    "JOB_DEFINITION": DEFINITION,
    "ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8",  # where the sources of the tests are
}

_DROPPED = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moto:
    url: str

    @property
    def env(self) -> dict[str, str]:
        """What boto3 needs to find this server, in this process or another one."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def reset(self) -> None:
        self.post("/moto-api/reset", {})
        # Jobs are accepted and kept, not run: that would take Docker.
        self.post("/moto-api/config", {"batch": {"use_docker": False}})
        boto3.client("dynamodb").create_table(TableName=TABLE, **TABLE_SCHEMA)
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self._create_queue()

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request):
            pass

    def create_queue(self, name: str) -> None:
        """One more queue, on the same machines."""
        boto3.client("batch").create_job_queue(
            jobQueueName=name,
            state="ENABLED",
            priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "workers"}],
        )

    def _create_queue(self) -> None:
        batch = boto3.client("batch")
        role = boto3.client("iam").create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        batch.create_compute_environment(
            computeEnvironmentName="workers", type="UNMANAGED", state="ENABLED", serviceRole=role
        )
        self.create_queue(QUEUE)
        batch.register_job_definition(
            jobDefinitionName=DEFINITION,
            type="container",
            containerProperties={
                "image": "worker",
                "command": list(COMMAND),
                "environment": [{"name": name, "value": value} for name, value in SETTINGS.items()],
                "resourceRequirements": [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "15000"}],
            },
        )


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        pass


class _Atomic:
    """One request to DynamoDB and to AWS Batch at a time: moto looks at a condition and then writes, and goes through
    jobs while others are submitted."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        signed_for = environ.get("HTTP_AUTHORIZATION", "")
        if not any(f"/{service}/aws4_request" in signed_for for service in ("dynamodb", "batch")):
            return self._app(environ, start_response)
        # read before it is its turn: a client that stalls holds up nobody
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        with self._lock:
            return self._app(environ, start_response)


@contextmanager
def running() -> Iterator[Moto]:
    app = _Atomic(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    moto = Moto(url=f"http://127.0.0.1:{server.server_port}")
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    try:
        with mock.patch.dict(os.environ, kept | moto.env, clear=True):
            boto3.setup_default_session()
            yield moto
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
