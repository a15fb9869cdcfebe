"""How the API's description says what an operation answers: pieces that docs.py and upload_docs.py are made of."""

from typing import Any

from handlers.web import examples, models

CORRELATION = {
    "X-Correlation-Id": {
        "description": "The caller's correlation id, or a new one.",
        "schema": {"type": "string"},
        "example": examples.CORRELATION_ID,
    }
}
POLL = {
    "Retry-After": {
        "description": "After how many seconds it is worth asking again; absent once the task has ended.",
        "schema": {"type": "integer"},
    }
}
LATER = {"Retry-After": {"description": "After how many seconds to try again.", "schema": {"type": "integer"}}}
LOCATION = {"Location": {"description": "The task's status.", "schema": {"type": "string"}}}


def answer(model: type[Any], text: str, shown: dict[str, Any], headers: dict[str, Any] | None = None) -> Any:
    named = {name: {"summary": name.replace("_", " "), "value": value} for name, value in shown.items()}
    return {
        "model": model,
        "description": text,
        "headers": {**CORRELATION, **(headers or {})},
        "content": {"application/json": {"examples": named}},
    }


def error(text: str, *codes: str, headers: dict[str, Any] | None = None) -> Any:
    return answer(models.Error, text, {code: examples.ERRORS[code] for code in codes}, headers)


INTERNAL = error("A fault of ours. The log has it under the correlation id.", "INTERNAL_ERROR")
OTHER = error("Any other error has the same body.", "INTERNAL_ERROR")
UNKNOWN_TASK = error("There is no such task.", "TASK_NOT_FOUND")
TOO_MANY = error("There is too much to do at the moment.", "TOO_MANY_REQUESTS", headers=LATER)
NO_DATA = error("The service cannot reach its data at the moment.", "SERVICE_UNAVAILABLE", headers=LATER)
NO_WORKER = error(
    "No worker could be asked for, though the task is stored; or the service cannot reach its data.",
    "DISPATCH_UNAVAILABLE",
    "SERVICE_UNAVAILABLE",
    headers=LATER,
)
# What every operation on stored tasks may answer.
STORED = {429: TOO_MANY, 500: INTERNAL, 503: NO_DATA, "default": OTHER}
