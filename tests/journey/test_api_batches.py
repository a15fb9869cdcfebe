"""Batches over HTTP: what is taken and refused, what is shown before, while and after workers come, and on Lambda."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from core import moves
from core.batch import MOST_TASKS, task_id
from core.batch_view import LIST_GONE
from core.batches import change_batch, get_batch, read_manifest
from core.find import find_task
from core.settings import Settings
from core.task import Status, Task
from handlers.web import batch_models, models
from handlers.web.middleware import MAX_BATCH_BYTES, MAX_BODY_BYTES
from support import api_server, lambda_process, moto_server, source_server
from support import service as service_process
from support.api_server import ONE_OUTPUT, Api
from support.lambda_process import LambdaProcess
from support.leftovers import seconds_until
from support.moto_server import Moto
from support.recording import RecordingDispatcher
from support.service import Service

JSON = {"Content-Type": "application/json"}
WISH = {"command": "-i {name} -c:v libx264 {stem}.mp4", "output_filename": "{stem}.mp4"}
THREE = [f"https://media.example.com/{name}?signature=secret" for name in ("a.mov", "x/b.mov", "y/b.mov")]
NO_COUNTS = dict.fromkeys(("queued", "running", "completed", "failed", "canceled"), 0)
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with api_server.running(tmp_path, settings=Settings(webhook_secret="whsec_" + "YWJj" * 8)) as running:
        yield running


def registered(api: Api, inputs: list[str] = THREE, **more: Any) -> dict[str, Any]:
    answer = api.http.post("/ffmpeg/batches", json={"inputs": inputs, **WISH, **more})
    assert answer.status_code == 202, answer.text
    batch_models.RegisteredBatch.model_validate_json(answer.text)
    found: dict[str, Any] = answer.json()
    return found


def shown(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    batch_models.Batch.model_validate_json(answer.text)
    found: dict[str, Any] = answer.json()
    return found


def listed(api: Api, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    while True:
        answer = api.http.get("/ffmpeg/tasks", params=query)
        page = models.TaskPage.model_validate_json(answer.text)
        items += answer.json()["items"]
        if page.next_cursor is None:
            return items
        query["cursor"] = page.next_cursor


def error_of(answer: httpx.Response) -> tuple[int, str, dict[str, Any]]:
    error = models.Error.model_validate_json(answer.text).error
    return answer.status_code, error.code, error.details


def claimed(api: Api, batch_id: str, number: int) -> Task:
    """The row that a worker makes of the batch's task."""
    task = find_task(api.services, task_id(batch_id, number))
    assert task.version == 0
    return api.store.create(moves.claim(task, now=datetime.now(UTC), owner="worker-1"))


def test_a_batch_is_registered_whole_and_shown(api: Api) -> None:
    wishes = {
        "input_files": {"logo.png": "https://media.example.com/logo.png?signature=secret"},
        "command": "-i {name} -i logo.png -filter_complex overlay -c:v libx264 {stem}.mp4",
        "callback_url": "https://hooks.example.com/done?token=secret",
        "metadata": {"order": "4711"},
        "concurrency": 2,
        "timeout_seconds": 60,
    }
    answer = api.http.post(
        "/ffmpeg/batches", json={"inputs": THREE, **WISH, **wishes}, headers={"X-Correlation-Id": "order-1"}
    )

    assert answer.status_code == 202
    batch = answer.json()
    expected = {
        "batch_id": batch["batch_id"],
        "status": "queued",
        "count": 3,
        "counts": {**NO_COUNTS, "queued": 3},
        "percent": 0.0,
        "converted": [],
        "failures": [],
        "log": [{"at": batch["created_at"], "text": "3 tasks registered"}],
        "command": "-filter_complex overlay -i '{name}' -i logo.png -c:v libx264 '{stem}.mp4'",
        "input_files": {"logo.png": "https://media.example.com/logo.png?..."},
        "output_files": ["{stem}.mp4"],
        "compute": "cpu",
        "concurrency": 2,
        "delete_inputs": False,
        "created_at": batch["created_at"],
        "canceled_at": None,
        "finished_at": None,
        "timeout_seconds": 60,
        "metadata": {"order": "4711"},
        "correlation_id": "order-1",
        "key_name": None,
        "callback_url": "https://hooks.example.com/done?...",
    }
    assert batch == {**expected, "files": ["a.mov", "b.mov", "b.mov"]}
    assert answer.headers["location"] == f"/ffmpeg/batches/{batch['batch_id']}"
    assert answer.headers["retry-after"] == "2"
    assert api.http.get(answer.headers["location"]).json() == expected
    assert [batch.batch_id for batch in api.dispatcher.batches] == [batch["batch_id"]]
    assert api.dispatcher.submitted == []
    assert api.counted == ["BatchesRegistered"]
    stored = get_batch(api.services, batch["batch_id"])
    assert [source.url for source in read_manifest(api.services, stored)] == THREE
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "wish",
    [
        {"options": {"video": {"codec": "h264", "crf": 21}, "audio": None}},
        {"preset": "web-mp4-720p", "parameters": {"quality": "small"}},
    ],
)
def test_options_and_presets_are_wishes_for_many_too(api: Api, wish: dict[str, Any]) -> None:
    answer = api.http.post("/ffmpeg/batches", json={"inputs": THREE[:1], **wish, "output_filename": "{stem}.mp4"})
    assert answer.status_code == 202, answer.text
    (task,) = listed(api, batch_id=answer.json()["batch_id"])
    single = api.http.post(
        "/ffmpeg/register", json={"input_files": {"a.mov": THREE[0]}, **wish, "output_filename": "a.mp4"}
    ).json()
    assert task["command"] == single["command"]
    assert task["command"].startswith("-i a.mov ")


