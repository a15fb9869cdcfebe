"""What the API's description says of the operations on batches, as docs.py does of the others."""

from typing import Any

from handlers.web import batch_examples, batch_models, models
from handlers.web.answers import POLL, STORED, answer, error

TAG = {"name": "Batches", "description": "One wish for many files, each of which is a task."}
_UNKNOWN = error("There is no such batch.", "BATCH_NOT_FOUND")
_LOCATION = {"Location": {"description": "The batch.", "schema": {"type": "string"}}}
_REFUSED = answer(
    models.Error,
    "The request, the command or a file cannot be accepted; nothing was stored. `details.files` has the first 20 files "
    "that cannot, each with its index and the reason.",
    {"files": batch_examples.BAD_LINES, "source": batch_examples.NO_SOURCE},
)

REGISTER: dict[str, Any] = {
    "operation_id": "register_batch",
    "tags": ["Batches"],
    "summary": "Register a batch, and execute it",
    "description": "Checks the wish once, and each file's URL and name, without fetching anything, and stores all "
    "tasks: from the answer on they are `queued`, are listed, and have a status, each as if it had been registered and "
    "executed by itself. All or nothing: one file that cannot be accepted refuses the batch. A wish is that of a task, "
    "with `{name}` in the place of the file's name, and `{stem}` in that of its name without the extension. A URL "
    "stands in the list once.",
    "status_code": 202,
    "responses": {
        200: answer(
            batch_models.RegisteredBatch,
            "The same request came before with this `Idempotency-Key`: its batch, as it is now.",
            {"registered_before": batch_examples.REGISTERED},
            {**_LOCATION, **POLL},
        ),
        202: answer(
            batch_models.RegisteredBatch,
            "The batch, `queued`, with the names of all its files.",
            {"registered": batch_examples.REGISTERED},
            {**_LOCATION, **POLL},
        ),
        400: _REFUSED,
        409: error("Another request came before with this `Idempotency-Key`.", "IDEMPOTENCY_CONFLICT"),
        413: error("The body is larger than 5 MB.", "REQUEST_TOO_LARGE"),
        415: error("The body is not declared as JSON.", "UNSUPPORTED_MEDIA_TYPE"),
        **STORED,
    },
    "openapi_extra": {
        "requestBody": {
            "content": {
                "application/json": {
                    "examples": {
                        "urls": {"summary": "a list of URLs", "value": batch_examples.REGISTRATION},
                        "prefix": {"summary": "all below a prefix, on AWS", "value": batch_examples.OF_A_PREFIX},
                        "folder": {"summary": "all in a folder, on one machine", "value": batch_examples.OF_A_FOLDER},
                    }
                }
            }
        }
    },
}
SHOW: dict[str, Any] = {
    "operation_id": "batch",
    "tags": ["Batches"],
    "summary": "Show a batch",
    "description": "How far the batch is: its tasks by status, the files that are converted, those that failed and "
    "why, and what happened when. All tasks of the batch, with their ids, are in `GET /ffmpeg/tasks?batch_id=`.",
    "status_code": 200,
    "responses": {
        200: answer(
            batch_models.Batch,
            "The batch.",
            {
                "queued": batch_examples.QUEUED,
                "running": batch_examples.RUNNING,
                "failed": batch_examples.FAILED,
                "canceled": batch_examples.CANCELED,
            },
            POLL,
        ),
        404: _UNKNOWN,
        **STORED,
    },
}
CANCEL: dict[str, Any] = {
    "operation_id": "cancel_batch",
    "tags": ["Batches"],
    "summary": "Cancel a batch",
    "description": "Calls off all of its tasks that have not ended. What is converted stays. Of a task to which "
    "no worker had come nobody is told, neither by `callback_url` nor by an event, but by `POST "
    "/ffmpeg/notify/{task_id}`. The request has no body.",
    "status_code": 202,
    "responses": {
        202: answer(batch_models.Batch, "The batch, `canceled`.", {"canceled": batch_examples.CANCELED}),
        404: _UNKNOWN,
        409: answer(models.Error, "All of its tasks have ended.", {"TASK_ENDED": batch_examples.ENDED}),
        **STORED,
    },
}
ALL = (REGISTER, SHOW, CANCEL)
