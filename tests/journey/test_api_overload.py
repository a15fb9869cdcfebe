"""The API when the dispatcher or the store are asked for more than they can do: what it says, and that nothing is lost.

Refused, here, is what these raise when AWS throttles, times out or does not answer; with which of its errors that is
so, the tests of aws/ have.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from core import sweep
from core.errors import ServiceError, ServiceUnavailable, TooManyRequests
from core.task import Status
from handlers.web import models
from support import api_server
from support.api_server import ONE_OUTPUT, Api
from support.overload import BusyDispatcher, BusyStore, every

TASKS = 300
CLIENTS = 16
MOST_TRIES = 20  # of one request; each is refused with a chance of about a third
PROGRESS = [Status.PENDING, Status.QUEUED, Status.RUNNING]


@contextmanager
def busy(data: Path, dispatcher: BusyDispatcher | None = None) -> Iterator[tuple[Api, BusyStore]]:
    """The API on a store that can be told to refuse."""
    with api_server.running(data, dispatcher=dispatcher, before_store=BusyStore) as api:
        assert isinstance(api.services.store, BusyStore)
        yield api, api.services.store


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    error = models.Error.model_validate_json(answer.text).error
    return answer.status_code, error.code, answer.headers["retry-after"]


def test_execute_while_the_dispatcher_is_busy_is_accepted_and_handed_over_later(tmp_path: Path) -> None:
    dispatcher = BusyDispatcher()
    with busy(tmp_path, dispatcher) as (api, _):
        task_id = api.registered()
        before = datetime.now(UTC)
        answer = api.http.post(f"/ffmpeg/execute/{task_id}")
        after = datetime.now(UTC)
        task = models.Task.model_validate_json(answer.text)
        assert (answer.status_code, task.status) == (202, Status.QUEUED)
        assert task.queue_reason is not None
        assert "too busy" in task.queue_reason
        stored = api.store.get(task_id)
        assert stored.dispatch_due_at
        told = timedelta(seconds=int(answer.headers["retry-after"]))
        # Not before the next try, and at most a second after it.
        assert stored.dispatch_due_at - after <= told < stored.dispatch_due_at - before + timedelta(seconds=1)

        dispatcher.busy = lambda: False
        sweep.sweep(api.services, now=datetime.now(UTC) + timedelta(minutes=1))
        shown = models.Task.model_validate_json(api.http.get(f"/ffmpeg/status/{task_id}").text)
        assert [task.task_id for task in dispatcher.submitted] == [task_id]
        assert (shown.status, shown.queue_reason) == (Status.QUEUED, None)


def test_register_and_execute_while_the_dispatcher_is_busy_is_accepted(tmp_path: Path) -> None:
    with busy(tmp_path, BusyDispatcher()) as (api, _):
        answer = api.http.post("/ffmpeg/register?execute=true", json=ONE_OUTPUT)
        assert (answer.status_code, answer.json()["status"]) == (201, "queued")
        assert api.store.get(answer.json()["task_id"]).status is Status.QUEUED


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TooManyRequests(), (429, "TOO_MANY_REQUESTS", "5")),
        (TooManyRequests(details={"retry_after_seconds": 2}), (429, "TOO_MANY_REQUESTS", "2")),
        (ServiceUnavailable(), (503, "SERVICE_UNAVAILABLE", "5")),
        (ServiceUnavailable(details={"retry_after_seconds": 9}), (503, "SERVICE_UNAVAILABLE", "9")),
    ],
)
@pytest.mark.parametrize("operation", ["register", "execute", "status", "cancel", "notify"])
def test_a_store_that_refuses_is_told_with_the_time_to_come_back(
    refusing: tuple[Api, BusyStore], operation: str, error: ServiceError, expected: tuple[int, str, str]
) -> None:
    api, store = refusing
    task_id = api.registered()
    method = "GET" if operation == "status" else "POST"
    path = "/ffmpeg/register" if operation == "register" else f"/ffmpeg/{operation}/{task_id}"
    before = api.store.get(task_id)

    store.refusal = lambda: error
    answer = api.http.request(method, path, json=ONE_OUTPUT if operation == "register" else None)
    store.refusal = lambda: None
    assert error_of(answer) == expected
    assert api.store.get(task_id) == before


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, BusyStore]]:
    with busy(Path(tmp_path_factory.mktemp("api"))) as both:
        yield both


def test_register_whose_answer_was_lost_can_be_sent_again_with_its_key(tmp_path: Path) -> None:
    with busy(tmp_path) as (api, store):
        headers = {"Idempotency-Key": "k"}
        store.deafness = ServiceUnavailable
        lost = api.http.post("/ffmpeg/register", json=ONE_OUTPUT, headers=headers)
        store.deafness = lambda: None
        again = api.http.post("/ffmpeg/register", json=ONE_OUTPUT, headers=headers)
        assert (lost.status_code, again.status_code) == (503, 200)
        assert len(everything(api)) == 1


def everything(api: Api) -> list[Any]:
    forever = datetime.now(UTC) + timedelta(days=1000)
    return [task for live in (True, False) for task in api.store.due(forever, limit=10_000, live=live)]


class Burst:
    """Many clients at once, each of which registers and executes, and sends again what it is asked to send again."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.answers: list[int] = []

    def one(self, number: int) -> str:
        """The id of a task, registered and executed, in one request or two, until both were accepted."""
        both = number % 2
        request = {"json": ONE_OUTPUT, "headers": {"Idempotency-Key": f"burst {number}"}}
        task = self.accepted(f"/ffmpeg/register?execute={bool(both)}", **request)
        if not both:
            task = self.accepted(f"/ffmpeg/execute/{task['task_id']}")
        assert task["status"] == "queued"
        return str(task["task_id"])

    def accepted(self, path: str, **request: Any) -> dict[str, Any]:
        for _ in range(MOST_TRIES):
            answer = self.api.http.post(path, **request)
            self.answers.append(answer.status_code)
            if answer.is_success:
                return self.stored(answer.json())
            assert error_of(answer)[:2] in ((429, "TOO_MANY_REQUESTS"), (503, "SERVICE_UNAVAILABLE"))
            assert int(answer.headers["retry-after"]) >= 1
        raise AssertionError(f"{path} was refused {MOST_TRIES} times")

    def stored(self, shown: dict[str, Any]) -> dict[str, Any]:
        """What was shown, after a look into the store behind all faults: it must have been written first."""
        stored = self.api.store.get(shown["task_id"])
        assert PROGRESS.index(stored.status) >= PROGRESS.index(Status(shown["status"]))
        return shown


