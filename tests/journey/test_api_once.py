"""What may be asked for twice, or from two sides at once, over real HTTP: register with a key, cancel, notify."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from core import moves
from core.errors import TaskChanged
from core.task import Notice, Status, Task, Timings
from handlers.web import models
from support import api_server
from support.api_server import ONE_OUTPUT, Api
from support.builders import an_output
from support.overload import BusyStore

OTHER_OUTPUT = {**ONE_OUTPUT, "command": "-i input.mp4 -c:v libx264 -crf 24 output.mp4"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with api_server.running(tmp_path) as running:
        yield running


def register(
    api: Api,
    key: str | bytes,
    *,
    body: dict[str, Any] = ONE_OUTPUT,
    execute: bool = False,
    correlation_id: str = "corr-1",
) -> httpx.Response:
    sent = key if isinstance(key, bytes) else key.encode()
    headers = {b"Idempotency-Key": sent, b"X-Correlation-Id": correlation_id.encode()}
    return api.http.post(f"/ffmpeg/register?execute={execute}", json=body, headers=headers)


def task_of(answer: httpx.Response) -> dict[str, Any]:
    models.Task.model_validate_json(answer.text)
    shown: dict[str, Any] = answer.json()
    return shown


def error_of(answer: httpx.Response) -> tuple[int, str, dict[str, Any]]:
    error = models.Error.model_validate_json(answer.text).error
    return answer.status_code, error.code, error.details


def at_once(calls: int, call: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(call, range(calls)))


def test_register_again_with_its_key_shows_the_task_and_makes_no_other(api: Api) -> None:
    first = register(api, "order 4711: opening!", correlation_id="first")
    again = register(api, "order 4711: opening!", correlation_id="again")

    assert (first.status_code, again.status_code) == (201, 200)
    assert task_of(first) == task_of(again)
    assert task_of(first)["correlation_id"] == "first"
    assert again.headers["x-correlation-id"] == "again"
    assert first.headers["location"] == again.headers["location"] == f"/ffmpeg/status/{task_of(first)['task_id']}"
    assert api.counted == ["TasksRegistered"]


def test_register_again_shows_the_task_as_it_is_by_then(api: Api) -> None:
    task_id = task_of(register(api, "k"))["task_id"]
    api.running(task_id)
    running = register(api, "k")
    assert (running.status_code, task_of(running)["status"], running.headers["retry-after"]) == (200, "running", "1")


def test_register_with_the_outputs_written_the_other_way_is_the_same(api: Api) -> None:
    listed = {**ONE_OUTPUT, "output_files": [ONE_OUTPUT["output_filename"]]}
    del listed["output_filename"]
    first, again = register(api, "k"), register(api, "k", body=listed)
    assert (again.status_code, task_of(again)) == (200, task_of(first))


def test_register_with_a_key_of_another_request_is_a_conflict(api: Api) -> None:
    task_id = task_of(register(api, "k"))["task_id"]
    assert error_of(register(api, "k", body=OTHER_OUTPUT)) == (409, "IDEMPOTENCY_CONFLICT", {"task_id": task_id})
    assert task_of(register(api, "k"))["command"] == ONE_OUTPUT["command"]
    assert task_of(register(api, "another key", body=OTHER_OUTPUT))["task_id"] != task_id


def test_register_without_a_key_makes_a_task_each_time(api: Api) -> None:
    assert api.registered() != api.registered()
    assert api.counted == ["TasksRegistered"] * 2


def test_a_request_that_was_refused_does_not_use_up_its_key(api: Api) -> None:
    refused = register(api, "k", body={**ONE_OUTPUT, "command": "-i /etc/passwd output.mp4"})
    assert (refused.status_code, register(api, "k").status_code) == (400, 201)


@pytest.mark.parametrize("key", ["x", "a b", "~" * 255, "a,b", '"quoted"'])
def test_a_key_of_printable_ascii_is_taken(api: Api, key: str) -> None:
    assert (register(api, key).status_code, register(api, key).status_code) == (201, 200)


@pytest.mark.parametrize("key", [b"", b"x" * 256, "é".encode(), b"a\tb", b"\xff"])
def test_any_other_key_is_refused_by_the_name_of_its_header(api: Api, key: bytes) -> None:
    answer = register(api, key)
    assert error_of(answer) == (400, "INVALID_ARGUMENT", {"field": "Idempotency-Key"})
    assert "Idempotency-Key" in answer.json()["error"]["message"]
    assert api.counted == []


def test_register_with_one_key_from_many_sides_makes_one_task(api: Api) -> None:
    answers = at_once(20, lambda _: register(api, "k", execute=True))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 19}
    (task_id,) = {task_of(answer)["task_id"] for answer in answers}
    assert [task.task_id for task in api.dispatcher.submitted] == [task_id]
    assert Counter(api.counted) == {"TasksRegistered": 1, "TasksExecuted": 1}


def test_register_with_one_key_and_two_bodies_from_many_sides_lets_one_body_win(api: Api) -> None:
    bodies = (ONE_OUTPUT, OTHER_OUTPUT)
    answers = at_once(20, lambda number: register(api, "k", body=bodies[number % 2]))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 9, 409: 10}
    taken = {task_of(answer)["command"] for answer in answers if answer.status_code != 409}
    assert len(taken) == 1


def test_register_again_executes_what_is_still_pending(api: Api) -> None:
    register(api, "k")
    again = register(api, "k", execute=True)
    assert (again.status_code, task_of(again)["status"]) == (200, "queued")
    assert task_of(register(api, "k", execute=True)) == task_of(again)
    assert len(api.dispatcher.submitted) == 1
    assert api.counted == ["TasksRegistered", "TasksExecuted"]


def test_register_again_after_the_end_shows_it_and_executes_nothing(api: Api) -> None:
    task_id = task_of(register(api, "k"))["task_id"]
    api.completed(task_id, b"video")
    again = register(api, "k", execute=True)
    assert (again.status_code, task_of(again)["status"], task_of(again)["output_count"]) == (200, "completed", 1)
    assert api.dispatcher.submitted == []


def test_register_that_stored_but_had_no_worker_can_be_sent_again(api: Api) -> None:
    api.dispatcher.refusing = True
    refused = error_of(register(api, "k", execute=True))
    assert refused[:2] == (503, "DISPATCH_UNAVAILABLE")
    api.dispatcher.refusing = False
    again = register(api, "k", execute=True)
    assert (again.status_code, task_of(again)["status"]) == (200, "queued")
    assert task_of(again)["task_id"] == refused[2]["task_id"]
    assert task_of(again)["queue_reason"] == "The task is stored but no worker could be asked for; call execute again."


def test_cancel_of_a_pending_task_ends_it(api: Api) -> None:
    task_id = api.registered()
    answer = api.http.post(f"/ffmpeg/cancel/{task_id}")
    assert (answer.status_code, task_of(answer)["status"]) == (202, "canceled")
    assert task_of(api.http.get(f"/ffmpeg/status/{task_id}")) == task_of(answer)
    assert "retry-after" not in answer.headers
    assert api.dispatcher.stopped == []
    assert api.counted == ["TasksRegistered", "TasksCanceled"]


def test_cancel_of_a_queued_task_stops_its_job(api: Api) -> None:
    task_id = api.registered()
    api.http.post(f"/ffmpeg/execute/{task_id}")
    answer = api.http.post(f"/ffmpeg/cancel/{task_id}")
    assert (answer.status_code, task_of(answer)["status"]) == (202, "canceled")
    assert [(task.task_id, task.job_id) for task in api.dispatcher.stopped] == [(task_id, "job-1")]


def test_cancel_of_a_running_task_closes_its_attempt(api: Api) -> None:
    running = api.running(api.registered())
    shown = task_of(api.http.post(f"/ffmpeg/cancel/{running.task_id}"))
    (attempt,) = shown["attempts"]
    assert (shown["status"], shown["stage"], shown["error"], shown["outputs"]) == ("canceled", None, None, [])
    assert (attempt["ending"], attempt["finished_at"]) == ("canceled", shown["finished_at"])


def test_cancel_holds_although_the_job_cannot_be_stopped(api: Api) -> None:
    task_id = api.registered()
    api.http.post(f"/ffmpeg/execute/{task_id}")
    api.dispatcher.refusing = True
    assert api.http.post(f"/ffmpeg/cancel/{task_id}").status_code == 202
    assert api.store.get(task_id).status is Status.CANCELED


def test_cancel_of_an_ended_task_is_refused(api: Api) -> None:
    task_id = api.registered()
    api.completed(task_id, b"video")
    details = {"task_id": task_id, "status": "completed"}
    assert error_of(api.http.post(f"/ffmpeg/cancel/{task_id}")) == (409, "TASK_ENDED", details)
    assert task_of(api.http.get(f"/ffmpeg/status/{task_id}"))["status"] == "completed"
    assert api.dispatcher.stopped == []


def test_cancel_from_many_sides_cancels_once(api: Api) -> None:
    task_id = api.registered()
    answers = at_once(20, lambda _: api.http.post(f"/ffmpeg/cancel/{task_id}"))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 19}
    assert api.counted.count("TasksCanceled") == 1


@dataclass
class Overtaken(BusyStore):
    """A store in which something happens between the next reading and what follows from it."""

    meanwhile: Callable[[], object] | None = None

    def get(self, task_id: str) -> Task:
        task = super().get(task_id)
        then, self.meanwhile = self.meanwhile, None
        if then:
            then()
        return task


def test_cancel_that_is_overtaken_by_the_completion_is_refused(tmp_path: Path) -> None:
    with api_server.running(tmp_path, before_store=Overtaken) as api:
        assert isinstance(api.services.store, Overtaken)
        task_id = api.registered()
        api.services.store.meanwhile = lambda: api.completed(task_id, b"video")
        details = {"task_id": task_id, "status": "completed"}
        assert error_of(api.http.post(f"/ffmpeg/cancel/{task_id}")) == (409, "TASK_ENDED", details)
        assert task_of(api.http.get(f"/ffmpeg/status/{task_id}"))["output_count"] == 1


def test_completion_that_is_overtaken_by_the_cancel_is_refused(api: Api) -> None:
    running = api.running(api.registered())
    answer = api.http.post(f"/ffmpeg/cancel/{running.task_id}")
    outputs = (an_output(running.task_id),)
    done = moves.complete(running, now=datetime.now(UTC), fence=1, outputs=outputs, output_count=1, timings=Timings())
    with pytest.raises(TaskChanged):
        api.store.replace(done, running)
    assert task_of(api.http.get(f"/ffmpeg/status/{running.task_id}")) == task_of(answer)


def test_execute_of_a_canceled_task_is_refused(api: Api) -> None:
    task_id = api.registered()
    api.http.post(f"/ffmpeg/cancel/{task_id}")
    details = {"task_id": task_id, "status": "canceled"}
    assert error_of(api.http.post(f"/ffmpeg/execute/{task_id}")) == (409, "TASK_ENDED", details)


def test_notify_makes_the_notices_of_an_ended_task_due_again(api: Api) -> None:
    ended = api.completed(api.registered(), b"video")
    told = api.store.replace(replace(ended, notices=(Notice(channel="webhook", tries=3, error="It was away."),)), ended)
    answer = api.http.post(f"/ffmpeg/notify/{told.task_id}")
    assert (answer.status_code, task_of(answer)["status"]) == (202, "completed")
    (notice,) = api.store.get(told.task_id).notices
    assert notice.due_at is not None
    assert notice == Notice(channel="webhook", due_at=notice.due_at)


def test_notify_of_a_task_that_nobody_is_told_of_changes_nothing(api: Api) -> None:
    ended = api.completed(api.registered(), b"video")
    assert api.http.post(f"/ffmpeg/notify/{ended.task_id}").status_code == 202
    assert replace(api.store.get(ended.task_id), version=ended.version) == ended


def test_notify_before_the_end_is_refused(api: Api) -> None:
    task = api.running(api.registered())
    answer = api.http.post(f"/ffmpeg/notify/{task.task_id}")
    assert error_of(answer) == (409, "TASK_NOT_READY", {"task_id": task.task_id, "status": "running"})
    assert "wait until it has ended" in answer.json()["error"]["message"]
    assert api.store.get(task.task_id) == task


def test_an_attempt_shows_how_it_ended_but_not_where_it_ran(api: Api) -> None:
    task = api.running(api.registered())
    lost = moves.lose(task, now=datetime.now(UTC), fence=1, gone=True)
    api.store.replace(lost, task)
    shown = task_of(api.http.get(f"/ffmpeg/status/{task.task_id}"))
    times = {name: shown["attempts"][0][name] for name in ("started_at", "finished_at")}
    said = {"ending": "lost", "code": None, "message": None, "note": None}
    assert shown["attempts"] == [{"number": 1, **times, **said}]
    assert (shown["status"], shown["attempt"], shown["error"]) == ("queued", 1, None)
