"""What surrounds a request, driven as ASGI where a real server would get in the way."""

import asyncio
import contextvars
import json
import logging
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.web import log_keys, sign_in
from handlers.web.middleware import Correlated, correlation_id

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/x", "headers": []}


def answers(app: ASGIApp) -> list[MutableMapping[str, Any]]:
    """What the app sends for one request, behind the middleware."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Correlated(app, new_id=lambda: "new-id")(dict(SCOPE), receive, send))
    return sent


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("secret")


async def failing_half_way(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("secret")


async def noting(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.to_thread(lambda: log_keys.note(task_id="t-1"))
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_what_nobody_foresaw_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    start, body = answers(failing)
    assert start["status"] == 500
    assert (b"x-correlation-id", b"new-id") in start["headers"]
    assert json.loads(body["body"])["error"]["code"] == "INTERNAL_ERROR"
    assert b"secret" not in body["body"]
    assert "RuntimeError: secret" in caplog.text


def test_half_an_answer_is_cut_off_by_the_server() -> None:
    with pytest.raises(RuntimeError):
        answers(failing_half_way)


def test_records_carry_what_a_route_noted_in_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(keys := log_keys.LogKeys())
    try:
        with caplog.at_level(logging.INFO, logger="handlers.web"):
            answers(noting)
    finally:
        caplog.handler.removeFilter(keys)
    (record,) = caplog.records
    assert {"correlation_id": "new-id", "task_id": "t-1", "status": 200, "route": "(none)"}.items() <= vars(
        record
    ).items()


def test_a_records_own_keys_win() -> None:
    record = logging.makeLogRecord({"correlation_id": "its own"})
    context = contextvars.Context()
    context.run(log_keys.begin, "of-the-request")
    assert context.run(log_keys.LogKeys().filter, record)
    assert vars(record)["correlation_id"] == "its own"


def test_there_are_no_keys_outside_of_a_request() -> None:
    record = logging.makeLogRecord({})
    assert contextvars.Context().run(log_keys.LogKeys().filter, record)
    assert not hasattr(record, "correlation_id")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([(b"x-correlation-id", b"a")], "a"),
        ([(b"client-correlation-id", b"b"), (b"x-correlation-id", b"a")], "a"),
        ([(b"x-correlation-id", b"a\n"), (b"client-correlation-id", b"b")], "b"),
        ([(b"x-correlation-id", b"")], None),
        ([(b"x-correlation-id", b"a" * 129)], None),
        ([(b"x-correlation-id", "ä".encode())], None),
    ],
)
def test_correlation_id_is_the_first_that_fits(headers: list[tuple[bytes, bytes]], expected: str | None) -> None:
    assert correlation_id(headers) == expected


def test_who_calls_is_never_a_guess() -> None:
    with pytest.raises(LookupError):
        contextvars.Context().run(sign_in.caller)
