"""Who may do what, over real HTTP: each operation that the API describes, with no key, a wrong and a right one."""

import json
import logging
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.batch import batch_id_of, task_id
from core.task import Status
from handlers.web import models
from handlers.web.log_keys import LogKeys
from support import api_server, lambda_process, moto_server, signed_in
from support import service as service_process
from support.api_server import FFMPEG_VERSION, ONE_OUTPUT
from support.builders import task_in
from support.lambda_process import LambdaProcess
from support.leftovers import seconds_until
from support.moto_server import Moto
from support.signed_in import API_KEYS, KEYS, SignedIn, entry

OPEN = {("get", "/ffmpeg/health")}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIn]:
    with signed_in.running(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def operations(service: SignedIn) -> list[tuple[str, str]]:
    """Each method and path that the API describes, to strangers too."""
    spec = service.nobody.get("/openapi.json").json()
    return [(method, path) for path, methods in spec["paths"].items() for method in methods]


def error_of(answer: httpx.Response) -> tuple[int, str]:
    error = models.Error.model_validate_json(answer.text).error
    return answer.status_code, error.code


def refused(answer: httpx.Response) -> bool:
    assert "www-authenticate" not in answer.headers or answer.status_code == 401
    return error_of(answer) == (401, "UNAUTHENTICATED") and answer.headers["www-authenticate"].startswith("ApiKey ")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-API-Key", "")],
        [("X-API-Key", "wrong")],
        [("X-API-Key", KEYS["alice"] + "x")],
        [("X-API-Key", KEYS["alice"].upper())],
        [("X-API-Key", entry("alice").split(":")[1])],
        [("X-API-Key", KEYS["alice"]), ("X-API-Key", KEYS["bob"])],
        [("Authorization", f"Bearer {KEYS['alice']}")],
        [("X-API-Key", "\xff" * 100)],
    ],
)
def test_nothing_but_the_open_paths_answers_strangers(
    service: SignedIn, operations: list[tuple[str, str]], headers: list[tuple[str, str]]
) -> None:
    task_id = service.registered(service.alice)
    given = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    asked = [(method, path) for method, path in operations if (method, path) not in OPEN]
    asked += [
        ("get", "/nothing"),
        ("put", "/ffmpeg/register"),
        ("get", "/ffmpeg/health/"),
        ("get", "/docs/"),
        ("get", "/"),
    ]
    asked += [("get", "/files"), ("get", "//ffmpeg/health"), ("get", "/FFMPEG/status/{task_id}"), ("get", "/redoc")]

    answers = {
        (method, path): service.nobody.request(method, path.replace("{task_id}", task_id), headers=given, content="{")
        for method, path in asked
    }

    assert [place for place, answer in answers.items() if not refused(answer)] == []
    assert {answer.text for answer in answers.values()} == {next(iter(answers.values())).text}
    assert service.api.store.get(task_id).status is Status.PENDING


def test_a_stranger_is_refused_before_its_body_is_read(service: SignedIn) -> None:
    with socket.create_connection(service.api.address, timeout=api_server.PATIENCE) as connection:
        connection.sendall(b"POST /ffmpeg/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")
    assert refused(service.nobody.post("/ffmpeg/register", content=b" " * 300_000))
    assert error_of(service.bob.post("/ffmpeg/register", content=b" " * 300_000)) == (413, "REQUEST_TOO_LARGE")


def test_strangers_see_the_documentation_and_whether_the_service_is_well(service: SignedIn) -> None:
    for path in ("/docs", "/openapi.json"):
        assert service.nobody.get(path).status_code == 200
    wrong = {"X-API-Key": "wrong"}
    for answer in (service.nobody.get("/ffmpeg/health"), service.nobody.get("/ffmpeg/health", headers=wrong)):
        assert (answer.status_code, answer.json()) == (200, {"status": "healthy", "ffmpeg": None, "checks": {}})
    in_full = models.Health.model_validate_json(service.bob.get("/ffmpeg/health").text)
    assert in_full.ffmpeg == models.Ffmpeg(version=FFMPEG_VERSION)
    assert set(in_full.checks) == {"task_store", "object_store", "dispatcher"}


