"""The API's description is complete, and its examples are true."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from core.local.task_store import SqliteTaskStore
from core.ports import Services
from core.settings import Settings
from core.task import FailureCode, Status
from handlers.web.app import create_app
from handlers.web.errors import CODES
from support.recording import RecordingDispatcher

BODILESS = ("204", "307")


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    unused: Any = None
    services = Services(store=unused, records=unused, objects=unused, dispatcher=RecordingDispatcher())
    return create_app(services, Settings(), ffmpeg_version="9").openapi()


def operations(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each JSON body that the operation takes or gives, with where it stands."""
    if "requestBody" in operation:
        yield "request", operation["requestBody"]["content"]["application/json"]
    for status, response in operation["responses"].items():
        if status not in BODILESS and "application/json" in response["content"]:
            yield status, response["content"]["application/json"]


def test_the_operations_are_those_of_the_contract(spec: dict[str, Any]) -> None:
    assert {name: operation["operationId"] for name, operation in operations(spec)} == {
        "POST /ffmpeg/register": "register",
        "POST /ffmpeg/validate": "validate",
        "GET /ffmpeg/presets": "presets",
        "POST /ffmpeg/execute/{task_id}": "execute",
        "GET /ffmpeg/status/{task_id}": "status",
        "POST /ffmpeg/cancel/{task_id}": "cancel",
        "POST /ffmpeg/notify/{task_id}": "notify",
        "GET /ffmpeg/result/{task_id}": "result",
        "GET /ffmpeg/result/{task_id}/{filename}": "result_file",
        "GET /ffmpeg/log/{task_id}": "log",
        "GET /ffmpeg/tasks": "tasks",
        "DELETE /ffmpeg/tasks/{task_id}": "delete",
        "POST /ffmpeg/uploads": "upload",
        "GET /ffmpeg/uploads/{upload_id}": "show_upload",
        "POST /ffmpeg/uploads/{upload_id}/complete": "complete_upload",
        "DELETE /ffmpeg/uploads/{upload_id}": "delete_upload",
        "POST /ffmpeg/batches": "register_batch",
        "GET /ffmpeg/batches/{batch_id}": "batch",
        "POST /ffmpeg/batches/{batch_id}/cancel": "cancel_batch",
        "GET /ffmpeg/health": "health",
        "GET /ffmpeg/settings": "settings",
        "PUT /ffmpeg/settings": "put_settings",
        "GET /ffmpeg/system": "system",
    }


def test_every_operation_is_described(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec):
        assert operation["summary"], name
        assert len(operation["description"]) > 40, name
        assert operation["tags"], name
        for parameter in operation.get("parameters", []):
            assert parameter["description"], name


def test_every_body_has_examples_that_fit_its_schema(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec):
        for place, body in bodies(operation):
            assert body["examples"], (name, place)
            schema = {**body["schema"], "components": spec["components"]}
            for example in body["examples"].values():
                jsonschema.validate(example["value"], schema, format_checker=jsonschema.FormatChecker())


def test_every_error_has_the_one_schema(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec):
        responses = operation["responses"]
        assert {"500", "default"} <= set(responses), name
        assert ("422" in responses) is name.startswith("GET /ffmpeg/result/"), name
        for status, response in responses.items():
            if status[0] in "45d" and (name, status) != ("GET /ffmpeg/health", "503"):
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}, (name, status)


def test_every_answer_that_says_when_to_come_back_documents_it(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec):
        for status in {"429", "503"} & set(operation["responses"]):
            if name != "GET /ffmpeg/health":
                assert "Retry-After" in operation["responses"][status]["headers"], (name, status)


def test_every_operation_on_a_stored_task_may_be_too_much(spec: dict[str, Any]) -> None:
    stored = {name for name, operation in operations(spec) if {"429", "503"} <= set(operation["responses"])}
    assert {name for name, _ in operations(spec)} - stored == {
        "POST /ffmpeg/validate",
        "GET /ffmpeg/presets",
        "GET /ffmpeg/health",
    }


def test_register_describes_its_key(spec: dict[str, Any]) -> None:
    (key,) = [one for one in spec["paths"]["/ffmpeg/register"]["post"]["parameters"] if one["in"] == "header"]
    assert (key["name"].lower(), key["required"]) == ("idempotency-key", False)


def test_every_answer_documents_the_correlation_id(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec):
        for status, response in operation["responses"].items():
            assert "X-Correlation-Id" in response["headers"], (name, status)


def test_every_code_is_listed(spec: dict[str, Any]) -> None:
    schemas = spec["components"]["schemas"]
    assert schemas["ErrorInfo"]["properties"]["code"]["enum"] == list(CODES)
    assert schemas["FailureCode"]["enum"] == [code.value for code in FailureCode]
    assert schemas["Status"]["enum"] == [status.value for status in Status]
    for code in (*CODES, *FailureCode):
        assert f"`{code}`" in spec["info"]["description"]


def test_nothing_of_the_framework_shows_through(spec: dict[str, Any]) -> None:
    assert not {"HTTPValidationError", "ValidationError"} & set(spec["components"]["schemas"])


def test_making_the_app_opens_nothing(tmp_path: Any) -> None:
    store = SqliteTaskStore(tmp_path / "tasks.db")
    unused: Any = None
    create_app(
        Services(store=store, records=unused, objects=unused, dispatcher=RecordingDispatcher()),
        Settings(),
        ffmpeg_version="9",
    )
    assert list(tmp_path.iterdir()) == []
