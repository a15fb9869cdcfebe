"""Results, metadata and deletion over real HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from core import moves
from core.task import Failure, FailureCode, Task, Timings
from handlers.web import models
from support import api_server
from support.api_server import ONE_OUTPUT, Api

FAILURE = Failure.of(FailureCode.MEDIA_INVALID, "It is no video.", details={"input": "input.mp4"})


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api_server.running(Path(tmp_path_factory.mktemp("api"))) as running:
        yield running


def failed(api: Api, task_id: str) -> Task:
    running, now = api.running(task_id), datetime.now(UTC)
    task = moves.fail(running, now=now, fence=1, error=FAILURE, timings=Timings(), retry_after=timedelta(0))
    return api.store.replace(task, running)


def error_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, models.Error.model_validate_json(answer.text).error.code


def result(api: Api, task_id: str, rest: str = "") -> httpx.Response:
    return api.http.get(f"/ffmpeg/result/{task_id}{rest}")


@pytest.mark.parametrize("rest", ["", "/output.mp4"])
def test_a_result_is_one_redirect_away(api: Api, rest: str) -> None:
    task_id = api.registered()
    api.completed(task_id, b"a video")
    answer = result(api, task_id, rest)
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (307, b"", "no-store")
    assert api.http.get(answer.headers["location"]).content == b"a video"
    followed = api.http.get(f"/ffmpeg/result/{task_id}{rest}", follow_redirects=True)
    assert (followed.status_code, followed.content, followed.headers["content-type"]) == (200, b"a video", "video/mp4")


def test_a_result_that_is_not_there_yet_says_when_to_ask_again(api: Api) -> None:
    task_id = api.registered()
    for _ in ("pending", "running"):
        answer = result(api, task_id)
        assert error_of(answer) == (409, "TASK_NOT_READY")
        assert answer.headers["retry-after"] == "1"
        if api.store.get(task_id).status == "pending":
            api.running(task_id)


def test_what_failed_or_was_canceled_has_no_result(api: Api) -> None:
    first, second = api.registered(), api.registered()
    failed(api, first)
    answer = result(api, first)
    assert error_of(answer) == (422, "TRANSCODE_FAILED")
    assert answer.json()["error"]["details"]["error"] == {
        "code": "MEDIA_INVALID",
        "message": "It is no video.",
        "retryable": False,
        "details": {"input": "input.mp4"},
    }
    api.http.post(f"/ffmpeg/cancel/{second}")
    answer = result(api, second)
    assert error_of(answer) == (409, "TASK_ENDED")
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("name", ["none.mp4", "a/none.mp4", "..%2f..%2fsecret", "%00", "a%2F", "%ff", "x" * 2000])
def test_a_name_that_no_output_has_is_not_found(api: Api, name: str) -> None:
    task_id = api.registered()
    api.completed(task_id, b"a video")
    answer = result(api, task_id, f"/{name}")
    assert error_of(answer) == (404, "NOT_FOUND")
    assert answer.json()["error"]["details"]["filenames"] == ["output.mp4"]


def test_an_unknown_task_has_neither_result_nor_anything_to_delete(api: Api) -> None:
    for task_id in ("0b9c5c3e-0000-4000-8000-000000000000", "a b", "x" * 500):
        assert error_of(result(api, task_id)) == (404, "TASK_NOT_FOUND")
        assert error_of(api.http.delete(f"/ffmpeg/tasks/{task_id}")) == (404, "TASK_NOT_FOUND")


def test_what_is_deleted_is_gone_for_good(api: Api) -> None:
    task_id = api.registered()
    output = api.completed(task_id, b"a video").outputs[0]
    link = result(api, task_id).headers["location"]
    before = api.http.get(f"/ffmpeg/status/{task_id}").json()

    deleted = api.http.delete(f"/ffmpeg/tasks/{task_id}")

    assert (deleted.status_code, deleted.content, "content-type" in deleted.headers) == (204, b"", False)
    assert api.objects.head(output.key) is None
    assert api.http.get(link).status_code == 404
    assert error_of(result(api, task_id)) == (410, "RESULT_GONE")
    after = api.http.get(f"/ffmpeg/status/{task_id}").json()
    assert after["purged_at"]
    assert after == {**before, "outputs": [], "output_url": None, "purged_at": after["purged_at"]}
    assert api.http.delete(f"/ffmpeg/tasks/{task_id}").status_code == 204


def test_a_task_that_has_not_ended_is_canceled_before_it_is_deleted(api: Api) -> None:
    task_id = api.registered()
    api.running(task_id)
    assert error_of(api.http.delete(f"/ffmpeg/tasks/{task_id}")) == (409, "TASK_NOT_READY")
    api.http.post(f"/ffmpeg/cancel/{task_id}")
    assert api.http.delete(f"/ffmpeg/tasks/{task_id}").status_code == 204


def test_metadata_and_timeout_come_back_as_they_were_sent(api: Api) -> None:
    words = {"order": "4711", "ü" * 64: "日" * 256, "empty": ""}
    sent = {**ONE_OUTPUT, "metadata": words, "timeout_seconds": 3600}
    answer = api.http.post("/ffmpeg/register", json=sent)
    assert (answer.status_code, answer.json()["metadata"], answer.json()["timeout_seconds"]) == (201, words, 3600)
    status = api.http.get(f"/ffmpeg/status/{answer.json()['task_id']}").json()
    assert (status["metadata"], status["timeout_seconds"]) == (words, 3600)
    plain = api.http.post("/ffmpeg/register", json=ONE_OUTPUT).json()
    assert (plain["metadata"], plain["timeout_seconds"]) == ({}, None)


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"metadata": {str(n): "" for n in range(11)}}, "metadata", "at most 10 entries"),
        ({"metadata": {"": "x"}}, "metadata", "must not be empty"),
        ({"metadata": {"k" * 65: "x"}}, f"metadata.{'k' * 51}…", "at most 64 characters"),
        ({"metadata": {"k": "x" * 257}}, "metadata.k", "at most 256 characters"),
        ({"metadata": {"k": 5}}, "metadata.k", "must be text"),
        ({"metadata": {"k": {}}}, "metadata.k", "must be text"),
        ({"metadata": []}, "metadata", "must be an object"),
        ({"metadata": None}, "metadata", "must be an object"),
        ({"timeout_seconds": 0}, "timeout_seconds", "at least 1"),
        ({"timeout_seconds": 3601}, "timeout_seconds", "from 1 to 3600"),
        ({"timeout_seconds": "60"}, "timeout_seconds", "must be a whole number"),
        ({"timeout_seconds": 1.5}, "timeout_seconds", "must be a whole number"),
        ({"timeout_seconds": True}, "timeout_seconds", "must be a whole number"),
    ],
)
@pytest.mark.parametrize("operation", ["register", "validate"])
def test_metadata_and_timeout_are_bounded(
    api: Api, operation: str, wrong: dict[str, Any], field: str, words: str
) -> None:
    answer = api.http.post(f"/ffmpeg/{operation}", json={**ONE_OUTPUT, **wrong})
    assert error_of(answer) == (400, "INVALID_ARGUMENT")
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["details"]["field"] == field or (field == "metadata" and error["details"]["field"].startswith(field))