def test_its_tasks_are_listed_and_have_a_status_from_the_first_moment(api: Api) -> None:
    single = api.registered()
    batch = registered(api)
    ids = [task_id(batch["batch_id"], number) for number in (2, 1, 0)]

    assert [task["task_id"] for task in listed(api)] == [*ids, single]
    for query in ({}, {"limit": 1}, {"limit": 2, "status": "queued"}):
        tasks = listed(api, batch_id=batch["batch_id"], **query)
        assert [task["task_id"] for task in tasks] == ids
        assert {(task["status"], task["batch_id"]) for task in tasks} == {("queued", batch["batch_id"])}
    assert [task["task_id"] for task in listed(api, status="queued", limit=2)] == ids
    assert listed(api, status="running") == listed(api, batch_id=batch["batch_id"], status="canceled") == []

    status = api.http.get(f"/ffmpeg/status/{ids[0]}").json()
    models.Task.model_validate_json(json.dumps(status))
    assert (status["command"], status["output_files"]) == ("-i b.mov -c:v libx264 b.mp4", ["b.mp4"])
    assert status["input_files"] == {"b.mov": "https://media.example.com/y/b.mov?..."}
    assert tasks[0] == {name: status[name] for name in tasks[0]}
    assert api.store.members(batch["batch_id"]) == []


def test_a_task_without_a_row_is_one_like_any_other(api: Api) -> None:
    batch = registered(api)
    first, second, third = (task_id(batch["batch_id"], number) for number in range(3))
    outside = task_id(batch["batch_id"], 3)

    def asked(method: str, path: str) -> tuple[int, str]:
        answer = api.http.request(method, path)
        body = answer.json()
        return answer.status_code, body["error"]["code"] if body.get("error") else body["status"]

    assert asked("POST", f"/ffmpeg/execute/{first}") == (202, "queued")
    assert asked("GET", f"/ffmpeg/result/{first}") == (409, "TASK_NOT_READY")
    assert asked("GET", f"/ffmpeg/log/{first}") == (404, "NOT_FOUND")
    assert asked("POST", f"/ffmpeg/notify/{first}") == (409, "TASK_NOT_READY")
    assert asked("DELETE", f"/ffmpeg/tasks/{first}") == (409, "TASK_NOT_READY")
    assert asked("POST", f"/ffmpeg/cancel/{second}") == (202, "canceled")
    assert asked("POST", f"/ffmpeg/cancel/{second}") == (409, "TASK_ENDED")
    assert asked("GET", f"/ffmpeg/status/{outside}") == (404, "TASK_NOT_FOUND")
    assert [task["task_id"] for task in listed(api, status="queued")] == [third, first]
    counts = api.http.get(f"/ffmpeg/batches/{batch['batch_id']}").json()["counts"]
    assert counts == {**NO_COUNTS, "queued": 2, "canceled": 1}