def test_a_link_to_a_file_needs_no_key(service: SignedIn) -> None:
    task_id = service.registered(service.alice)
    service.api.completed(task_id, b"video")
    url = service.alice.get(f"/ffmpeg/status/{task_id}").json()["output_url"]
    assert service.nobody.get(url).content == b"video"
    for hidden in ("/files/x/../../ffmpeg/status/" + task_id, "/files/%2e%2e/ffmpeg/status/" + task_id):
        assert error_of(service.nobody.get(hidden))[1] in ("NOT_FOUND", "UNAUTHENTICATED")


OWN = {
    "/ffmpeg/execute/{task_id}": (202, "queued"),
    "/ffmpeg/status/{task_id}": (200, "pending"),
    "/ffmpeg/cancel/{task_id}": (202, "canceled"),
    "/ffmpeg/notify/{task_id}": (409, "TASK_NOT_READY"),
    "/ffmpeg/result/{task_id}": (409, "TASK_NOT_READY"),
    "/ffmpeg/result/{task_id}/{filename}": (409, "TASK_NOT_READY"),
    "/ffmpeg/log/{task_id}": (404, "NOT_FOUND"),
    "/ffmpeg/tasks/{task_id}": (409, "TASK_NOT_READY"),
}
READS = ("status", "result", "log")


def outcome(status: int, body: dict[str, Any]) -> tuple[int, str]:
    return status, body["error"]["code"] if body.get("error") else body["status"]


@pytest.mark.parametrize(("path", "expected"), OWN.items())
def test_a_key_and_an_admin_may_do_all_to_its_task_and_another_key_nothing(
    service: SignedIn, path: str, expected: tuple[int, str]
) -> None:
    kind = path.split("/")[2]
    method = "GET" if kind in READS else "DELETE" if kind == "tasks" else "POST"
    path = path.replace("{filename}", "output.mp4")
    for caller in (service.alice, service.root):
        task_id = service.registered(service.alice)
        before = service.api.store.get(task_id)
        strange = service.bob.request(method, path.replace("{task_id}", task_id))
        assert error_of(strange) == (404, "TASK_NOT_FOUND")
        assert service.api.store.get(task_id) == before

        answer = caller.request(method, path.replace("{task_id}", task_id))
        assert outcome(answer.status_code, answer.json()) == expected


OWN_BATCH = {
    ("get", "/ffmpeg/batches/{batch_id}"): (200, "queued"),
    ("post", "/ffmpeg/batches/{batch_id}/cancel"): (202, "canceled"),
}
BATCH = {
    "inputs": ["https://media.example.com/a.mov", "https://media.example.com/b.mov"],
    "command": "-i {name} {stem}.mp4",
    "output_filename": "{stem}.mp4",
}


def registered_batch(caller: httpx.Client, **headers: str) -> str:
    answer = caller.post("/ffmpeg/batches", json=BATCH, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["batch_id"])


@pytest.mark.parametrize(("operation", "expected"), OWN_BATCH.items())
def test_a_key_and_an_admin_may_do_all_to_its_batch_and_another_key_nothing(
    service: SignedIn, operation: tuple[str, str], expected: tuple[int, str]
) -> None:
    method, path = operation
    for caller in (service.alice, service.root):
        batch_id = registered_batch(service.alice)
        asked = path.replace("{batch_id}", batch_id)
        before = service.api.services.records.find("batch", batch_id)

        strange = service.bob.request(method, asked)
        none = service.bob.request(method, path.replace("{batch_id}", batch_id_of(str(uuid4()))))

        assert error_of(strange) == error_of(none) == (404, "BATCH_NOT_FOUND")
        assert service.api.services.records.find("batch", batch_id) == before
        answer = caller.request(method, asked)
        assert outcome(answer.status_code, answer.json()) == expected
        assert answer.json()["key_name"] == "alice"


def test_every_operation_on_a_batch_is_in_the_tests(operations: list[tuple[str, str]]) -> None:
    assert {(method, path) for method, path in operations if "{batch_id}" in path} == set(OWN_BATCH)


