"""The settings at run time, the load and the metrics: on the real service, with keys, and through Lambda events."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from core import workers
from core.aws.record_store import DynamoRecordStore
from core.aws.task_store import DynamoTaskStore
from core.local.record_store import SqliteRecordStore
from core.task import Status
from core.workers import Gpu, Usage, Worker
from handlers.web import admin_models, models
from support import lambda_process, moto_server, signed_in
from support.builders import task_in
from support.lambda_process import LambdaProcess
from support.moto_server import Moto
from support.service import Service, running
from support.signed_in import SignedIn
from support.source_server import SourceServer, serving

EVENTS, OPERATORS = lambda_process.ROOT / "events", lambda_process.ROOT / "infra" / "README.md"
PATIENCE = 120.0  # seconds; only a failing test waits that long
COPY = "-i in.mp4 -c copy out.mp4"
BY_DEFAULT = {"input_files": {"a.mov": "https://media.example.com/a.mov"}, "output_filename": "b.mp4"}


def until(condition: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


# One machine, for real.


@pytest.fixture(scope="module")
def source() -> Iterator[SourceServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service"), MAX_CONCURRENT_TASKS="1") as started:
        yield started


@pytest.fixture
def busy(service: Service, source: SourceServer) -> Iterator[list[str]]:
    """Four tasks that would never end, and take no processor time; the pool has room for one."""
    url = f"{source.url}/trickle/in.mp4"
    tasks = [service.register(COPY, {"in.mp4": url}, "out.mp4") for _ in range(4)]
    yield tasks
    put(service, {})
    for task_id in tasks:
        service.cancel(task_id)
    until(lambda: pool(service) == {"size": 1, "running": 0, "waiting": 0})


def shown_workers(service: Service) -> dict[str, dict[str, Any]]:
    """By their tasks. Those of an earlier test may still be among them: one that was killed is shown for a minute."""
    return {worker["task_id"]: worker for worker in system(service)["workers"]}


def put(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    answer = service.http.put("/ffmpeg/settings", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def system(service: Service) -> dict[str, Any]:
    return admin_models.System.model_validate_json(service.http.get("/ffmpeg/system").text).model_dump(mode="json")


def pool(service: Service) -> dict[str, int]:
    return dict(system(service)["machine"]["pool"])


def statuses(service: Service, tasks: list[str]) -> list[str]:
    return [service.status(task_id)["status"] for task_id in tasks]


def test_the_pool_grows_and_shrinks_while_tasks_wait(service: Service, busy: list[str]) -> None:
    # given one that runs, and three that wait for it
    until(lambda: statuses(service, busy) == ["running", "queued", "queued", "queued"])
    assert pool(service) == {"size": 1, "running": 1, "waiting": 3}

    # when there may be three, three run
    shown = put(service, {"max_concurrent_tasks": 3})
    assert shown["max_concurrent_tasks"] == {"value": 3, "source": "stored"}
    until(lambda: statuses(service, busy) == ["running", "running", "running", "queued"])

    # when there may be one again, those that run are let finish, and none is begun while there are more
    assert put(service, {})["max_concurrent_tasks"] == {"value": 1, "source": "environment"}
    until(lambda: pool(service)["size"] == 1)
    service.cancel(busy[0])
    until(lambda: pool(service)["running"] == 2)
    time.sleep(1.5)
    assert statuses(service, busy) == ["canceled", "running", "running", "queued"]
    service.cancel(busy[1])
    service.cancel(busy[2])
    until(lambda: statuses(service, busy) == ["canceled", "canceled", "canceled", "running"])


def test_the_load_shows_who_waits_and_who_works(service: Service, busy: list[str]) -> None:
    until(lambda: shown_workers(service).keys() & set(busy))
    found, shown = system(service), shown_workers(service)

    assert found["tasks"] == {"pending": 0, "queued": 3, "running": 1}
    registered = datetime.fromisoformat(service.status(busy[0])["created_at"])
    assert 0 < found["oldest_queued_seconds"] <= (datetime.now(UTC) - registered).total_seconds()
    running_one = next(task_id for task_id in busy if service.status(task_id)["status"] == "running")
    assert shown.keys() & set(busy) == {running_one}
    worker = shown[running_one]
    assert (worker["attempt"], worker["gpus"]) == (1, [])
    assert worker["memory_bytes"] > 20 * 1024**2
    assert 0 <= worker["cpu_cores"] < 8
    machine = found["machine"]
    assert machine["cores"] >= 1
    assert 0 < machine["memory_available_bytes"] < machine["memory_total_bytes"]
    assert machine["disks"].keys() == {"data", "scratch"}
    assert str(service.data_dir) not in json.dumps(found)

    service.cancel(running_one)
    assert system(service)["last_minute"]["canceled"] >= 1
    # Long before it would be taken for gone.
    until(lambda: running_one not in shown_workers(service), seconds=workers.STALE.total_seconds() / 2)


def test_what_a_killed_worker_has_left_is_swept(service: Service) -> None:
    records = SqliteRecordStore(service.data_dir / "tasks.db")
    old = datetime.now(UTC) - timedelta(minutes=2)
    gone = Worker(task_id="0-0", fence=1, host="h", started_at=old, seen_at=old, usage=Usage())
    records.create(workers.to_record(gone))
    assert "0-0" not in shown_workers(service)
    until(lambda: records.find(workers.KIND, "0-0.1") is None)
    records.close()


def test_settings_outlive_the_service(tmp_path: Path) -> None:
    with running(tmp_path, MAX_CONCURRENT_TASKS="1", DEFAULT_QUALITY="small") as first:
        put(first, {"max_concurrent_tasks": 4, "default_preset": "web-mp4-480p"})
    with running(tmp_path, MAX_CONCURRENT_TASKS="2", DEFAULT_QUALITY="small") as again:
        assert pool(again)["size"] == 4
        task = again.http.post("/ffmpeg/register", json=BY_DEFAULT).json()
        assert "-crf 28" in task["command"]
        shown = again.http.get("/ffmpeg/settings").json()
    assert {name: shown[name] for name in ("max_concurrent_tasks", "default_preset", "default_quality")} == {
        "max_concurrent_tasks": {"value": 4, "source": "stored"},
        "default_preset": {"value": "web-mp4-480p", "source": "stored"},
        "default_quality": {"value": "small", "source": "environment"},
    }


def test_metrics_can_be_read_by_prometheus(service: Service, busy: list[str]) -> None:
    until(lambda: statuses(service, busy).count("running") == 1)
    service.http.get("/ffmpeg/status/no-such-task")
    service.http.get("/nothing")
    service.http.post("/ffmpeg/batches", json={})
    service.http.delete("/ffmpeg/uploads/none")
    answer = service.http.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["transcoding_tasks", "running"] == samples["transcoding_pool_running",] == 1
    assert samples["transcoding_tasks", "queued"] == samples["transcoding_pool_waiting",] == 3
    assert samples["transcoding_pool_size",] == 1
    assert samples["transcoding_oldest_queued_seconds",] > 0
    assert samples["transcoding_http_requests_total", "201", "register"] >= 4
    assert samples["transcoding_http_requests_total", "404", "status"] >= 1
    assert samples["transcoding_http_requests_total", "(none)", "404"] >= 1
    assert samples["transcoding_http_requests_total", "400", "register_batch"] == 1
    assert samples["transcoding_http_requests_total", "404", "delete_upload"] == 1
    assert samples["transcoding_http_request_duration_seconds_count", "register"] >= 4
    assert {name for name, *_ in samples} >= {"transcoding_workers", "transcoding_disk_free_bytes"}
    assert all("no-such-task" not in "".join(labels) for labels in samples)


def test_metrics_are_for_admins_too(tmp_path: Path) -> None:
    with running(tmp_path, API_KEYS=signed_in.API_KEYS) as service:
        answers = {
            name: service.http.get("/metrics", headers={"X-API-Key": key}).status_code
            for name, key in {**signed_in.KEYS, "nobody": ""}.items()
        }
    assert answers == {"alice": 403, "bob": 403, "root": 200, "nobody": 401}


# With keys.


@pytest.fixture(scope="module")
def with_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIn]:
    with signed_in.running(tmp_path_factory.mktemp("api")) as started:
        yield started


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/ffmpeg/settings"), ("PUT", "/ffmpeg/settings"), ("GET", "/ffmpeg/system")]
)
def test_only_admins_may(with_keys: SignedIn, method: str, path: str) -> None:
    body = {"json": {"result_ttl_hours": 1}} if method == "PUT" else {}
    strange = with_keys.alice.request(method, path, **body)  # type: ignore[arg-type]

    error = models.Error.model_validate_json(strange.text).error
    assert (strange.status_code, error.code) == (403, "PERMISSION_DENIED")
    assert with_keys.nobody.request(method, path).status_code == 401
    assert with_keys.root.get("/ffmpeg/settings").json()["result_ttl_hours"]["source"] == "environment"
    assert with_keys.root.get(path).status_code == 200


def test_a_change_by_others_is_refused_before_its_values_are_judged(with_keys: SignedIn) -> None:
    answer = with_keys.alice.put("/ffmpeg/settings", json={"result_ttl_hours": -1, "default_preset": "nosuch"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "PERMISSION_DENIED")
    assert with_keys.root.get("/ffmpeg/settings").json()["version"] == 0


def test_a_change_says_who_made_it_and_holds_for_what_is_registered_then(with_keys: SignedIn) -> None:
    before = with_keys.registered(with_keys.alice)
    asked = with_keys.root.get("/ffmpeg/settings")
    nothing = with_keys.alice.post("/ffmpeg/register", json=BY_DEFAULT)
    assert (nothing.status_code, nothing.json()["error"]["details"]) == (400, {"field": "command"})

    body = {"result_ttl_hours": 2, "default_preset": "web-mp4-720p", "default_quality": "high"}
    answer = with_keys.root.put("/ffmpeg/settings", json=body, headers={"If-Match": asked.headers["etag"]})

    shown = admin_models.LiveSettings.model_validate_json(answer.text)
    assert (answer.status_code, shown.version, shown.changed_by) == (200, 1, "root")
    assert answer.headers["etag"] == '"1"'
    assert shown.changed_at == with_keys.clock.now
    made = with_keys.alice.post("/ffmpeg/register", json=BY_DEFAULT)
    assert made.status_code == 201
    assert "-crf 18" in made.json()["command"]
    valid = with_keys.alice.post("/ffmpeg/validate", json=BY_DEFAULT).json()
    assert valid["command"] == made.json()["command"]
    own = {**BY_DEFAULT, "preset": "web-mp4-720p", "parameters": {"quality": "small"}}
    assert "-crf 18" not in with_keys.alice.post("/ffmpeg/register", json=own).json()["command"]
    options = {**BY_DEFAULT, "options": {"video": {"codec": "h264"}}}
    assert "-crf 18" in with_keys.alice.post("/ffmpeg/register", json=options).json()["command"]
    store = with_keys.api.store
    assert store.get(made.json()["task_id"]).result_ttl_seconds == 2 * 3600
    assert store.get(before).result_ttl_seconds == 24 * 3600
    late = with_keys.root.put("/ffmpeg/settings", json={}, headers={"If-Match": '"0"'})
    assert (late.status_code, late.json()["error"]["code"]) == (412, "SETTINGS_CHANGED")
    assert with_keys.root.put("/ffmpeg/settings", json={}).json()["version"] == 2


def test_an_idempotency_key_outlives_a_change_of_the_default(with_keys: SignedIn) -> None:
    def registered() -> httpx.Response:
        return with_keys.bob.post("/ffmpeg/register", json=BY_DEFAULT, headers={"Idempotency-Key": "once"})

    with_keys.root.put("/ffmpeg/settings", json={"default_preset": "web-mp4-720p"})
    first = registered()
    with_keys.root.put("/ffmpeg/settings", json={"default_preset": "web-mp4-480p"})
    again = registered()
    with_keys.root.put("/ffmpeg/settings", json={})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == registered().json()


@pytest.mark.parametrize("etag", ["3", '"-1"', '"x"', 'W/"1"', '"1", "2"'])
def test_what_is_no_version_of_ours_is_refused(with_keys: SignedIn, etag: str) -> None:
    answer = with_keys.root.put("/ffmpeg/settings", json={}, headers={"If-Match": etag})
    assert (answer.status_code, answer.json()["error"]["details"]) == (400, {"field": "If-Match"})


def test_all_that_is_wrong_with_a_change_is_said_at_once(with_keys: SignedIn) -> None:
    body = {"default_preset": "x", "result_ttl_hours": "1", "max_concurrent_tasks": 0}
    answer = with_keys.root.put("/ffmpeg/settings", json=body)
    assert answer.status_code == 400
    assert [fault["field"] for fault in answer.json()["error"]["details"]["errors"]] == list(body)


# AWS.


@pytest.fixture
def function(aws: Moto, tmp_path: Path) -> Iterator[LambdaProcess]:
    with lambda_process.started({**aws.env, **moto_server.SETTINGS}, tmp_path) as started:
        yield started


def event(name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return made


def test_settings_are_set_through_the_function(function: LambdaProcess) -> None:
    untouched = json.loads(function.invoke(event("settings"))["body"])
    assert (untouched["version"], untouched["max_concurrent_tasks"]) == (0, None)

    answer = function.invoke(event("put_settings"))
    shown = admin_models.LiveSettings.model_validate_json(answer["body"])
    assert (answer["statusCode"], answer["headers"]["etag"], shown.version) == (200, '"1"', 1)
    assert json.loads(function.invoke(event("settings"))["body"]) == json.loads(answer["body"])

    registered = event("register")
    registered["body"] = json.dumps(BY_DEFAULT)
    task = models.Task.model_validate_json(function.invoke(registered)["body"])
    assert "-crf 18" in task.command
    assert DynamoTaskStore(moto_server.TABLE).get(task.task_id).result_ttl_seconds == 12 * 3600

    refused = event("put_settings")
    refused["body"] = json.dumps({"max_concurrent_tasks": 3, "result_ttl_hours": 1000})
    error = json.loads(function.invoke(refused)["body"])["error"]
    assert (error["code"], len(error["details"]["errors"])) == ("INVALID_ARGUMENT", 2)


def test_the_load_is_shown_through_the_function(function: LambdaProcess) -> None:
    store, records = DynamoTaskStore(moto_server.TABLE), DynamoRecordStore(moto_server.TABLE)
    for status, number in ((Status.PENDING, 1), (Status.QUEUED, 2), (Status.RUNNING, 3)):
        for _ in range(number):
            store.create(task_in(status))
    now = datetime.now(UTC)
    card = Gpu(use_percent=37.0, memory_used_bytes=1, memory_total_bytes=2)
    usage = Usage(cpu_cores=1.5, memory_bytes=3, gpus=(card,))
    here = Worker(task_id="t-1", fence=2, host="host", started_at=now, seen_at=now, usage=usage)
    records.create(workers.to_record(here))

    answer = function.invoke(event("system"))

    shown = admin_models.System.model_validate_json(answer["body"])
    assert (answer["statusCode"], shown.machine) == (200, None)
    assert shown.tasks == admin_models.Counts(pending=1, queued=2, running=3)
    assert shown.workers == (
        admin_models.Worker(
            task_id="t-1",
            attempt=2,
            host="host",
            started_at=now,
            seen_at=now,
            cpu_cores=1.5,
            memory_bytes=3,
            gpus=(admin_models.Gpu(use_percent=37.0, memory_used_bytes=1, memory_total_bytes=2),),
        ),
    )


def test_the_sweep_sends_the_load_and_takes_away_who_is_gone(aws: Moto, tmp_path: Path) -> None:
    store, records = DynamoTaskStore(moto_server.TABLE), DynamoRecordStore(moto_server.TABLE)
    now = datetime.now(UTC)
    for status in (Status.PENDING, Status.PENDING, Status.QUEUED):
        store.create(task_in(status, now=now))
    for name, seen_at in (("here", now + timedelta(hours=1)), ("gone", now - workers.STALE)):
        worker = Worker(task_id=name, fence=1, host="h", started_at=now, seen_at=seen_at, usage=Usage())
        records.create(workers.to_record(worker))

    with lambda_process.started({**aws.env, **moto_server.SETTINGS}, tmp_path, module="handlers.sweep") as function:
        answer = function.invoke(event("sweep"))
    (metrics,) = [record for record in function.log() if "_aws" in record]

    sent = {name: answer[name] for name in ("PendingTasks", "QueuedTasks", "RunningTasks", "LiveWorkers")}
    assert sent == {"PendingTasks": 2, "QueuedTasks": 1, "RunningTasks": 0, "LiveWorkers": 1}
    units = {one["Name"]: one["Unit"] for one in metrics["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert {name: units[name] for name in (*sent, "OldestQueuedSeconds")} == {
        **dict.fromkeys(sent, "Count"),
        "OldestQueuedSeconds": "Seconds",
    }
    assert f"| {len(units)} metrics that the sweep sends" in OPERATORS.read_text()  # where it says what they cost
    assert records.find(workers.KIND, "gone.1") is None
    assert records.find(workers.KIND, "here.1")
