"""What surrounds every request: its correlation id, its log record, the limit on its body, and the last safety net.

Plain ASGI: starlette's BaseHTTPMiddleware costs each request a task group and a stream.
"""

import logging
import re
from collections.abc import Callable, Iterable
from time import perf_counter

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import InternalError, RequestTooLarge
from handlers.web import log_keys
from handlers.web.errors import answer

MAX_BODY_BYTES = 256 * 1024
_STREAMED = "/uploads/"  # whose bodies are counted by whoever writes them to the disk
# 10,000 URLs of 490 bytes. A Lambda function's event, in which quotes are escaped, may have 6 MiB.
MAX_BATCH_BYTES = 5_000_000
_MOST_BYTES = {"/ffmpeg/batches": MAX_BATCH_BYTES}

log = logging.getLogger(__name__)

_ACCEPTED = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_CALLERS_HEADERS = (b"x-correlation-id", b"client-correlation-id")

Observe = Callable[[str, int, float], None]  # is told the operation, the status and the seconds of each answer
Headers = Iterable[tuple[bytes, bytes]]


def correlation_id(headers: Headers) -> str | None:
    """The caller's id, if it is one that can safely be put into logs, headers and environments."""
    given = {name: value for name, value in headers if name in _CALLERS_HEADERS}
    fitting = (given[name] for name in _CALLERS_HEADERS if name in given and _ACCEPTED.fullmatch(given[name]))
    return next((value.decode() for value in fitting), None)


class Correlated:
    """Gives each request its correlation id, writes one log record about it, and answers what nobody foresaw."""

    def __init__(self, app: ASGIApp, *, new_id: Callable[[], str], observe: Observe | None = None) -> None:
        self._app = app
        self._new_id = new_id
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = correlation_id(scope["headers"]) or self._new_id()
        log_keys.begin(given)
        header = (b"x-correlation-id", given.encode())
        started = perf_counter()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except Exception:
            log.exception("unforeseen error", extra={"action": "request"})
            if status:
                raise  # half an answer is out: only the server can end it, by hanging up
            await answer(InternalError())(scope, receive, send_marked)
        finally:
            seconds = perf_counter() - started
            _record(scope, status, seconds)
            if self._observe:
                self._observe(_operation(scope), status, seconds)


class BodyLimit:
    """Refuses a body that is too large for its path: at once by what it declares, else when that much has come.

    Parts of uploads are not its business.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_STREAMED):
            await self._app(scope, receive, send)
            return
        most = _MOST_BYTES.get(scope["path"], MAX_BODY_BYTES)
        if _declared_bytes(scope["headers"]) > most:
            await answer(RequestTooLarge())(scope, receive, send)
            return
        taken = 0

        async def receive_counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                # FastAPI turns any other kind of exception, raised while it reads the body, into a 400.
                raise HTTPException(413)
            return message

        await self._app(scope, receive_counted, send)


def _declared_bytes(headers: Headers) -> int:
    value = next((value for name, value in headers if name == b"content-length"), b"0")
    return int(value) if value.isdigit() else 0


def _operation(scope: Scope) -> str:
    """The operation's name in the API's description; never anything that the caller has made up, of any number."""
    route = scope.get("route")
    return str(getattr(route, "operation_id", None) or getattr(route, "name", "(none)"))


def _record(scope: Scope, status: int, seconds: float) -> None:
    if not log.isEnabledFor(logging.INFO):
        return
    # The route's pattern, not the path: a path may hold a token that opens a file.
    route = getattr(scope.get("route"), "path", "(none)")
    log.info(
        "request",
        extra={
            "action": "request",
            "method": scope["method"],
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 1),
        },
    )
