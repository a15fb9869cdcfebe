"""What the API's description says of the operations for admins, in the forms of answers.py."""

from typing import Any

from handlers.web import admin_examples, admin_models
from handlers.web.answers import STORED, answer, error

_ETAG = {"ETag": {"description": "The version, for `If-Match`.", "schema": {"type": "string"}, "example": '"3"'}}
_DENIED = error("The key is not an admin's.", "PERMISSION_DENIED")

SETTINGS: dict[str, Any] = {
    "operation_id": "settings",
    "tags": ["Service"],
    "summary": "Show the settings at run time",
    "description": "What can be set while the service runs, as it holds, and whether it was set or is the "
    "environment's. For admins; without any keys, for everybody who reaches the service.",
    "status_code": 200,
    "responses": {
        200: answer(
            admin_models.LiveSettings,
            "The settings.",
            {"set": admin_examples.SETTINGS, "untouched_on_aws": admin_examples.UNTOUCHED},
            _ETAG,
        ),
        403: _DENIED,
        **STORED,
    },
}
PUT_SETTINGS: dict[str, Any] = {
    "operation_id": "put_settings",
    "tags": ["Service"],
    "summary": "Set the settings at run time",
    "description": "Replaces them all: what is null or left out becomes the environment's again. It holds for new "
    "tasks, at once in the process that answers and within 5 s in every other; on one machine the pool of workers "
    "grows or shrinks within a second, and what runs is let finish. Tasks that are registered already keep their "
    "retention. With `If-Match`, of two changes to the same version one is refused.",
    "status_code": 200,
    "responses": {
        200: answer(
            admin_models.LiveSettings, "The settings as they hold now.", {"set": admin_examples.SETTINGS}, _ETAG
        ),
        400: error(
            "Something cannot be set so; `details.errors` has every fault, and nothing is set.", "INVALID_ARGUMENT"
        ),
        403: _DENIED,
        412: error("The settings have changed since the version that `If-Match` names.", "SETTINGS_CHANGED"),
        413: error("The body is larger than 256 KB.", "REQUEST_TOO_LARGE"),
        415: error("The body is not declared as JSON.", "UNSUPPORTED_MEDIA_TYPE"),
        **STORED,
    },
    "openapi_extra": {
        "requestBody": {
            "content": {
                "application/json": {
                    "examples": {
                        "some": {"summary": "some of them", "value": admin_examples.NEW_SETTINGS},
                        "none": {"summary": "all as in the environment", "value": {}},
                    }
                }
            }
        }
    },
}
SYSTEM: dict[str, Any] = {
    "operation_id": "system",
    "tags": ["Service"],
    "summary": "Show the load",
    "description": "How many tasks wait and run, how many have ended within the last minute and hour, and which "
    "workers there are; on one machine, what it is busy with. The figures may lag behind by moments. For admins; "
    "without any keys, for everybody who reaches the service.",
    "status_code": 200,
    "responses": {
        200: answer(
            admin_models.System, "The load.", {"one_machine": admin_examples.BUSY, "idle_on_aws": admin_examples.IDLE}
        ),
        403: _DENIED,
        **STORED,
    },
}

OPERATIONS = {words["operation_id"]: words for words in (SETTINGS, PUT_SETTINGS, SYSTEM)}
