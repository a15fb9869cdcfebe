"""The list of tasks over real HTTP: pages, filters, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.task import Status, Task
from handlers.web import models
from support import api_server
from support.api_server import Api
from support.builders import NOW, task_in

COUNT = 60


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api_server.running(Path(tmp_path_factory.mktemp("api"))) as running:
        yield running


@pytest.fixture(scope="module")
def tasks(api: Api) -> list[Task]:
    """Tasks in all statuses by turns, the newest first."""
    statuses = list(Status)
    made = (
        task_in(
            statuses[number % len(statuses)],
            created_at=NOW + timedelta(seconds=number),
            metadata={"number": str(number)},
        )
        for number in range(COUNT)
    )
    return [api.store.create(task) for task in made][::-1]


def page(api: Api, **query: Any) -> dict[str, Any]:
    answer = api.http.get("/ffmpeg/tasks", params=query)
    assert answer.status_code == 200, answer.text
    models.TaskPage.model_validate_json(answer.text)
    found: dict[str, Any] = answer.json()
    return found


def pages(api: Api, **query: Any) -> Iterator[dict[str, Any]]:
    found = page(api, **query)
    yield found
    while found["next_cursor"]:
        found = page(api, **query, cursor=found["next_cursor"])
        yield found


def ids(found: dict[str, Any]) -> list[str]:
    return [item["task_id"] for item in found["items"]]


def test_the_newest_tasks_are_the_first_page(api: Api, tasks: list[Task]) -> None:
    assert ids(page(api)) == [task.task_id for task in tasks[:50]]
    assert ids(page(api, limit=3)) == [task.task_id for task in tasks[:3]]
    everything = page(api, limit=200)
    assert (len(everything["items"]), everything["next_cursor"]) == (COUNT, None)


def test_an_item_is_the_task_in_brief(api: Api, tasks: list[Task]) -> None:
    shown = {item["task_id"]: item for item in page(api, limit=200)["items"]}
    for task in tasks:
        status = api.http.get(f"/ffmpeg/status/{task.task_id}").json()
        if status["error"]:
            del status["error"]["details"]
        item = shown[task.task_id]
        assert item == {name: status[name] for name in item}
        left_out = {"input_files", "outputs", "output_url", "attempts", "timings", "notices", "callback_url"}
        assert set(status) - set(item) == {*left_out, "timeout_seconds", "destination", "key_name"}


def test_pages_go_on_until_the_last_one_whatever_is_added(api: Api, tasks: list[Task]) -> None:
    seen: list[str] = []
    added = []
    for number, found in enumerate(pages(api, limit=7)):
        seen += ids(found)
        added.append(api.store.create(task_in(Status.PENDING, created_at=NOW + timedelta(days=1, seconds=number))))
    assert seen == [task.task_id for task in tasks]
    for task in added:
        api.store.forget(task)


@pytest.mark.parametrize("status", list(Status))
def test_a_status_chooses(api: Api, tasks: list[Task], status: Status) -> None:
    seen = [task_id for found in pages(api, limit=4, status=status.value) for task_id in ids(found)]
    assert seen == [task.task_id for task in tasks if task.status is status]


def test_large_tasks_make_short_pages(api: Api, tasks: list[Task]) -> None:
    large = [
        api.store.create(
            replace(task_in(Status.PENDING, created_at=NOW + timedelta(days=2, seconds=number)), command="x" * 300_000)
        )
        for number in range(8)
    ]
    following = pages(api, limit=200)
    first, second = next(following), next(following)
    assert ids(first) == [task.task_id for task in large[::-1][:3]]
    assert ids(second) == [task.task_id for task in large[::-1][3:6]]
    for task in large:
        api.store.forget(task)


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ({"limit": 0}, "limit", "at least 1"),
        ({"limit": 201}, "limit", "at most 200"),
        ({"limit": "ten"}, "limit", "whole number"),
        ({"status": "done"}, "status", "'pending', 'queued', 'running', 'completed', 'failed' or 'canceled'"),
        ({"status": "COMPLETED"}, "status", "'pending', 'queued'"),
        ({"cursor": "x"}, "cursor", "next_cursor"),
        ({"cursor": ""}, "cursor", "next_cursor"),
        ({"cursor": "'; DROP TABLE tasks; --"}, "cursor", "next_cursor"),
    ],
)
def test_a_wrong_parameter_is_named(api: Api, query: dict[str, Any], field: str, words: str) -> None:
    answer = api.http.get("/ffmpeg/tasks", params=query)
    error = models.Error.model_validate_json(answer.text).error
    assert (answer.status_code, error.code, error.details["field"]) == (400, "INVALID_ARGUMENT", field)
    assert words in error.message