@pytest.mark.parametrize("path", [path for path in OWN if "filename" not in path])
def test_the_tasks_of_a_batch_are_its_keys_before_they_have_a_row(service: SignedIn, path: str) -> None:
    task = task_id(registered_batch(service.alice), 0)
    kind = path.split("/")[2]
    method = "GET" if kind in READS else "DELETE" if kind == "tasks" else "POST"
    asked = path.replace("{task_id}", task)
    assert error_of(service.bob.request(method, asked)) == (404, "TASK_NOT_FOUND")
    for caller in (service.root, service.alice):
        assert caller.get(f"/ffmpeg/status/{task}").status_code == 200


def test_a_key_lists_the_tasks_of_its_own_batches(service: SignedIn) -> None:
    batch_id = registered_batch(service.alice)
    ids = {task_id(batch_id, number) for number in (0, 1)}

    def listed(caller: httpx.Client, query: str = "") -> set[str]:
        return {task["task_id"] for task in caller.get(f"/ffmpeg/tasks?limit=200{query}").json()["items"]}

    for query in ("", "&status=queued", f"&batch_id={batch_id}"):
        assert ids <= listed(service.alice, query)
        assert ids <= listed(service.root, query)
    assert not ids & (listed(service.bob) | listed(service.bob, "&status=queued"))
    assert error_of(service.bob.get(f"/ffmpeg/tasks?batch_id={batch_id}")) == (404, "BATCH_NOT_FOUND")


def test_idempotency_keys_of_batches_are_each_callers_own(service: SignedIn) -> None:
    key = {"Idempotency-Key": "all-of-4711"}
    first, of_bob = registered_batch(service.alice, **key), registered_batch(service.bob, **key)
    again = service.alice.post("/ffmpeg/batches", json=BATCH, headers=key)
    assert (again.status_code, again.json()["batch_id"]) == (200, first)
    assert first != of_bob


def test_a_batch_has_no_more_tasks_at_once_than_its_key_may(tmp_path: Path) -> None:
    listed = f"{entry('alice', 'live=3')},{entry('bob')}"
    with signed_in.running(tmp_path, api_keys=listed) as service:
        for caller, asked, expected in (
            (service.alice, None, 3),
            (service.alice, 2, 2),
            (service.alice, 9, 3),
            (service.bob, None, None),
        ):
            body = {**BATCH, **({"concurrency": asked} if asked else {})}
            assert caller.post("/ffmpeg/batches", json=body).json()["concurrency"] == expected


def test_a_key_lists_its_own_tasks_and_an_admin_those_of_all(service: SignedIn) -> None:
    ids = {name: service.registered(who) for name, who in (("alice", service.alice), ("bob", service.bob))}

    listed = {
        name: [task["task_id"] for task in who.get("/ffmpeg/tasks?limit=200").json()["items"]]
        for name, who in (("alice", service.alice), ("bob", service.bob), ("root", service.root))
    }

    assert (ids["alice"] in listed["alice"], ids["bob"] in listed["alice"]) == (True, False)
    assert (ids["alice"] in listed["bob"], ids["bob"] in listed["bob"]) == (False, True)
    assert set(ids.values()) <= set(listed["root"])


def test_every_operation_on_a_task_is_in_the_tests(operations: list[tuple[str, str]]) -> None:
    assert {path for _, path in operations if "{task_id}" in path} == set(OWN)


def test_what_an_admin_registers_is_not_for_the_others(service: SignedIn) -> None:
    task_id = service.registered(service.root)
    assert service.root.get(f"/ffmpeg/status/{task_id}").json()["key_name"] == "root"
    assert error_of(service.alice.get(f"/ffmpeg/status/{task_id}")) == (404, "TASK_NOT_FOUND")


def test_a_task_from_before_there_were_keys_is_for_admins(service: SignedIn) -> None:
    task_id = service.api.store.create(task_in(Status.PENDING)).task_id
    assert error_of(service.alice.get(f"/ffmpeg/status/{task_id}")) == (404, "TASK_NOT_FOUND")
    assert service.root.get(f"/ffmpeg/status/{task_id}").json()["key_name"] is None


def without_id(answer: httpx.Response, task_id: str) -> tuple[int, str, dict[str, str]]:
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, answer.text.replace(task_id, "THE ID"), headers


