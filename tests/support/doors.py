"""The two ways to the API, behind one face: real HTTP on one machine, and events to the Lambda function on moto's AWS.

What is wrong with the place, if anything, is one of `TROUBLES`.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from core import keys
from core.aws.task_store import DynamoTaskStore
from core.errors import InternalError, ServiceUnavailable
from core.ports import TaskStore
from core.settings import Settings
from core.task import Task
from support import api_server, lambda_process, moto_server
from support.api_server import Api
from support.lambda_process import LambdaProcess
from support.moto_server import Moto
from support.overload import BusyStore
from support.recording import RecordingDispatcher
from support.signed_in import entry

TROUBLES = ("none", "keys", "broken store", "silent store", "no queue")
_KEYS = entry("alice")


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: Any


class Door(Protocol):
    def ask(self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer: ...

    def put(self, task: Task) -> str:
        """Store the task as it is; returns its id."""
        ...


@dataclass(frozen=True)
class Local:
    api: Api

    def ask(self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        made = {"Content-Type": "application/json", **(headers or {})}
        answer = self.api.http.request(method, path, content=_text(body), headers=made)
        return Answer(answer.status_code, answer.headers, json.loads(answer.text) if answer.text else None)

    def put(self, task: Task) -> str:
        return self.api.store.create(task).task_id


@dataclass(frozen=True)
class OnLambda:
    function: LambdaProcess

    def ask(self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        answer = self.function.invoke(an_event(method, path, _text(body), headers or {}))
        return Answer(answer["statusCode"], answer["headers"], json.loads(answer["body"]) if answer["body"] else None)

    def put(self, task: Task) -> str:
        return DynamoTaskStore(moto_server.TABLE).create(task).task_id


def an_event(method: str, path: str, body: str | None, headers: Mapping[str, str]) -> dict[str, Any]:
    """What API Gateway makes of the request: an event of its HTTP API, format 2.0."""
    sample: dict[str, Any] = json.loads((lambda_process.ROOT / "events" / "status.json").read_text())
    bare, _, query = path.partition("?")
    sample["rawPath"] = sample["requestContext"]["http"]["path"] = bare
    sample["rawQueryString"] = query
    sample["requestContext"]["http"]["method"] = method
    sample["headers"] |= {"content-type": "application/json"} | {name.lower(): text for name, text in headers.items()}
    return sample | ({} if body is None else {"body": body})


@contextmanager
def local(folder: Path, trouble: str) -> Iterator[Door]:
    settings = Settings(api_keys=keys.read(_KEYS), rate_limit_per_minute=1) if trouble == "keys" else Settings()
    refusal = {"broken store": InternalError, "silent store": ServiceUnavailable}.get(trouble)

    def before(store: TaskStore) -> TaskStore:
        return BusyStore(store, refusal=refusal) if refusal else store

    dispatcher = RecordingDispatcher(refusing=trouble == "no queue")
    with api_server.running(folder, dispatcher=dispatcher, before_store=before, settings=settings) as api:
        yield Local(api)


@contextmanager
def on_lambda(aws: Moto, folder: Path, trouble: str) -> Iterator[Door]:
    changed = {
        "keys": {"API_KEYS": _KEYS, "RATE_LIMIT_PER_MINUTE": "1"},
        "broken store": {"TASK_TABLE": "no-such-table"},
        "silent store": {"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9"},  # where nobody listens
        "no queue": {"JOB_QUEUE": "no-such-queue"},
    }.get(trouble, {})
    with lambda_process.started({**aws.env, **moto_server.SETTINGS, **changed}, folder) as function:
        yield OnLambda(function)


def _text(body: Any) -> str | None:
    return body if body is None or isinstance(body, str) else json.dumps(body)
