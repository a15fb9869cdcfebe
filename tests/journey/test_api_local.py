"""The operations over real HTTP, as a caller of the local service meets them."""

import logging
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from core import aftermath, moves, sweep
from core.task import Failure, FailureCode, Progress, Stage, Task, Timings
from handlers.web import models
from support import api_server
from support.api_server import FFMPEG_VERSION, ONE_OUTPUT, Api

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DAY = timedelta(hours=24)
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with api_server.running(tmp_path) as running:
        yield running


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code, after a look at the rest of what every error answer has."""
    body = models.Error.model_validate_json(answer.text, strict=False)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-correlation-id"]
    assert body.error.message
    return answer.status_code, body.error.code


def task_of(answer: httpx.Response) -> dict[str, Any]:
    models.Task.model_validate_json(answer.text)
    shown: dict[str, Any] = answer.json()
    return shown


def test_register_stores_a_pending_task_and_shows_it(api: Api) -> None:
    answer = api.http.post("/ffmpeg/register", json=ONE_OUTPUT, headers={"X-Correlation-Id": "order-1"})

    assert answer.status_code == 201
    task = task_of(answer)
    assert UUID.fullmatch(task["task_id"])
    assert UTC_TIME.fullmatch(task["created_at"])
    progress = dict.fromkeys(("percent", "frame", "fps", "speed", "out_time_seconds", "eta_seconds"))
    timings = dict.fromkeys(("queued_seconds", "download_seconds", "transcode_seconds", "upload_seconds"))
    assert task == {
        "task_id": task["task_id"],
        "status": "pending",
        "stage": None,
        "progress": progress,
        "command": ONE_OUTPUT["command"],
        "input_files": ONE_OUTPUT["input_files"],
        "output_files": ["output.mp4"],
        "outputs": [],
        "output_count": 0,
        "output_url": None,
        "error": None,
        "timings": timings,
        "attempt": 0,
        "attempts": [],
        "compute": "cpu",
        "queue_reason": None,
        "created_at": task["created_at"],
        "queued_at": None,
        "started_at": None,
        "finished_at": None,
        "expires_at": None,
        "purged_at": None,
        "timeout_seconds": None,
        "metadata": {},
        "destination": None,
        "correlation_id": "order-1",
        "batch_id": None,
        "key_name": None,
        "callback_url": None,
        "notices": [],
    }
    assert answer.headers["location"] == f"/ffmpeg/status/{task['task_id']}"
    assert task_of(api.http.get(answer.headers["location"])) == task
    assert api.dispatcher.submitted == []
    assert api.counted == ["TasksRegistered"]


def test_register_accepts_several_outputs(api: Api) -> None:
    body = {
        "command": "-i a -map 0:v v.mp4 -map 0:a a.m4a",
        "input_files": {"a": "https://media.example.com/a"},
        "output_files": ["v.mp4", "a.m4a"],
    }
    answer = api.http.post("/ffmpeg/register", json=body)
    assert (answer.status_code, task_of(answer)["output_files"]) == (201, ["v.mp4", "a.m4a"])


def test_register_never_shows_a_query_string(api: Api) -> None:
    url = "https://media.example.com/a.mp4?X-Signature=s3cr3t#fragment"
    answer = api.http.post("/ffmpeg/register", json={**ONE_OUTPUT, "input_files": {"input.mp4": url}})
    status = api.http.get(answer.headers["location"])
    assert "s3cr3t" not in answer.text + status.text
    assert "s3cr3t" in api.store.get(task_of(answer)["task_id"]).input_files["input.mp4"]


def test_register_and_execute_in_one_call(api: Api) -> None:
    answer = api.http.post("/ffmpeg/register?execute=true", json=ONE_OUTPUT)
    assert (answer.status_code, task_of(answer)["status"]) == (201, "queued")
    assert [task.task_id for task in api.dispatcher.submitted] == [answer.json()["task_id"]]
    assert api.counted == ["TasksRegistered", "TasksExecuted"]


def test_register_and_execute_without_a_worker_says_which_task_is_stored(api: Api) -> None:
    api.dispatcher.refusing = True
    answer = api.http.post("/ffmpeg/register?execute=true", json=ONE_OUTPUT)
    assert error_of(answer) == (503, "DISPATCH_UNAVAILABLE")
    task_id = answer.json()["error"]["details"]["task_id"]

    api.dispatcher.refusing = False
    assert api.http.post(f"/ffmpeg/execute/{task_id}").status_code == 202
    sweep.sweep(api.services, now=datetime.now(UTC) + timedelta(minutes=1))
    assert [task.task_id for task in api.dispatcher.submitted] == [task_id]


def test_execute_queues_once_however_often_it_is_called(api: Api) -> None:
    task_id = api.registered()
    first = api.http.post(f"/ffmpeg/execute/{task_id}")
    again = api.http.post(f"/ffmpeg/execute/{task_id}")

    assert (first.status_code, again.status_code) == (202, 202)
    assert task_of(first)["status"] == "queued"
    assert task_of(first) == task_of(again)
    assert UTC_TIME.fullmatch(task_of(first)["queued_at"])
    assert len(api.dispatcher.submitted) == 1
    assert api.counted == ["TasksRegistered", "TasksExecuted"]


def test_execute_from_many_sides_at_once_submits_one_job(api: Api) -> None:
    task_id = api.registered()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: api.http.post(f"/ffmpeg/execute/{task_id}"), range(20)))
    assert Counter(answer.status_code for answer in answers) == {202: 20}
    assert len(api.dispatcher.submitted) == 1
    assert api.counted.count("TasksExecuted") == 1


def test_execute_of_an_ended_task_is_refused(api: Api) -> None:
    task_id = api.registered()
    api.completed(task_id, b"video")
    answer = api.http.post(f"/ffmpeg/execute/{task_id}")
    assert error_of(answer) == (409, "TASK_ENDED")
    assert answer.json()["error"]["details"] == {"task_id": task_id, "status": "completed"}


def test_execute_without_a_worker_says_when_to_try_again(api: Api) -> None:
    task_id = api.registered()
    api.dispatcher.refusing = True
    answer = api.http.post(f"/ffmpeg/execute/{task_id}")
    assert error_of(answer) == (503, "DISPATCH_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    assert task_of(api.http.get(f"/ffmpeg/status/{task_id}"))["status"] == "queued"


def test_status_says_when_to_ask_again_until_the_task_has_ended(api: Api) -> None:
    task_id = api.registered()
    path = f"/ffmpeg/status/{task_id}"
    assert api.http.get(path).headers["retry-after"] == "1"
    api.completed(task_id, b"video")
    assert "retry-after" not in api.http.get(path).headers


def test_status_of_a_running_task_shows_progress(api: Api) -> None:
    task = api.running(api.registered())
    seen = moves.report(
        task,
        now=datetime.now(UTC) + timedelta(seconds=1),
        fence=1,
        stage=Stage.TRANSCODING,
        progress=Progress(percent=12.5, frame=30, fps=60.0, speed=2.0, out_time_seconds=1.0, eta_seconds=3.5),
        timings=Timings(download_seconds=0.25),
    )
    api.store.replace(seen, task)

    shown = task_of(api.http.get(f"/ffmpeg/status/{task.task_id}"))
    assert (shown["status"], shown["stage"], shown["attempt"]) == ("running", "transcoding", 1)
    assert shown["progress"] == {
        "percent": 12.5,
        "frame": 30,
        "fps": 60.0,
        "speed": 2.0,
        "out_time_seconds": 1.0,
        "eta_seconds": 3.5,
    }
    assert shown["timings"]["queued_seconds"] == 0.0
    assert shown["timings"]["download_seconds"] == 0.25


def test_status_of_a_failed_task_says_why(api: Api) -> None:
    task = api.running(api.registered())
    error = Failure.of(FailureCode.MEDIA_INVALID, "input.mp4 is not a video.", details={"input": "input.mp4"})
    api.store.replace(failed(task, error), task)

    shown = task_of(api.http.get(f"/ffmpeg/status/{task.task_id}"))
    assert shown["status"] == "failed"
    assert shown["error"] == {
        "code": "MEDIA_INVALID",
        "message": "input.mp4 is not a video.",
        "retryable": False,
        "details": {"input": "input.mp4"},
    }
    assert (shown["outputs"], shown["output_url"]) == ([], None)


def failed(task: Task, error: Failure, *, retry_after: timedelta = timedelta(0)) -> Task:
    """The task as its worker leaves it."""
    return moves.fail(task, now=datetime.now(UTC), fence=1, error=error, timings=Timings(), retry_after=retry_after)


def test_status_of_a_task_that_waits_for_its_next_try_says_why_and_until_when(api: Api) -> None:
    task = api.running(api.registered())
    error = Failure.of(FailureCode.DOWNLOAD_FAILED, "The source of input.mp4 answered 503.")
    waiting = api.store.replace(failed(task, error, retry_after=timedelta(seconds=20)), task)

    before = datetime.now(UTC)
    answer = api.http.get(f"/ffmpeg/status/{task.task_id}")
    shown = task_of(answer)
    (attempt,) = shown["attempts"]
    assert (shown["status"], shown["attempt"], shown["error"]) == ("queued", 1, None)
    assert (attempt["ending"], attempt["code"], attempt["message"]) == ("failed", error.code, error.message)
    assert waiting.dispatch_due_at
    least, most = waiting.dispatch_due_at - datetime.now(UTC), waiting.dispatch_due_at - before
    assert least <= timedelta(seconds=int(answer.headers["retry-after"])) < most + timedelta(seconds=1)


def test_status_of_a_task_whose_outputs_were_deleted_says_so_and_links_nothing(api: Api) -> None:
    task = api.completed(api.registered(), b"video")
    path = f"/ffmpeg/status/{task.task_id}"
    before = task_of(api.http.get(path))
    assert datetime.fromisoformat(before["expires_at"]) - datetime.fromisoformat(before["finished_at"]) == DAY

    assert task.expires_at
    aftermath.sweep(api.services, now=task.expires_at + timedelta(seconds=1))
    after = task_of(api.http.get(path))
    assert UTC_TIME.fullmatch(after["purged_at"])
    assert after == {**before, "outputs": [], "output_url": None, "purged_at": after["purged_at"]}
    assert error_of(api.http.get(before["output_url"])) == (404, "NOT_FOUND")


def test_status_of_a_completed_task_links_to_the_very_bytes(api: Api) -> None:
    content = bytes(range(256)) * 40
    task = api.completed(api.registered(), content)

    shown = task_of(api.http.get(f"/ffmpeg/status/{task.task_id}"))
    (output,) = shown["outputs"]
    assert shown["output_url"] == output["url"]
    assert (output["size_bytes"], output["sha256"]) == (len(content), task.outputs[0].sha256)
    whole = httpx.get(output["url"], trust_env=False)
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=100-199", 100, 200), ("bytes=10000-", 10000, 10240), ("bytes=-40", 10200, 10240)],
)
def test_an_output_can_be_read_from_any_place(api: Api, asked: str, start: int, end: int) -> None:
    content = bytes(range(256)) * 40
    api.completed(task_id := api.registered(), content)
    url = api.http.get(f"/ffmpeg/status/{task_id}").json()["output_url"]
    part = api.http.get(url, headers={"Range": asked})
    assert (part.status_code, part.content) == (206, content[start:end])
    assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}"


def test_an_output_answers_head_without_bytes(api: Api) -> None:
    api.completed(task_id := api.registered(), b"x" * 1000)
    head = api.http.head(api.http.get(f"/ffmpeg/status/{task_id}").json()["output_url"])
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "1000")


def test_a_link_that_was_tampered_with_is_a_link_to_nothing(api: Api) -> None:
    api.completed(task_id := api.registered(), b"x")
    url = httpx.URL(api.http.get(f"/ffmpeg/status/{task_id}").json()["output_url"])
    _, _, token, key = url.path.split("/", 3)
    expires, signature = token.split("-")
    wrong = "0" * len(signature)
    expired = api.objects.link(key, expires_in_seconds=0)
    for path in (
        f"/files/{expires}-{wrong}/{key}",
        f"/files/{int(expires) + 1}-{signature}/{key}",
        f"/files/{token}/{key}x",
        f"/files/{token}/../../tasks.db",
        f"/files/{token}/%2e%2e/%2e%2e/tasks.db",
        f"/files/x/{key}",
        expired,
    ):
        assert error_of(api.http.get(path)) == (404, "NOT_FOUND"), path


def test_health_names_every_part_and_the_version_of_ffmpeg(api: Api) -> None:
    answer = api.http.get("/ffmpeg/health")
    health = models.Health.model_validate_json(answer.text)
    assert (answer.status_code, health.status, health.ffmpeg and health.ffmpeg.version) == (
        200,
        "healthy",
        FFMPEG_VERSION,
    )
    assert {name: check.ready for name, check in health.checks.items()} == {
        "task_store": True,
        "object_store": True,
        "dispatcher": True,
    }


def test_health_is_503_and_says_which_part_when_one_cannot_be_used(api: Api) -> None:
    api.registered()
    with sqlite3.connect(api.data / "tasks.db") as broken:
        broken.execute("DROP TABLE tasks")
    broken.close()
    answer = api.http.get("/ffmpeg/health")
    health = models.Health.model_validate_json(answer.text)
    assert (answer.status_code, health.status) == (503, "unhealthy")
    assert [name for name, check in health.checks.items() if not check.ready] == ["task_store"]
    assert "task store" in health.checks["task_store"].detail
    assert str(api.data) not in answer.text


def test_a_store_that_fails_is_a_500_that_tells_nothing_but_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    task_id = api.registered()
    with sqlite3.connect(api.data / "tasks.db") as broken:
        broken.execute("DROP TABLE tasks")
    broken.close()
    with caplog.at_level(logging.ERROR, logger="handlers.web"):
        answer = api.http.get(f"/ffmpeg/status/{task_id}", headers={"X-Correlation-Id": "find-me"})
    assert error_of(answer) == (500, "INTERNAL_ERROR")
    assert answer.json()["error"]["details"] == {}
    assert answer.headers["x-correlation-id"] == "find-me"
    assert "no such table" in caplog.text


def test_the_description_is_served(api: Api) -> None:
    assert api.http.get("/openapi.json").json()["info"]["title"]
    assert api.http.get("/docs").headers["content-type"].startswith("text/html")
