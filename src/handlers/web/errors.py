"""Every error as the caller sees it: one body, and one table of HTTP statuses.

What is our own fault says so and nothing else; its reason is in the log. What the caller sent is named in words and
echoed in small pieces only.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from core import errors

log = logging.getLogger(__name__)

STATUS: Mapping[type[errors.ServiceError], int] = {
    errors.InvalidArgument: 400,
    errors.CommandNotAllowed: 400,
    errors.UrlNotAllowed: 400,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.TaskNotFound: 404,
    errors.UploadNotFound: 404,
    errors.BatchNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.RequestTimeout: 408,
    errors.TaskNotReady: 409,
    errors.TaskEnded: 409,
    errors.IdempotencyConflict: 409,
    errors.UploadIncomplete: 409,
    errors.ResultGone: 410,
    errors.SettingsChanged: 412,
    errors.FileTooLarge: 413,
    errors.RequestTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.TranscodeFailed: 422,
    errors.TooManyRequests: 429,
    errors.InternalError: 500,
    errors.ServiceUnavailable: 503,
    errors.DispatchUnavailable: 503,
    # These never leave core; one that does is a fault of ours, not of the caller's.
    errors.ListGone: 500,
    errors.DispatchDelayed: 500,
    errors.Conflict: 500,
    errors.TaskExists: 500,
    errors.TaskChanged: 500,
    errors.RecordChanged: 500,
    errors.FenceLost: 500,
}
CODES: tuple[str, ...] = tuple(sorted({error.code for error in STATUS}))

RETRY_AFTER_SECONDS = 5
MAX_FAULTS = 5
MAX_ECHO_BYTES = 60

# What the framework itself raises, by its status.
_FRAMEWORK: Mapping[int, type[errors.ServiceError]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.RequestTooLarge,
}
# What pydantic says, in a user's words, by its kind of fault; after the field's name.
_WORDS: Mapping[str, str] = {
    "missing": "is required.",
    "extra_forbidden": "is not a field of this request.",
    "string_type": "must be text.",
    "string_unicode": "must be valid Unicode.",
    "string_too_short": "must not be empty.",
    "string_too_long": "must have at most {max_length} characters.",
    "int_type": "must be a whole number.",
    "int_parsing": "must be a whole number.",
    "greater_than_equal": "must be at least {ge}.",
    "less_than_equal": "must be at most {le}.",
    "enum": "must be {expected}.",
    "dict_type": "must be an object.",
    "model_attributes_type": "must be an object.",
    "list_type": "must be a list.",
    "too_short": "needs at least {min_length} entry.",
    "too_long": "must have at most {max_length} entries.",
    "bool_type": "must be true or false.",
    "bool_parsing": "must be true or false.",
    "float_type": "must be a number.",
    "number_or_text": "must be a number or text.",
    "too_many_inputs": "has more than {most} entries: make several batches of them.",
    "size": "must be a size such as 1280x720, or an object with width and height.",
}
_UNREADABLE_BODY = "The body could not be read as JSON in UTF-8."


def install(app: FastAPI) -> None:
    """Let `app` answer every foreseen error; the unforeseen ones are caught in middleware.py."""
    app.add_exception_handler(errors.ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_framework_error)


def answer(error: errors.ServiceError, *, headers: Mapping[str, str] | None = None) -> Response:
    """The response for an error. JSON in ASCII, so that no text, however broken, keeps it from being written."""
    status = STATUS.get(type(error), 500)
    shown = errors.InternalError() if status == 500 else error
    body = {"error": {"code": shown.code, "message": shown.message, "details": shown.details}}
    return Response(
        json.dumps(body, default=str),
        status_code=status,
        headers={**_retry_after(shown), **(headers or {})},
        media_type="application/json",
    )


def logged(error: errors.ServiceError, *, headers: Mapping[str, str] | None = None) -> Response:
    """The response for an error; what is not the caller's doing is in the log, as its answer says."""
    if STATUS.get(type(error), 500) >= 500:
        log.error("request failed", extra={"action": "request", "error_code": error.code}, exc_info=error)
    return answer(error, headers=headers)


def _retry_after(error: errors.ServiceError) -> dict[str, str]:
    later = errors.TooManyRequests | errors.ServiceUnavailable | errors.DispatchUnavailable
    seconds = error.details.get("retry_after_seconds", RETRY_AFTER_SECONDS if isinstance(error, later) else None)
    return {} if seconds is None else {"Retry-After": str(seconds)}


async def _on_service_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.ServiceError)
    return logged(error)


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer(invalid(error.errors()))


async def _on_framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:  # JSON that is nested too deep, or text in another encoding
        return answer(errors.InvalidArgument(_UNREADABLE_BODY, details={"field": "body"}))
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
    return answer(_FRAMEWORK.get(error.status_code, errors.InternalError)(), headers=headers)


def _methods(request: Request) -> list[str]:
    """What the path takes. The framework knows a route for each method, and names that of the first alone."""
    here = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in here for method in route.methods or ()})


def invalid(faults: Iterable[Mapping[str, Any]]) -> errors.InvalidArgument:
    """Pydantic's faults as ours: the first in the message, the first few in the details."""
    listed = [{"field": _field(fault), "message": _sentence(fault)} for fault in list(faults)[:MAX_FAULTS]]
    return errors.InvalidArgument(listed[0]["message"], details={"field": listed[0]["field"], "errors": listed})


def _field(fault: Mapping[str, Any]) -> str:
    """`("body", "input_files", "a.mp4", "[key]")` is `input_files.a.mp4`; what concerns the whole body is `body`.

    The fields of options are named from there, as core names them too.
    """
    place, *path = fault["loc"]
    if not path or fault["type"] == "json_invalid":  # whose path is a position in the text
        return str(place)
    if path[0] == "options":
        path = path[1:] or path
    return bounded(".".join(str(part) for part in path if part != "[key]"))


def _sentence(fault: Mapping[str, Any]) -> str:
    kind, field, facts = fault["type"], _field(fault), fault.get("ctx", {})
    if kind == "json_invalid":
        return f"The body is not valid JSON: {facts['error']} at character {fault['loc'][1]}."
    if field == "body":
        return "The body must be a JSON object, in valid Unicode."
    words = _WORDS.get(kind, "cannot be accepted: {msg}.")
    return f"{field} {words.format(msg=fault['msg'], **facts)}"


def bounded(text: str) -> str:
    """The caller's text, fit to be echoed: at most MAX_ECHO_BYTES of it."""
    encoded = text.encode(errors="backslashreplace")
    if len(encoded) <= MAX_ECHO_BYTES:
        return encoded.decode()
    return encoded[:MAX_ECHO_BYTES].decode(errors="ignore") + "…"
