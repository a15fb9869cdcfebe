"""What the API's description says of the operations on uploads, as docs.py does of the others."""

from typing import Any

from starlette.responses import Response

from handlers.web import upload_examples, uploads
from handlers.web.answers import CORRELATION, LATER, STORED, answer, error

TAG = {"name": "Uploads", "description": "Files that are sent past the API, to be inputs of tasks."}
_UNKNOWN = error("There is no such upload, or not any more.", "UPLOAD_NOT_FOUND")

UPLOAD: dict[str, Any] = {
    "operation_id": "upload",
    "tags": ["Uploads"],
    "summary": "Begin an upload",
    "description": "Says into which parts to cut the file, and to which link to PUT the bytes of each: in any order, "
    "side by side, and again when one breaks off. Up to 100 MiB it is one part. The bytes do not pass through the API, "
    "and the links need no further sign-in: whoever holds one can send that part.",
    "status_code": 201,
    "responses": {
        201: answer(
            uploads.Upload,
            "The upload, `open`.",
            {"begun": upload_examples.BEGUN},
            {"Location": {"description": "The upload.", "schema": {"type": "string"}}},
        ),
        400: error("The request cannot be accepted.", "INVALID_ARGUMENT"),
        413: error(
            "The file is larger than 20 GiB, or than this service takes; or the body than 256 KB.",
            "FILE_TOO_LARGE",
            "REQUEST_TOO_LARGE",
        ),
        415: error("The body is not declared as JSON.", "UNSUPPORTED_MEDIA_TYPE"),
        **STORED,
        429: error(
            "There is too much to do at the moment; or the caller has as many uploads open as it may, and "
            "`details.upload_ids` names some that it can complete or delete.",
            "TOO_MANY_REQUESTS",
            headers=LATER,
        ),
    },
    "openapi_extra": {
        "requestBody": {
            "content": {"application/json": {"examples": {"file": {"summary": "a file", "value": upload_examples.NEW}}}}
        }
    },
}
SHOW: dict[str, Any] = {
    "operation_id": "show_upload",
    "tags": ["Uploads"],
    "summary": "Show an upload",
    "description": "Which parts are there, and fresh links for the others: what an upload that was interrupted goes on "
    "with.",
    "status_code": 200,
    "responses": {
        200: answer(
            uploads.Upload,
            "The upload.",
            {"open": upload_examples.OPEN, "complete": upload_examples.COMPLETE},
        ),
        404: _UNKNOWN,
        **STORED,
    },
}
COMPLETE: dict[str, Any] = {
    "operation_id": "complete_upload",
    "tags": ["Uploads"],
    "summary": "Complete an upload",
    "description": "Checks that every part is there with its size, and makes them one file, which never changes again. "
    "`input` is then the URL of an input. Completing again is no error. The request needs no body.",
    "status_code": 200,
    "responses": {
        200: answer(uploads.Upload, "The upload, `complete`.", {"complete": upload_examples.COMPLETE}),
        404: _UNKNOWN,
        409: error("Parts are missing; `details.missing_parts` has their numbers.", "UPLOAD_INCOMPLETE"),
        **STORED,
    },
}
DELETE: dict[str, Any] = {
    "operation_id": "delete_upload",
    "tags": ["Uploads"],
    "summary": "Delete an upload",
    "description": "Deletes its bytes, also those of an open one, to which no more can be sent. A task that was to use "
    "it and has not fetched it yet fails with `SOURCE_EXPIRED`.",
    "status_code": 204,
    "response_class": Response,
    "responses": {
        204: {"description": "Nothing of it is stored any more.", "headers": CORRELATION},
        404: _UNKNOWN,
        **STORED,
    },
}
ALL = (UPLOAD, SHOW, COMPLETE, DELETE)