def test_the_list_stands_still_while_workers_come(api: Api) -> None:
    batch = registered(api)
    first = api.http.get("/ffmpeg/tasks?limit=1").json()
    claimed(api, batch["batch_id"], 2)
    claimed(api, batch["batch_id"], 1)
    rest = listed(api, limit=1, cursor=first["next_cursor"])

    assert [task["status"] for task in (*first["items"], *rest)] == ["queued", "running", "queued"]
    assert [task["status"] for task in listed(api)] == ["running", "running", "queued"]
    assert [task["file"] for task in api.http.get(f"/ffmpeg/batches/{batch['batch_id']}").json()["converted"]] == []
    assert len({task["task_id"] for task in (*first["items"], *rest)}) == 3


def test_the_same_request_with_its_key_makes_one_batch(api: Api) -> None:
    headers = {"Idempotency-Key": "order-4711"}
    body = {"inputs": THREE, **WISH}
    first = api.http.post("/ffmpeg/batches", json=body, headers=headers)
    claimed(api, first.json()["batch_id"], 0)
    again = api.http.post("/ffmpeg/batches", json=body, headers=headers)
    other = api.http.post("/ffmpeg/batches", json={**body, "concurrency": 1}, headers=headers)

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["counts"] == {**NO_COUNTS, "queued": 2, "running": 1}
    same = first.json().keys() - {"counts", "status"}
    assert {name: again.json()[name] for name in same} == {name: first.json()[name] for name in same}
    assert error_of(other) == (409, "IDEMPOTENCY_CONFLICT", {"batch_id": first.json()["batch_id"]})
    assert len(api.dispatcher.batches) == 1
    assert api.counted == ["BatchesRegistered"]


def nothing_is_stored(api: Api) -> bool:
    objects = [path for path in (api.data / "objects").rglob("*") if path.is_file()]
    return not (
        api.services.records.newest("batch", limit=1).records or listed(api) or objects or api.dispatcher.batches
    )


@pytest.mark.parametrize(
    ("source", "field", "words"),
    [
        ({}, "inputs", "exactly one of inputs, input_folder and input_prefix"),
        ({"inputs": THREE, "input_folder": "/srv"}, "inputs", "exactly one of"),
        ({"inputs": THREE, "input_prefix": "s3://bucket/prefix"}, "inputs", "exactly one of"),
        ({"inputs": []}, "inputs", "at least one"),
        ({"inputs": ["https://media.example.com/a.mov"] * (MOST_TASKS + 1)}, "inputs", "make several batches"),
        ({"inputs": [1] * (MOST_TASKS + 1)}, "inputs", "make several batches"),
        ({"inputs": [THREE[0], None]}, "inputs.1", "must be text"),
        ({"inputs": THREE[0]}, "inputs", "must be a list"),
        ({"inputs": THREE, "delete_inputs": True}, "delete_inputs", "leave it out"),
        ({"inputs": THREE, "concurrency": 0}, "concurrency", "at least 1"),
        ({"inputs": THREE, "concurrency": 10_001}, "concurrency", "at most 10000"),
        ({"inputs": THREE, "input_files": {"{name}": THREE[0]}}, "input_files", "{name} is each file itself"),
        (
            {"inputs": THREE, "input_files": {"{stem}.srt": "https://media.example.com/{stem}.srt"}},
            "input_files.{stem}.srt",
            "is the same for all tasks",
        ),
        ({"inputs": THREE, "output_files": ["{stem}.mp4"]}, "output_filename", "exactly one of"),
        ({"inputs": THREE, "preset": "web-mp4-720p"}, "command", "exactly one of"),
        ({"inputs": THREE, "files": []}, "files", "is not a field"),
        ({"input_folder": "relative"}, "input_folder", "input_folder"),
        ({"input_prefix": "s3://bucket/prefix"}, "input_prefix", "INPUT_BUCKETS"),
        ({"input_prefix": "s3://bucket"}, "input_prefix", "s3://bucket/ for all of it"),
        ({"inputs": THREE, "delete_inputs": "yes"}, "delete_inputs", "must be true or false"),
    ],
)
def test_a_wrong_source_or_wish_is_refused_and_nothing_is_stored(
    api: Api, source: dict[str, Any], field: str, words: str
) -> None:
    answer = api.http.post("/ffmpeg/batches", json={**WISH, **source})

    status, code, details = error_of(answer)
    assert (status, details["field"]) == (400, field), answer.text
    assert code in ("INVALID_ARGUMENT", "URL_NOT_ALLOWED")
    assert words in answer.json()["error"]["message"]
    assert len(answer.content) < 3000
    assert nothing_is_stored(api)


