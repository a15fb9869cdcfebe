"""What the API's description says of each operation: its words, its answers and their examples."""

from typing import Any

from starlette.responses import Response

from core.task import FailureCode
from handlers.web import admin_docs, batch_docs, examples, models, options, upload_docs
from handlers.web.answers import (
    CORRELATION,
    INTERNAL,
    LOCATION,
    NO_WORKER,
    OTHER,
    POLL,
    STORED,
    UNKNOWN_TASK,
    answer,
    error,
)
from handlers.web.errors import CODES

TAGS = [
    {"name": "Tasks", "description": "One ffmpeg command over named inputs that produces named outputs."},
    upload_docs.TAG,
    batch_docs.TAG,
    {"name": "Service", "description": "The service itself."},
]
DESCRIPTION = f"""
Name a media URL and the ffmpeg command that you want, in two requests; read the link to the result in a third.

1. `POST /ffmpeg/register` checks the command and the URLs and stores a task. Nothing runs yet.
2. `POST /ffmpeg/execute/{{task_id}}` asks for a worker.
3. `GET /ffmpeg/status/{{task_id}}` shows how far it is and, when it is completed, links to the outputs.

**Without ffmpeg's words.** `options` say by field what is wished, and a `preset` (`GET /ffmpeg/presets`) is a command
kept ready; either takes the place of `command`, and the task shows the command that it became. For a preset that
`looks` at the source, such as a ladder for HLS, the worker makes it.

**Files of your own.** `POST /ffmpeg/uploads` takes them in parts, past the API; `upload:ID` is then an input's URL.

**Many files.** `POST /ffmpeg/batches` registers and executes one wish for up to 10,000 files in one call; each file is
a task like any other.

**Correlation.** Send `X-Correlation-Id` (or `Client-Correlation-Id`): 1 to 128 of `A-Z a-z 0-9 . _ : -`. It comes
back on every answer, is kept with the task and stands in every log record. Without one, or with another kind of text
in it, a new id is made.

**Sign-in.** Where the service has keys, send yours as `X-API-Key`. A key sees the tasks that were registered with it;
another's are answered like those that there are not.

**Once, not twice.** Send an `Idempotency-Key` with register: the same request, sent again because its answer was lost,
is answered with the same task. `execute` needs no key, since executing twice is executing once.

**Retries.** A task whose worker dies, or fails for a reason that may pass, is tried again by itself, by three workers
at most; `attempts` shows each of them. On 429 and 503, send the same request again after `Retry-After` seconds.

**Errors.** Every answer that is not a success has the same body: a stable `code`, a `message` for people, and
`details`. The codes: {", ".join(f"`{code}`" for code in CODES)}.

**Failures.** A task that failed says why in `error`, by one of: {", ".join(f"`{code}`" for code in FailureCode)}.

**Limits.** A request body has at most 256 KB, that of a batch 5 MB.
"""

_REDIRECT = {
    "description": "Where the file is, for a limited time.",
    "headers": {
        **CORRELATION,
        "Location": {
            "description": "A link that works without further sign-in: whoever holds it can read the file.",
            "schema": {"type": "string"},
        },
    },
}
_NO_RESULT = {
    307: _REDIRECT,
    409: error(
        "The task has not ended, and `Retry-After` says when to ask again; or it was canceled.",
        "TASK_NOT_READY",
        "TASK_ENDED",
        headers=POLL,
    ),
    410: error("The outputs were deleted, or their time is over.", "RESULT_GONE"),
    422: error("The task has failed; the details have its error.", "TRANSCODE_FAILED"),
    **STORED,
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/json": {
                "examples": {
                    "one_output": {"summary": "one output", "value": examples.REGISTRATION},
                    "two_outputs": {"summary": "two outputs", "value": examples.TWO_OUTPUTS},
                    "options": {"summary": "options instead of a command", "value": examples.WITH_OPTIONS},
                    "preset": {"summary": "a preset instead of a command", "value": examples.WITH_PRESET},
                }
            }
        }
    }
}

