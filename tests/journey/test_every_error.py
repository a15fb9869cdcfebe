"""Every error code that the API documents, provoked over real HTTP and through events to the Lambda function.

The table is complete: a code that nobody can provoke, or that nobody has provoked, fails the first test.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from core.task import Status
from handlers.web import models
from handlers.web.errors import CODES, STATUS
from handlers.web.middleware import MAX_BODY_BYTES
from support import doors
from support.api_server import ONE_OUTPUT
from support.builders import task_in
from support.doors import Answer, Door
from support.moto_server import Moto
from support.signed_in import KEYS

WORLDS = ["local", "lambda"]
LONG_AGO = datetime.now(UTC) - timedelta(days=10)
ALICE = {"X-API-Key": KEYS["alice"]}


class Case(NamedTuple):
    provoke: Callable[[Door], Answer]
    trouble: str = "none"


def registering(**changes: Any) -> Callable[[Door], Answer]:
    return lambda door: door.ask("POST", "/ffmpeg/register", {**ONE_OUTPUT, **changes})


def of_a_task(method: str, verb: str, status: Status) -> Callable[[Door], Answer]:
    return lambda door: door.ask(method, f"/ffmpeg/{verb}/{door.put(task_in(status))}")


def twice(door: Door) -> Answer:
    key = {"Idempotency-Key": "order-4711"}
    assert door.ask("POST", "/ffmpeg/register", ONE_OUTPUT, headers=key).status == 201
    return door.ask("POST", "/ffmpeg/register", {**ONE_OUTPUT, "compute": "gpu"}, headers=key)


def of_a_purged_task(door: Door) -> Answer:
    purged = replace(task_in(Status.COMPLETED), expires_at=LONG_AGO, purged_at=LONG_AGO, outputs=())
    return door.ask("GET", f"/ffmpeg/result/{door.put(purged)}")


def uploading(door: Door, *, size_bytes: int) -> Answer:
    return door.ask("POST", "/ffmpeg/uploads", {"filename": "a.mp4", "size_bytes": size_bytes})


def of_an_open_upload(door: Door) -> Answer:
    upload_id = uploading(door, size_bytes=5).body["upload_id"]
    return door.ask("POST", f"/ffmpeg/uploads/{upload_id}/complete", {})


def too_often(door: Door) -> Answer:
    answers = [door.ask("GET", "/ffmpeg/tasks", headers=ALICE) for _ in range(3)]
    return answers[-1]


CASES: Mapping[str, Case] = {
    "INVALID_ARGUMENT": Case(registering(compute="tpu")),
    "COMMAND_NOT_ALLOWED": Case(registering(command="-i input.mp4 -report output.mp4")),
    "URL_NOT_ALLOWED": Case(registering(input_files={"input.mp4": "http://169.254.169.254/latest"})),
    "UNAUTHENTICATED": Case(lambda door: door.ask("GET", "/ffmpeg/tasks"), "keys"),
    "PERMISSION_DENIED": Case(lambda door: door.ask("GET", "/ffmpeg/system", headers=ALICE), "keys"),
    "NOT_FOUND": Case(lambda door: door.ask("GET", "/ffmpeg/nothing")),
    "TASK_NOT_FOUND": Case(lambda door: door.ask("GET", "/ffmpeg/status/1f9e8d7c-0000-4000-8000-00000000ffff")),
    "UPLOAD_NOT_FOUND": Case(lambda door: door.ask("GET", "/ffmpeg/uploads/1f9e8d7c-0000-4000-8000-00000000ffff")),
    "BATCH_NOT_FOUND": Case(lambda door: door.ask("GET", "/ffmpeg/batches/1f9e8d7c-0000-4000-8000-000000000000")),
    "METHOD_NOT_ALLOWED": Case(lambda door: door.ask("GET", "/ffmpeg/register")),
    "TASK_NOT_READY": Case(of_a_task("GET", "result", Status.RUNNING)),
    "TASK_ENDED": Case(of_a_task("POST", "execute", Status.COMPLETED)),
    "IDEMPOTENCY_CONFLICT": Case(twice),
    "UPLOAD_INCOMPLETE": Case(of_an_open_upload),
    "SETTINGS_CHANGED": Case(
        lambda door: door.ask("PUT", "/ffmpeg/settings", {"result_ttl_hours": 5}, headers={"If-Match": '"99"'})
    ),
    "FILE_TOO_LARGE": Case(lambda door: uploading(door, size_bytes=30 * 1024**3)),
    "RESULT_GONE": Case(of_a_purged_task),
    "REQUEST_TOO_LARGE": Case(registering(command="-i input.mp4 " + " " * MAX_BODY_BYTES)),
    "UNSUPPORTED_MEDIA_TYPE": Case(
        lambda door: door.ask("POST", "/ffmpeg/register", "<task/>", headers={"Content-Type": "text/xml"})
    ),
    "TRANSCODE_FAILED": Case(of_a_task("GET", "result", Status.FAILED)),
    "TOO_MANY_REQUESTS": Case(too_often, "keys"),
    "INTERNAL_ERROR": Case(registering(), "broken store"),
    "SERVICE_UNAVAILABLE": Case(registering(), "silent store"),
    "DISPATCH_UNAVAILABLE": Case(of_a_task("POST", "execute", Status.PENDING), "no queue"),
}


# Of parts of uploads, which S3 takes on AWS, and test_uploads.py sends on one machine.
ELSEWHERE = {"REQUEST_TIMEOUT"}


@pytest.fixture(scope="module", params=WORLDS)
def opened(
    request: pytest.FixtureRequest, moto: Moto, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Door]]:
    """Gives a door to a place with the trouble, one for all who ask for it."""
    found: dict[str, Door] = {}
    moto.reset()
    with ExitStack() as stack:

        def door(trouble: str) -> Door:
            if trouble not in found:
                folder = tmp_path_factory.mktemp("place")
                at_lambda = request.param == "lambda"
                way = doors.on_lambda(moto, folder, trouble) if at_lambda else doors.local(folder, trouble)
                found[trouble] = stack.enter_context(way)
            return found[trouble]

        yield door


def test_every_code_is_provoked() -> None:
    assert set(CASES) == set(CODES) - ELSEWHERE


@pytest.mark.parametrize("code", CASES)
def test_each_code_comes_with_its_status_and_the_one_body(opened: Callable[[str], Door], code: str) -> None:
    case = CASES[code]

    answer = case.provoke(opened(case.trouble))

    error = models.Error.model_validate(answer.body).error
    (status,) = {status for kind, status in STATUS.items() if kind.code == code}
    assert (error.code, answer.status) == (code, status)
    assert error.message.endswith((".", ":"))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-correlation-id"]
    assert ("retry-after" in answer.headers) == (status in (429, 503) or code == "TASK_NOT_READY")