def test_a_command_that_may_not_run_is_refused_once(api: Api) -> None:
    body = {**WISH, "inputs": THREE, "command": "-i {name} -vf movie=x.png {stem}.mp4"}
    status, code, details = error_of(api.http.post("/ffmpeg/batches", json=body))
    assert (status, code, len(details["violations"])) == (400, "COMMAND_NOT_ALLOWED", 1)
    assert nothing_is_stored(api)


def test_bad_files_are_told_with_their_index_and_nothing_is_stored(api: Api) -> None:
    bad = "http://10.0.0.1/private-{}.mov?signature=secret"
    inputs = [THREE[0], "ftp://media.example.com/b.mov", THREE[2], THREE[0], "https://media.example.com/c.mp4"]
    inputs += [bad.format(number) for number in range(40)]

    answer = api.http.post("/ffmpeg/batches", json={**WISH, "inputs": inputs})

    status, code, details = error_of(answer)
    assert (status, code, details["field"], details["count"]) == (400, "URL_NOT_ALLOWED", "inputs", 43)
    told = [(file["index"], file["file"]) for file in details["files"]]
    assert told[:4] == [(1, "b.mov"), (3, "a.mov"), (4, "c.mp4"), (5, "private-0.mov")]
    assert len(told) == 20
    reasons = [file["reason"] for file in details["files"]]
    assert "http:// or https://" in reasons[0]
    assert reasons[1] == "Its URL is in the list before, at index 0: give each once."
    assert "same name" in reasons[2]
    assert "not on the public internet" in reasons[3]
    assert answer.json()["error"]["message"].startswith("43 of 45 files cannot be taken. The first, b.mov: ")
    assert "secret" not in answer.text
    assert nothing_is_stored(api)


@pytest.mark.parametrize(
    "dispatcher",
    [RecordingDispatcher(refusing=True), RecordingDispatcher(delaying=True), RecordingDispatcher(losing=True)],
)
def test_a_dispatcher_that_takes_nothing_now_delays_a_batch_and_loses_none(
    dispatcher: RecordingDispatcher, tmp_path: Path
) -> None:
    with api_server.running(tmp_path, dispatcher=dispatcher) as api:
        batch = registered(api)
        stored = get_batch(api.services, batch["batch_id"])
        assert (batch["status"], len(listed(api)), stored.job_id) == ("queued", 3, None)
        assert stored.dispatch_due_at
        assert stored.dispatch_due_at > stored.created_at


def test_cancel_calls_off_what_has_not_ended(api: Api) -> None:
    batch = registered(api)
    claimed(api, batch["batch_id"], 0)

    canceled = shown(api.http.post(f"/ffmpeg/batches/{batch['batch_id']}/cancel"), 202)

    assert (canceled["status"], canceled["counts"]) == ("canceled", {**NO_COUNTS, "canceled": 3})
    assert canceled["canceled_at"]
    assert {line["text"] for line in canceled["log"]} == {"3 tasks registered", "canceled", "a.mov: canceled"}
    assert [task["status"] for task in listed(api, batch_id=batch["batch_id"])] == ["canceled"] * 3
    assert [task["finished_at"] for task in listed(api, status="canceled")][:2] == [canceled["canceled_at"]] * 2
    assert [one.batch_id for one in api.dispatcher.stopped_batches] == [batch["batch_id"]]
    answer = api.http.get(f"/ffmpeg/batches/{batch['batch_id']}")
    assert (shown(answer), "retry-after" in answer.headers) == (canceled, False)
    assert api.counted == ["BatchesRegistered", "BatchesCanceled"]