REGISTER: dict[str, Any] = {
    "operation_id": "register",
    "tags": ["Tasks"],
    "summary": "Register a task",
    "description": "Checks the command, the names and the URLs, without fetching anything, and stores the task as "
    "`pending`. `options` and a `preset` become a command first, which the task then shows. "
    "A preset that looks at the source becomes one for any source; the worker makes the real one. "
    "Nothing runs before it is executed; `?execute=true` does both in one call. With an `Idempotency-Key`, "
    "the same request can be sent again without making a second task.",
    "status_code": 201,
    "responses": {
        200: answer(
            models.Task,
            "The same request came before with this `Idempotency-Key`: its task, as it is now.",
            {"registered_before": examples.RUNNING},
            {**LOCATION, **POLL},
        ),
        201: answer(
            models.Task,
            "The task, `pending`; with `?execute=true` already `queued`.",
            {"registered": examples.PENDING, "registered_and_executed": examples.QUEUED},
            {**LOCATION, **POLL},
        ),
        400: error(
            "The request, the command or a URL cannot be accepted; nothing was stored.",
            "INVALID_ARGUMENT",
            "COMMAND_NOT_ALLOWED",
            "URL_NOT_ALLOWED",
        ),
        409: error("Another request came before with this `Idempotency-Key`.", "IDEMPOTENCY_CONFLICT"),
        413: error("The body is larger than 256 KB.", "REQUEST_TOO_LARGE"),
        415: error("The body is not declared as JSON.", "UNSUPPORTED_MEDIA_TYPE"),
        **STORED,
        503: NO_WORKER,
    },
    "openapi_extra": _BODY,
}
VALIDATE: dict[str, Any] = {
    "operation_id": "validate",
    "tags": ["Tasks"],
    "summary": "Validate a command",
    "description": "What register would say of the same body, and the exact arguments that ffmpeg would get. Nothing "
    "is stored, fetched or run. A command or a URL that may not run is no error here: it is listed in `violations`.",
    "status_code": 200,
    "responses": {
        200: answer(
            models.Validation,
            "The verdict, and every reason for a bad one.",
            {"valid": examples.VALID, "invalid": examples.INVALID},
        ),
        400: error("The request has not the form of a registration.", "INVALID_ARGUMENT"),
        413: error("The body is larger than 256 KB.", "REQUEST_TOO_LARGE"),
        415: error("The body is not declared as JSON.", "UNSUPPORTED_MEDIA_TYPE"),
        500: INTERNAL,
        "default": OTHER,
    },
    "openapi_extra": _BODY,
}
PRESETS: dict[str, Any] = {
    "operation_id": "presets",
    "tags": ["Tasks"],
    "summary": "List the presets",
    "description": "The commands that are kept ready, by name, each with its parameters: what they are, what they are "
    "where nothing is said, and what they may be. With `looks`, the worker looks at the source before it makes the "
    "command.",
    "status_code": 200,
    "responses": {
        200: answer(options.Presets, "Every preset.", {"presets": examples.PRESETS}),
        500: INTERNAL,
        "default": OTHER,
    },
}
EXECUTE: dict[str, Any] = {
    "operation_id": "execute",
    "tags": ["Tasks"],
    "summary": "Execute a task",
    "description": "Asks for a worker; the task becomes `queued`. On a task that is queued or running already, "
    "nothing happens twice and the answer is the task as it is. The request has no body.",
    "status_code": 202,
    "responses": {
        202: answer(
            models.Task,
            "The task: `queued`, or `running` when a worker has it already. Where too much is asked for at once, it "
            "is handed over somewhat later, without another request; `queue_reason` says so until then.",
            {"queued": examples.QUEUED, "handed_over_later": examples.DELAYED, "running": examples.RUNNING},
            POLL,
        ),
        404: UNKNOWN_TASK,
        409: error("The task has ended.", "TASK_ENDED"),
        **STORED,
        503: NO_WORKER,
    },
}
STATUS: dict[str, Any] = {
    "operation_id": "status",
    "tags": ["Tasks"],
    "summary": "Show a task",
    "description": "The task as it is now. A completed one has fresh links to its outputs, which work for a limited "
    "time and without further sign-in: whoever holds one can read the file.",
    "status_code": 200,
    "responses": {
        200: answer(
            models.Task,
            "The task.",
            {
                "pending": examples.PENDING,
                "running": examples.RUNNING,
                "waiting_for_its_next_try": examples.RETRYING,
                "completed": examples.COMPLETED,
                "failed": examples.FAILED,
                "canceled": examples.CANCELED,
                "outputs_deleted": examples.PURGED,
            },
            POLL,
        ),
        404: UNKNOWN_TASK,
        **STORED,
    },
}
CANCEL: dict[str, Any] = {
    "operation_id": "cancel",
    "tags": ["Tasks"],
    "summary": "Cancel a task",
    "description": "Calls the task off: from the answer on it is `canceled`, and nothing that a worker still does for "
    "it is published. A running ffmpeg is dead within 25 s. The request has no body.",
    "status_code": 202,
    "responses": {
        202: answer(models.Task, "The task, `canceled`.", {"canceled": examples.CANCELED}),
        404: UNKNOWN_TASK,
        409: error("The task has ended; the details say how.", "TASK_ENDED"),
        **STORED,
    },
}
NOTIFY: dict[str, Any] = {
    "operation_id": "notify",
    "tags": ["Tasks"],
    "summary": "Send a task's notices again",
    "description": "Tells everybody who is told of the task's end once more, within about a minute, those included who "
    "know already. For a task that nobody is told of, nothing is sent. The request has no body.",
    "status_code": 202,
    "responses": {
        202: answer(models.Task, "The task; its notices are due.", {"completed": examples.COMPLETED}),
        404: UNKNOWN_TASK,
        409: error("The task has not ended yet.", "TASK_NOT_READY"),
        **STORED,
    },
}
RESULT: dict[str, Any] = {
    "operation_id": "result",
    "tags": ["Tasks"],
    "summary": "Go to a task's result",
    "description": "A redirect to a fresh link to the first output of a completed task.",
    "status_code": 307,
    "response_class": Response,
    "responses": {**_NO_RESULT, 404: UNKNOWN_TASK},
}
RESULT_FILE: dict[str, Any] = {
    **RESULT,
    "operation_id": "result_file",
    "summary": "Go to one of a task's outputs",
    "description": "A redirect to a fresh link to the output of that name, a segment of a playlist included. A player "
    "that follows it finds the other files of a playlist on one machine; in S3 each file needs a link of its own.",
    "responses": {
        **_NO_RESULT,
        404: error("There is no such task, or it has no output of this name.", "TASK_NOT_FOUND", "NOT_FOUND"),
    },
}
LOG: dict[str, Any] = {
    "operation_id": "log",
    "tags": ["Tasks"],
    "summary": "Read a task's log",
    "description": "Of the newest attempt that has one: each command that was run, the end of what ffmpeg said, and "
    "its exit code; at most 64 KB, with your names for the files and without query strings. It is stored when an "
    "attempt is completed or has failed, and kept as long as the outputs, or where there are none as long as the "
    "record.",
    "status_code": 200,
    "response_class": Response,
    "responses": {
        200: {
            "description": "The log.",
            "headers": CORRELATION,
            "content": {"text/plain": {"schema": {"type": "string"}, "example": examples.LOG}},
        },
        404: answer(
            models.Error,
            "There is no such task, or it has no log.",
            {"TASK_NOT_FOUND": examples.ERRORS["TASK_NOT_FOUND"], "NOT_FOUND": examples.NO_LOG},
        ),
        410: error("The log was deleted, with the outputs.", "RESULT_GONE"),
        **STORED,
    },
}
TASKS: dict[str, Any] = {
    "operation_id": "tasks",
    "tags": ["Tasks"],
    "summary": "List tasks",
    "description": "All tasks, the newest first, page by page: ask again with `cursor` until `next_cursor` is null. A "
    "page may have fewer tasks than `limit`, even none, and still a next one. Tasks that are registered meanwhile move "
    "nothing; on AWS a new task may be listed a moment after its registration. Inputs, links to outputs, attempts and "
    "the details of a failure are in a task's status.",
    "status_code": 200,
    "responses": {
        200: answer(
            models.TaskPage, "A page.", {"more_to_come": examples.TASK_PAGE, "the_last_one": examples.LAST_PAGE}
        ),
        400: error("A parameter is not valid, or the cursor is none of ours.", "INVALID_ARGUMENT"),
        404: error("There is no batch with this `batch_id`.", "BATCH_NOT_FOUND"),
        **STORED,
    },
}
DELETE: dict[str, Any] = {
    "operation_id": "delete",
    "tags": ["Tasks"],
    "summary": "Delete what a task has stored",
    "description": "Deletes the outputs and the logs of a task that has ended. The record stays, and shows when in "
    "`purged_at`. Deleting again is no error.",
    "status_code": 204,
    "response_class": Response,
    "responses": {
        204: {"description": "Nothing of it is stored any more.", "headers": CORRELATION},
        404: UNKNOWN_TASK,
        409: error("The task has not ended: cancel it first.", "TASK_NOT_READY"),
        **STORED,
    },
}
HEALTH: dict[str, Any] = {
    "operation_id": "health",
    "tags": ["Service"],
    "summary": "Examine the service",
    "description": "Asks every part that a task needs whether it can be used, and names the ffmpeg that commands are "
    "checked against.",
    "status_code": 200,
    "responses": {
        200: answer(models.Health, "Everything can be used.", {"healthy": examples.HEALTHY}),
        503: answer(models.Health, "A part cannot be used; it says so.", {"unhealthy": examples.UNHEALTHY}),
        500: INTERNAL,
        "default": OTHER,
    },
}

_ALL = (
    REGISTER,
    VALIDATE,
    PRESETS,
    EXECUTE,
    STATUS,
    CANCEL,
    NOTIFY,
    RESULT,
    RESULT_FILE,
    LOG,
    TASKS,
    DELETE,
    *upload_docs.ALL,
    *batch_docs.ALL,
    HEALTH,
)
_OPERATIONS = {words["operation_id"]: words for words in _ALL} | admin_docs.OPERATIONS


def words(operation_id: str) -> dict[str, Any]:
    """What FastAPI is to be told of an operation."""
    return _OPERATIONS[operation_id]


def with_examples(spec: dict[str, Any]) -> dict[str, Any]:
    """The description with its examples as they are: FastAPI leaves the nulls out, which the schemas require."""
    for methods in spec["paths"].values():
        for operation in methods.values():
            for status, response in words(operation["operationId"])["responses"].items():
                if "model" not in response:
                    continue
                shown = response["content"]["application/json"]["examples"]
                operation["responses"][str(status)]["content"]["application/json"]["examples"] = shown
    return spec