@settings(max_examples=60)
@given(
    status=st.sampled_from(Status),
    which=st.integers(0, 1000),
    key_name=st.sampled_from(["alice", "root", "bobby", "bo", "", None]),
    query=st.sampled_from(["", "?execute=true", "?limit=1"]),
    body=st.sampled_from(["", "{}", "{", json.dumps(ONE_OUTPUT)]),
)
def test_anothers_task_is_answered_like_one_that_there_is_not(
    service: SignedIn,
    operations: list[tuple[str, str]],
    status: Status,
    which: int,
    key_name: str,
    query: str,
    body: str,
) -> None:
    on_tasks = [(method, path) for method, path in operations if "{task_id}" in path]
    method, path = on_tasks[which % len(on_tasks)]
    stored = service.api.store.create(task_in(status, key_name=key_name))

    answers = [
        without_id(
            service.bob.request(
                method, path.replace("{task_id}", task_id) + query, content=body, headers={"X-Correlation-Id": "same"}
            ),
            task_id,
        )
        for task_id in (stored.task_id, str(uuid4()))
    ]

    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert service.api.store.get(stored.task_id) == stored


def test_idempotency_keys_are_each_callers_own(service: SignedIn) -> None:
    headers = {"Idempotency-Key": "order-1"}
    other = {**ONE_OUTPUT, "command": "-i input.mp4 -crf 30 output.mp4"}
    first = service.alice.post("/ffmpeg/register", json=ONE_OUTPUT, headers=headers)
    again = service.alice.post("/ffmpeg/register", json=ONE_OUTPUT, headers=headers)
    of_bob = service.bob.post("/ffmpeg/register", json=other, headers=headers)
    of_root = service.root.post("/ffmpeg/register", json=ONE_OUTPUT, headers=headers)
    conflict = service.alice.post("/ffmpeg/register", json=other, headers=headers)

    assert [answer.status_code for answer in (first, again, of_bob, of_root)] == [201, 200, 201, 201]
    assert first.json() == again.json()
    assert len({answer.json()["task_id"] for answer in (first, of_bob, of_root)}) == 3
    assert error_of(conflict) == (409, "IDEMPOTENCY_CONFLICT")


def test_the_log_has_the_name_of_the_key_and_never_the_key(service: SignedIn, caplog: pytest.LogCaptureFixture) -> None:
    wrong, ours = "ffk_of-nobody-that-is-known", {"X-Correlation-Id": str(uuid4())}

    def requests() -> list[dict[str, Any]]:
        records = (record.__dict__ for record in caplog.records if record.getMessage() == "request")
        return [record for record in records if record.get("correlation_id") == ours["X-Correlation-Id"]]

    caplog.set_level(logging.DEBUG)
    caplog.handler.addFilter(keys_filter := LogKeys())
    try:
        task_id = service.registered(service.alice, **ours)
        service.bob.get(f"/ffmpeg/status/{task_id}", headers=ours)
        service.nobody.get(f"/ffmpeg/status/{task_id}", headers={"X-API-Key": wrong, **ours})
        seconds_until(lambda: len(requests()) == 3, most=60)  # a request is logged when it has been answered
    finally:
        caplog.handler.removeFilter(keys_filter)

    assert [(record.get("key_name"), record["status"]) for record in requests()] == [
        ("alice", 201),
        ("bob", 404),
        (None, 401),
    ]
    said = " ".join(
        str(record.__dict__) for record in caplog.records if not record.name.startswith(("httpcore", "httpx"))
    )
    assert not [key for key in (*KEYS.values(), wrong) if key in said]
    assert service.api.store.get(task_id).key_name == "alice"