def test_a_batch_whose_list_was_deleted_is_still_seen_and_canceled(api: Api) -> None:
    body, headers = {"inputs": THREE, **WISH}, {"Idempotency-Key": "order-4711"}
    batch_id = api.http.post("/ffmpeg/batches", json=body, headers=headers).json()["batch_id"]
    first, second, third = (task_id(batch_id, number) for number in range(3))
    claimed(api, batch_id, 0)
    before = api.http.get(f"/ffmpeg/status/{first}").json()
    api.services.objects.delete(api.services.batch_folder(batch_id))

    seen = shown(api.http.get(f"/ffmpeg/batches/{batch_id}"))
    assert (seen["counts"], seen["log"][-1]["text"]) == ({**NO_COUNTS, "queued": 2, "running": 1}, LIST_GONE)
    again = api.http.post("/ffmpeg/batches", json=body, headers=headers)
    assert (again.status_code, again.json()["files"]) == (200, ["file-0", "file-1", "file-2"])
    assert [task["task_id"] for task in listed(api)] == [third, second, first]
    assert api.http.get(f"/ffmpeg/status/{first}").json()["input_files"] == before["input_files"]
    waiting = api.http.get(f"/ffmpeg/status/{second}").json()
    assert (waiting["status"], waiting["queue_reason"]) == ("queued", LIST_GONE)

    assert api.http.post(f"/ffmpeg/cancel/{second}").json()["status"] == "canceled"
    assert api.http.delete(f"/ffmpeg/tasks/{second}").status_code == 204
    canceled = shown(api.http.post(f"/ffmpeg/batches/{batch_id}/cancel"), 202)
    assert (canceled["status"], canceled["counts"]) == ("canceled", {**NO_COUNTS, "canceled": 3})
    assert api.http.get(f"/ffmpeg/status/{third}").json()["queue_reason"] is None


def test_of_what_no_worker_came_to_nobody_is_told_until_asked_to(api: Api) -> None:
    batch = registered(api, callback_url="https://hooks.example.com/done")
    api.http.post(f"/ffmpeg/batches/{batch['batch_id']}/cancel")
    own = task_id(batch["batch_id"], 1)

    (notice,) = api.http.get(f"/ffmpeg/status/{own}").json()["notices"]

    assert (notice["channel"], notice["status"], notice["tries"]) == ("webhook", "abandoned", 0)
    assert notice["error"] == (
        "Canceled with its batch, before a worker came to it: nobody was told. POST /ffmpeg/notify does so."
    )
    answer = api.http.post(f"/ffmpeg/notify/{own}")
    (again,) = answer.json()["notices"]
    assert (answer.status_code, again["status"], again["error"]) == (202, "pending", None)
    assert api.store.get(own).due_at


def test_a_batch_that_has_ended_cannot_be_canceled(api: Api) -> None:
    batch = registered(api, THREE[:1])
    running = claimed(api, batch["batch_id"], 0)
    api.store.replace(replace(running, status=Status.COMPLETED, finished_at=datetime.now(UTC)), running)
    answer = api.http.post(f"/ffmpeg/batches/{batch['batch_id']}/cancel")
    assert error_of(answer) == (409, "TASK_ENDED", {"batch_id": batch["batch_id"]})

    change_batch(
        api.services, batch["batch_id"], lambda one: replace(one, finished_at=one.created_at, counts={"completed": 1})
    )
    assert error_of(api.http.post(f"/ffmpeg/batches/{batch['batch_id']}/cancel"))[:2] == (409, "TASK_ENDED")


@pytest.mark.parametrize("batch_id", [UNKNOWN, "x", "a" * 65, "%2e%2e", "ä"])
def test_a_batch_that_there_is_not_is_not_found(api: Api, batch_id: str) -> None:
    task = api.registered()
    for answer in (
        api.http.get(f"/ffmpeg/batches/{batch_id}"),
        api.http.post(f"/ffmpeg/batches/{batch_id}/cancel"),
        api.http.get(f"/ffmpeg/tasks?batch_id={batch_id}"),
        api.http.get(f"/ffmpeg/batches/{task}"),
    ):
        assert error_of(answer)[:2] == (404, "BATCH_NOT_FOUND")


