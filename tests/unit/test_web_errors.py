"""The table of HTTP statuses, and what an error's body may say."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from core import errors
from handlers.web import examples
from handlers.web.errors import CODES, MAX_ECHO_BYTES, STATUS, answer, bounded, invalid


def all_kinds(kind: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    for below in kind.__subclasses__():
        yield below
        yield from all_kinds(below)


def body_of(error: errors.ServiceError) -> tuple[int, Any]:
    response = answer(error)
    return response.status_code, json.loads(bytes(response.body))["error"]


def test_every_kind_of_error_has_a_status() -> None:
    assert set(STATUS) == set(all_kinds(errors.ServiceError))


def test_one_code_has_one_status() -> None:
    assert len({(kind.code, status) for kind, status in STATUS.items()}) == len(CODES)


def test_every_status_is_that_of_the_contract() -> None:
    assert {kind.code: status for kind, status in STATUS.items()} == {
        "INVALID_ARGUMENT": 400,
        "COMMAND_NOT_ALLOWED": 400,
        "URL_NOT_ALLOWED": 400,
        "UNAUTHENTICATED": 401,
        "PERMISSION_DENIED": 403,
        "NOT_FOUND": 404,
        "TASK_NOT_FOUND": 404,
        "UPLOAD_NOT_FOUND": 404,
        "BATCH_NOT_FOUND": 404,
        "METHOD_NOT_ALLOWED": 405,
        "REQUEST_TIMEOUT": 408,
        "TASK_NOT_READY": 409,
        "TASK_ENDED": 409,
        "IDEMPOTENCY_CONFLICT": 409,
        "UPLOAD_INCOMPLETE": 409,
        "RESULT_GONE": 410,
        "SETTINGS_CHANGED": 412,
        "TRANSCODE_FAILED": 422,
        "FILE_TOO_LARGE": 413,
        "REQUEST_TOO_LARGE": 413,
        "UNSUPPORTED_MEDIA_TYPE": 415,
        "TOO_MANY_REQUESTS": 429,
        "INTERNAL_ERROR": 500,
        "SERVICE_UNAVAILABLE": 503,
        "DISPATCH_UNAVAILABLE": 503,
    }


def test_every_message_of_an_example_is_the_errors_own() -> None:
    fixed = {kind.code: kind().message for kind in all_kinds(errors.ServiceError)}
    for code in (
        "PERMISSION_DENIED",
        "SETTINGS_CHANGED",
        "IDEMPOTENCY_CONFLICT",
        "TOO_MANY_REQUESTS",
        "SERVICE_UNAVAILABLE",
        "DISPATCH_UNAVAILABLE",
    ):
        assert examples.ERRORS[code]["error"]["message"] == fixed[code]


def test_examples_are_of_codes_that_exist() -> None:
    assert set(examples.ERRORS) <= set(CODES)
    assert all(body["error"]["code"] == code for code, body in examples.ERRORS.items())


def test_an_error_is_shown_with_its_details() -> None:
    error = errors.TaskEnded("It has ended.", details={"task_id": "t"})
    assert body_of(error) == (409, {"code": "TASK_ENDED", "message": "It has ended.", "details": {"task_id": "t"}})


@pytest.mark.parametrize(
    "error",
    [
        errors.InternalError("table secret-table is gone", details={"table": "secret-table"}),
        errors.FenceLost("secret", details={"fence": 1}),
        errors.ServiceError("secret"),
    ],
)
def test_a_fault_of_ours_tells_nothing(error: errors.ServiceError) -> None:
    shown = {"code": "INTERNAL_ERROR", "message": errors.InternalError().message, "details": {}}
    assert body_of(error) == (500, shown)


@pytest.mark.parametrize("kind", [errors.DispatchUnavailable, errors.ServiceUnavailable, errors.TooManyRequests])
def test_what_passes_says_when_to_come_back(kind: type[errors.ServiceError]) -> None:
    assert answer(kind()).headers["retry-after"] == "5"
    assert answer(kind(details={"retry_after_seconds": 30})).headers["retry-after"] == "30"


def test_what_does_not_pass_says_no_time() -> None:
    lasting = [kind for kind, status in STATUS.items() if status not in (429, 503)]
    assert not [kind for kind in lasting if "retry-after" in answer(kind()).headers]


def test_invalid_names_the_first_fault_and_lists_the_others() -> None:
    error = invalid(
        [
            {"type": "missing", "loc": ("body", "command"), "msg": "Field required"},
            {"type": "string_type", "loc": ("body", "input_files", "a.mp4"), "msg": "Input should be a valid string"},
            {"type": "new_in_pydantic", "loc": ("query", "execute"), "msg": "Input is odd"},
        ]
    )
    assert (error.message, error.details) == (
        "command is required.",
        {
            "field": "command",
            "errors": [
                {"field": "command", "message": "command is required."},
                {"field": "input_files.a.mp4", "message": "input_files.a.mp4 must be text."},
                {"field": "execute", "message": "execute cannot be accepted: Input is odd."},
            ],
        },
    )


@pytest.mark.parametrize(
    ("text", "echoed"),
    [("short", "short"), ("a" * 61, "a" * 60 + "…"), ("é" * 31, "é" * 30 + "…"), ("\ud800", "\\ud800")],
)
def test_bounded_cuts_between_characters(text: str, echoed: str) -> None:
    assert bounded(text) == echoed
    assert len(echoed.rstrip("…").encode()) <= MAX_ECHO_BYTES