def test_the_description_says_that_a_key_is_needed(service: SignedIn) -> None:
    spec = service.nobody.get("/openapi.json").json()
    scheme = spec["components"]["securitySchemes"]["ApiKey"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-API-Key")
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            needed = (method, path) not in OPEN
            assert operation["security"] == ([{"ApiKey": []}] if needed else [{}, {"ApiKey": []}])
            assert ("401" in operation["responses"]) is needed
            named = {"WWW-Authenticate", "X-Correlation-Id"} if needed else set()
            assert named <= set(operation["responses"].get("401", {"headers": ()})["headers"])
            assert {"Retry-After", "X-Correlation-Id"} <= set(operation["responses"]["429"]["headers"])
    assert spec == service.nobody.get("/openapi.json").json()


def test_a_key_is_held_to_its_pace_and_told_the_true_wait(tmp_path: Path) -> None:
    listed = f"{entry('alice')},{entry('bob', 'rate=2')},{entry('root', 'admin', 'rate=0')}"
    with signed_in.running(tmp_path, api_keys=listed, rate_limit_per_minute=6) as service:
        path = f"/ffmpeg/status/{service.registered(service.alice)}"
        assert [service.alice.get(path).status_code for _ in range(6)] == [200] * 5 + [429]
        answer = service.alice.get(path)
        assert error_of(answer) == (429, "TOO_MANY_REQUESTS")
        assert answer.json()["error"]["details"] == {"requests_per_minute": 6, "retry_after_seconds": 10}

        service.clock.pass_by(int(answer.headers["retry-after"]) - 0.001)
        assert service.alice.get(path).headers["retry-after"] == "1"
        service.clock.pass_by(0.001)
        assert [service.alice.get(path).status_code for _ in range(2)] == [200, 429]

        assert [service.bob.get(path).status_code for _ in range(3)] == [404, 404, 429]
        assert {service.root.get(path).status_code for _ in range(20)} == {200}
        assert {service.nobody.get("/ffmpeg/health").status_code for _ in range(20)} == {200}


def test_two_keys_of_one_name_share_their_pace(tmp_path: Path) -> None:
    other = entry("bob").replace("bob", "alice", 1)
    with signed_in.running(tmp_path, api_keys=f"{entry('alice')},{other}", rate_limit_per_minute=2) as service:
        task_id = service.registered(service.alice)
        assert service.bob.get(f"/ffmpeg/status/{task_id}").status_code == 200
        assert service.alice.get(f"/ffmpeg/status/{task_id}").status_code == 429


def executed(caller: httpx.Client, task_id: str) -> httpx.Response:
    return caller.post(f"/ffmpeg/execute/{task_id}")


def test_a_key_has_so_many_live_tasks_and_no_more(tmp_path: Path) -> None:
    listed = f"{entry('alice')},{entry('bob', 'live=1')},{entry('root', 'admin', 'live=0')}"
    with signed_in.running(tmp_path, api_keys=listed, max_live_tasks_per_key=2) as service:
        first, second, third = (service.registered(service.alice) for _ in range(3))
        service.api.running(first)
        assert [executed(service.alice, task_id).status_code for task_id in (first, second, second)] == [202] * 3

        answer = executed(service.alice, third)
        assert (error_of(answer), answer.headers["retry-after"]) == ((429, "TOO_MANY_REQUESTS"), "10")
        assert answer.json()["error"]["details"] == {"task_id": third, "most_live_tasks": 2, "retry_after_seconds": 10}
        assert service.api.store.get(third).status is Status.PENDING
        both = service.alice.post("/ffmpeg/register?execute=true", json=ONE_OUTPUT)
        assert error_of(both) == (429, "TOO_MANY_REQUESTS")
        stored = service.api.store.get(both.json()["error"]["details"]["task_id"])
        assert (stored.status, stored.key_name) == (Status.PENDING, "alice")

        mine = [service.registered(service.bob) for _ in range(2)]
        assert [executed(service.bob, task_id).status_code for task_id in mine] == [202, 429]
        theirs = [service.registered(service.root) for _ in range(5)]
        assert {executed(service.root, task_id).status_code for task_id in theirs} == {202}

        assert service.alice.post(f"/ffmpeg/cancel/{second}").status_code == 202
        assert executed(service.alice, third).status_code == 202


def test_of_many_executed_at_once_no_more_become_live_than_may(tmp_path: Path) -> None:
    with signed_in.running(tmp_path, max_live_tasks_per_key=3) as service:
        tasks = [service.registered(service.alice) for _ in range(24)]
        with ThreadPoolExecutor(12) as pool:
            answers = Counter(pool.map(lambda task_id: executed(service.alice, task_id).status_code, tasks))
        assert answers == {202: 3, 429: 21}
        assert service.api.store.count_live("alice", most=100) == 3


def test_without_keys_in_the_settings_none_is_asked_for_and_one_that_is_sent_changes_nothing(tmp_path: Path) -> None:
    with api_server.running(tmp_path) as api:
        answer = api.http.post("/ffmpeg/register", json=ONE_OUTPUT, headers={"X-API-Key": "whatever"})
        assert (answer.status_code, answer.json()["key_name"]) == (201, None)
        assert api.http.get(answer.headers["location"]).status_code == 200
        spec = api.http.get("/openapi.json").json()
        assert "securitySchemes" not in spec["components"]


def test_a_service_that_needs_keys_may_listen_everywhere_and_its_workers_need_none(tmp_path: Path) -> None:
    body = {"command": "-f lavfi -i testsrc2=d=1:s=64x64 out.mp4", "input_files": {}, "output_filename": "out.mp4"}
    with service_process.running(tmp_path, HOST="0.0.0.0", API_KEYS=API_KEYS) as process:
        assert refused(process.http.post("/ffmpeg/register", json=body))
        process.http.headers["X-API-Key"] = KEYS["alice"]
        answer = process.http.post("/ffmpeg/register?execute=true", json=body)
        ended = process.ended(answer.json()["task_id"])
        assert (ended["status"], ended["key_name"]) == ("completed", "alice"), ended
        log = process.last_words()
    assert '"key_name":"alice"' in log
    assert KEYS["alice"] not in log


# The same on Lambda


@pytest.fixture
def function(aws: Moto, tmp_path: Path) -> Iterator[LambdaProcess]:
    listed = f"{entry('alice')},{entry('bob')},{entry('root', 'admin', 'rate=1')}"
    own = {"API_KEYS": listed, "MAX_LIVE_TASKS_PER_KEY": "1"}
    with lambda_process.started({**aws.env, **moto_server.SETTINGS, **own}, tmp_path) as started:
        yield started


def asked(function: LambdaProcess, name: str, caller: str | None, task_id: str = "") -> tuple[int, str]:
    text = (lambda_process.ROOT / "events" / f"{name}.json").read_text()
    event = json.loads(text.replace("00000000-0000-4000-8000-000000000000", task_id or str(uuid4())))
    if caller:
        event["headers"]["x-api-key"] = KEYS.get(caller, caller)
    answer = function.invoke(event)
    body = json.loads(answer["body"])
    assert (answer["statusCode"] == 401) is ("www-authenticate" in answer["headers"])
    if name == "register" and answer["statusCode"] == 201:
        return 201, body["task_id"]
    return outcome(answer["statusCode"], body)


def test_on_lambda_each_key_has_its_own_tasks_and_limits(function: LambdaProcess) -> None:
    for caller in (None, "wrong"):
        for name in ("register", "execute", "status", "cancel", "notify"):
            assert asked(function, name, caller) == (401, "UNAUTHENTICATED")
    assert asked(function, "health", None) == (200, "healthy")

    status, first = asked(function, "register", "alice")
    _, second = asked(function, "register", "alice")
    assert status == 201
    for name in ("execute", "status", "cancel", "notify"):
        assert asked(function, name, "bob", first) == asked(function, name, "bob") == (404, "TASK_NOT_FOUND")
    assert asked(function, "status", "root", first) == (200, "pending")
    assert asked(function, "status", "root", first) == (429, "TOO_MANY_REQUESTS")  # for a minute

    assert asked(function, "execute", "alice", first) == (202, "queued")
    assert asked(function, "execute", "alice", second) == (429, "TOO_MANY_REQUESTS")
    assert asked(function, "cancel", "alice", first) == (202, "canceled")
    assert asked(function, "execute", "alice", second) == (202, "queued")

    assert asked(function, "status", "bob", first) == (404, "TASK_NOT_FOUND")
    assert not [key for key in KEYS.values() if key in function.log_file.read_text()]
    names = [line.get("key_name") for line in function.log() if line.get("message") == "request"]
    assert names[-1] == "bob"
    assert names[:10] == [None] * 10