def test_a_batchs_body_may_be_large_and_no_other(api: Api) -> None:
    body = json.dumps({"inputs": THREE, **WISH}).encode()
    fits = api.http.post("/ffmpeg/batches", content=body.ljust(MAX_BATCH_BYTES), headers=JSON)
    assert fits.status_code == 202
    more = api.http.post("/ffmpeg/batches", content=body.ljust(MAX_BATCH_BYTES + 1), headers=JSON)
    assert error_of(more)[:2] == (413, "REQUEST_TOO_LARGE")
    for path in ("/ffmpeg/register", "/ffmpeg/validate", f"/ffmpeg/batches/{UNKNOWN}/cancel"):
        answer = api.http.post(path, content=json.dumps(ONE_OUTPUT).encode().ljust(MAX_BODY_BYTES + 1), headers=JSON)
        assert error_of(answer)[:2] == (413, "REQUEST_TOO_LARGE"), path
    assert error_of(api.http.post("/ffmpeg/batches", content=body))[:2] == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_ten_thousand_files_are_taken_at_once_and_listed_to_the_last(api: Api) -> None:
    urls = [f"https://media.example.com/season-{n % 7}/episode-{n:05}.mov?key={'k' * 400}" for n in range(MOST_TASKS)]
    started = time.process_time()
    batch = registered(api, urls)
    seconds = time.process_time() - started

    assert batch["files"] == [f"episode-{number:05}.mov" for number in range(MOST_TASKS)]
    assert seconds < 4  # of the processor, which no load of the machine changes: 0.35 is usual
    claimed(api, batch["batch_id"], 5000)
    tasks = listed(api, limit=200)
    assert [task["output_files"] for task in tasks] == [[f"episode-{n:05}.mp4"] for n in range(MOST_TASKS)][::-1]
    assert [number for number, task in enumerate(tasks) if task["status"] == "running"] == [4999]
    answer = api.http.get(f"/ffmpeg/batches/{batch['batch_id']}")
    assert shown(answer)["counts"] == {**NO_COUNTS, "queued": MOST_TASKS - 1, "running": 1}
    assert len(answer.content) < 10_000


# With workers.


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    inputs = tmp_path_factory.mktemp("inputs")
    with service_process.running(tmp_path_factory.mktemp("service"), INPUT_ROOTS=str(inputs)) as started:
        yield started, inputs


def followed(service: Service, batch_id: str) -> Iterator[dict[str, Any]]:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        answer = service.http.get(f"/ffmpeg/batches/{batch_id}")
        yield shown(answer)
        if "retry-after" not in answer.headers:
            return
        time.sleep(0.05)
    raise AssertionError(f"the batch did not end\n{service.last_words()}")


def test_a_batch_of_urls_is_followed_to_its_end(service: tuple[Service, Path], tmp_path: Path) -> None:
    running, _ = service
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / name).symlink_to(source_server.MEDIA / "bigbuckbunny.mp4")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 400)
    with source_server.serving(tmp_path) as source:
        inputs = [f"{source.url}/media/{name}" for name in ("one.mp4", "noise.mp4", "two.mp4")]
        body = {
            "inputs": inputs,
            "command": "-i {name} -t 1 -vf scale=-2:120 -c:v libx264 -preset ultrafast -an small-{stem}.mp4",
            "output_filename": "small-{stem}.mp4",
        }
        answer = running.http.post("/ffmpeg/batches", json=body)
        assert answer.status_code == 202, answer.text
        batch_id = answer.json()["batch_id"]
        states = list(followed(running, batch_id))

    batch = states[-1]
    assert (batch["status"], batch["percent"]) == ("failed", 100.0)
    assert batch["counts"] == {**NO_COUNTS, "completed": 2, "failed": 1}
    assert [(file["index"], file["file"]) for file in batch["converted"]] == [(0, "one.mp4"), (2, "two.mp4")]
    (failure,) = batch["failures"]
    task = running.status(failure["task_id"])
    assert (failure["index"], failure["file"]) == (1, "noise.mp4")
    assert failure["reason"] == task["error"]["message"]
    assert task["error"]["code"] == "MEDIA_INVALID"
    texts = [line["text"] for line in batch["log"]]
    assert texts[0] == "3 tasks registered"
    assert {"one.mp4: completed", "two.mp4: completed", f"noise.mp4: failed: {failure['reason']}"} <= set(texts)
    assert [line["at"] for line in batch["log"]] == sorted(line["at"] for line in batch["log"])
    assert all(sum(state["counts"].values()) == 3 for state in states)
    percents = [state["percent"] for state in states]
    assert percents == sorted(percents)
    for file in batch["converted"]:
        result = running.http.get(f"/ffmpeg/result/{file['task_id']}", follow_redirects=True)
        assert (result.status_code, result.headers["content-type"]) == (200, "video/mp4")
    items = running.http.get("/ffmpeg/tasks", params={"batch_id": batch_id}).json()["items"]
    assert [item["status"] for item in items] == ["completed", "failed", "completed"]


