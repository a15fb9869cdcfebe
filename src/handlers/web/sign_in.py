"""Sign-in: every request needs a key, save those to the few open paths; who may do so often is held to its pace.

Who calls is found before anything of the request is read, and is kept in a context variable, which the threads that
run the routes inherit. What a caller then sees is for core.seen to say. The pace is counted in the memory of this
process: on one machine that is all there is, on Lambda each instance counts for itself.
"""

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from core import keys, pace
from core.errors import TooManyRequests, Unauthenticated
from core.keys import Key
from core.seen import ANYBODY, STRANGER, Caller
from core.settings import Settings
from handlers.web import examples, log_keys
from handlers.web.errors import answer

# Health tells a stranger no more than whether; a link to a file is signed, and so is one to a part of an upload.
_OPEN = frozenset({"/ffmpeg/health", "/docs", "/openapi.json"})
_OPEN_BELOW = ("/files/", "/uploads/")
_CHALLENGE = {"WWW-Authenticate": 'ApiKey realm="ffmpeg"'}
_SCHEME = "ApiKey"

_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who makes this request. Outside of one that SignIn has let through, there is none: LookupError."""
    return _caller.get()


class SignIn:
    """Lets the requests through that have a key, and notes whose it is; without any keys in the settings, all."""

    def __init__(self, app: ASGIApp, *, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._app = app
        self._settings = settings
        self._clock = clock
        self._full_at: dict[str, datetime] = {}  # the pace of each caller, by name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _caller.set(self._admitted(scope))
        except Unauthenticated as error:
            await answer(error, headers=_CHALLENGE)(scope, receive, send)
        except TooManyRequests as error:
            await answer(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _admitted(self, scope: Scope) -> Caller:
        if not self._settings.api_keys:
            return ANYBODY
        key = keys.find(self._settings.api_keys, _given(scope))
        if key is None:
            if is_open(scope["path"]):
                return STRANGER
            raise Unauthenticated
        log_keys.note(key_name=key.name)
        self._keep_pace(key)
        most_live = self._settings.max_live_tasks_per_key if key.live is None else key.live
        return Caller(name=key.name, admin=key.admin, most_live=most_live)

    def _keep_pace(self, key: Key) -> None:
        rate = self._settings.rate_limit_per_minute if key.rate is None else key.rate
        if not rate:
            return
        self._full_at[key.name], wait = pace.take(self._full_at.get(key.name), rate, now=self._clock())
        if wait:
            details = {"requests_per_minute": rate, "retry_after_seconds": math.ceil(wait.total_seconds())}
            raise TooManyRequests(f"This key may make {rate} requests a minute; wait a little.", details=details)


def is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def _given(scope: Scope) -> bytes:
    """The key of the request; what is no key where there is none, or more than one."""
    given: Sequence[bytes] = [value for name, value in scope["headers"] if name == b"x-api-key"]
    return given[0] if len(given) == 1 else b""


def describe(spec: dict[str, Any]) -> None:
    """Say in the API's description what the keys change: each operation needs one, and may answer 401 and 429."""
    schemes = spec["components"].setdefault("securitySchemes", {})
    schemes[_SCHEME] = {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key of this service."}
    for path, methods in spec["paths"].items():
        for operation in methods.values():
            operation["security"] = [{}, {_SCHEME: []}] if is_open(path) else [{_SCHEME: []}]
            if not is_open(path):
                operation["responses"]["401"] = _refusal(
                    operation, "UNAUTHENTICATED", "There is no key, or a wrong one."
                )
            operation["responses"].setdefault(
                "429", _refusal(operation, "TOO_MANY_REQUESTS", "The key asks too often.")
            )


def _refusal(operation: dict[str, Any], code: str, text: str) -> dict[str, Any]:
    header = {"UNAUTHENTICATED": "WWW-Authenticate", "TOO_MANY_REQUESTS": "Retry-After"}[code]
    kind = {"WWW-Authenticate": "string", "Retry-After": "integer"}[header]
    correlation = operation["responses"]["default"]["headers"]
    schema = {"$ref": "#/components/schemas/Error"}
    shown = {code: {"summary": code, "value": examples.ERRORS[code]}}
    return {
        "description": text,
        "headers": {**correlation, header: {"schema": {"type": kind}}},
        "content": {"application/json": {"schema": schema, "examples": shown}},
    }