def test_a_burst_loses_nothing_and_promises_nothing_that_is_not_stored(tmp_path: Path) -> None:
    dispatcher = BusyDispatcher(busy=every(2))
    with busy(tmp_path, dispatcher) as (api, store):
        overloaded, away, lost = every(13), every(11), every(17)
        store.refusal = lambda: TooManyRequests() if overloaded() else ServiceUnavailable() if away() else None
        store.deafness = lambda: ServiceUnavailable() if lost() else None
        burst = Burst(api)
        with ThreadPoolExecutor(CLIENTS) as pool:
            ids = list(pool.map(burst.one, range(TASKS)))

        assert set(burst.answers) == {200, 201, 202, 429, 503}
        assert set(store.refused) == {"create", "get", "replace", "answer lost"}
        assert dispatcher.refused > TASKS / 4
        # One task for each key, all of them executed, whatever was refused on the way.
        assert len(set(ids)) == TASKS
        assert {task.task_id: task.status for task in everything(api)} == dict.fromkeys(ids, Status.QUEUED)

        swept(api, store)
        # Exactly once, but where the store itself refused to note that it was.
        assert Counter(task.task_id for task in dispatcher.submitted) == Counter(ids) + store.unnoted
        assert all(task.job_id and task.queue_reason is None for task in everything(api))


def swept(api: Api, store: BusyStore) -> None:
    """Sweep, a minute later each time, until every task has a job: first with the faults, then without."""
    for minute in range(1, 20):
        if minute == 4:
            store.refusal = store.deafness = lambda: None
        sweep.sweep(api.services, now=datetime.now(UTC) + timedelta(minutes=minute))
        if all(task.job_id for task in everything(api)):
            return
    raise AssertionError("some task was never handed over")