def test_uploads_are_files_of_a_batch_too(service: tuple[Service, Path]) -> None:
    running, _ = service
    clip = (source_server.MEDIA / "bigbuckbunny.mp4").read_bytes()
    new = {"filename": "My talk.mov", "size_bytes": len(clip)}
    upload = running.http.post("/ffmpeg/uploads", json=new).json()
    body = {
        "inputs": [upload["input"]],
        "command": "-i {name} -t 0.5 -vn -c:a aac {stem}.m4a",
        "output_filename": "{stem}.m4a",
    }
    early = running.http.post("/ffmpeg/batches", json=body)
    running.http.put(upload["parts"][0]["url"], content=clip).raise_for_status()
    running.http.post(f"/ffmpeg/uploads/{upload['upload_id']}/complete").raise_for_status()

    answer = running.http.post("/ffmpeg/batches", json=body)

    assert error_of(early)[:2] == (400, "INVALID_ARGUMENT")
    assert f"POST /ffmpeg/uploads/{upload['upload_id']}/complete" in early.json()["error"]["message"]
    assert (answer.status_code, answer.json()["files"]) == (202, ["My talk.mov"]), answer.text
    batch = list(followed(running, answer.json()["batch_id"]))[-1]
    assert (batch["status"], batch["converted"][0]["file"]) == ("completed", "My talk.mov")


def test_a_folder_is_a_batch_and_other_folders_are_none(service: tuple[Service, Path], tmp_path: Path) -> None:
    running, inputs = service
    (inputs / "sub").mkdir()
    for name in ("b.mp4", "sub/a.mp4"):
        (inputs / name).write_bytes((source_server.MEDIA / "bigbuckbunny.mp4").read_bytes())
    (inputs / "notes.txt").write_text("no media")
    body = {
        "input_folder": str(inputs),
        "command": "-i {name} -t 1 -vn -c:a aac {stem}.m4a",
        "output_filename": "{stem}.m4a",
        "delete_inputs": True,
    }
    answer = running.http.post("/ffmpeg/batches", json=body)
    assert answer.status_code == 202, answer.text
    batch = list(followed(running, answer.json()["batch_id"]))[-1]

    assert (answer.json()["files"], batch["status"]) == (["b.mp4", "a.mp4"], "completed")
    seconds_until(lambda: not list(inputs.rglob("*.mp4")), most=120)  # deleted after the task has ended
    assert [path.name for path in inputs.rglob("*") if path.is_file()] == ["notes.txt"]
    for folder in (str(tmp_path), f"{inputs}/nothing", f"{inputs}/../x", "", "/"):
        refused = running.http.post("/ffmpeg/batches", json={**body, "input_folder": folder})
        assert error_of(refused)[0] == 400, refused.text


# On Lambda.


@pytest.fixture
def function(aws: Moto, tmp_path: Path) -> Iterator[LambdaProcess]:
    with lambda_process.started({**aws.env, **moto_server.SETTINGS}, tmp_path) as started:
        yield started


def asked(function: LambdaProcess, name: str, batch_id: str = UNKNOWN) -> tuple[int, dict[str, Any]]:
    text = (lambda_process.ROOT / "events" / f"{name}.json").read_text()
    answer = function.invoke(json.loads(text.replace(UNKNOWN, batch_id)))
    return answer["statusCode"], json.loads(answer["body"])


def test_on_lambda_a_batch_is_registered_shown_listed_and_canceled(function: LambdaProcess) -> None:
    status, batch = asked(function, "batch")
    batch_models.RegisteredBatch.model_validate_json(json.dumps(batch))
    assert (status, batch["status"], batch["counts"]) == (202, "queued", {**NO_COUNTS, "queued": 3})
    batch_id = batch["batch_id"]
    files = batch.pop("files")
    assert files == ["opening.mov", "panel.mov", "closing.mov"]
    assert asked(function, "batch_status", batch_id) == (200, batch)

    status, page = asked(function, "batch_tasks", batch_id)
    assert (status, page["next_cursor"]) == (200, None)
    assert [task["task_id"] for task in page["items"]] == [task_id(batch_id, number) for number in (2, 1, 0)]
    assert {task["status"] for task in page["items"]} == {"queued"}

    status, canceled = asked(function, "batch_cancel", batch_id)
    assert (status, canceled["status"], canceled["counts"]["canceled"]) == (202, "canceled", 3)
    status, task = asked(function, "status", task_id(batch_id, 1))
    assert (status, task["status"], task["batch_id"]) == (200, "canceled", batch_id)
    for name in ("batch_status", "batch_cancel", "batch_tasks"):
        status, body = asked(function, name)
        assert (status, body["error"]["code"]) == (404, "BATCH_NOT_FOUND")
