"""The sweep's Lambda function, and a burst of requests through the API's while much of AWS is throttled."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest

from core import moves, sweep
from core.aws.dispatcher import BatchDispatcher
from core.aws.object_store import S3ObjectStore
from core.aws.record_store import DynamoRecordStore
from core.aws.task_store import DynamoTaskStore
from core.batch import Batch, Source, batch_id_of
from core.batches import create_batch
from core.ports import Services
from core.task import KEEP_RECORD, Notice, NoticeStatus, Status
from support import aws_faults, lambda_process, moto_server
from support.aws_faults import CLOSED, Exchange, Fault, Faults, error
from support.builders import NOW, a_task, task_in
from support.lambda_module import imported
from support.lambda_process import LambdaProcess
from support.moto_server import Moto

EVENTS = lambda_process.ROOT / "events"
COSTS = (lambda_process.ROOT / "infra" / "README.md").read_text().split("\n## What it costs\n")[1].split("\n## ")[0]
PLACEHOLDER = "00000000-0000-4000-8000-000000000000"

sweep_handler = imported("handlers.sweep")


def event(name: str, task_id: str = PLACEHOLDER) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text().replace(PLACEHOLDER, task_id))
    return made


@pytest.fixture
def faults(aws: Moto) -> Iterator[Faults]:
    with aws_faults.serving(aws.url) as serving:
        yield serving


@pytest.fixture
def services(aws: Moto) -> Services:
    return Services(
        store=DynamoTaskStore(moto_server.TABLE),
        records=DynamoRecordStore(moto_server.TABLE),
        objects=S3ObjectStore(moto_server.BUCKET),
        dispatcher=BatchDispatcher(moto_server.places()),
    )


def env(faults: Faults, aws: Moto) -> dict[str, str]:
    return {**aws.env, **moto_server.SETTINGS, "AWS_ENDPOINT_URL": faults.url}


def test_the_function_sets_going_what_is_due_and_says_so(
    aws: Moto, faults: Faults, services: Services, tmp_path: Path
) -> None:
    # given lost workers, a lost submit, a task whose time to be told of has come, and one that is to be forgotten
    store, before = services.store, datetime.now(UTC) - timedelta(hours=1)  # the function goes by the real clock
    lost = [store.create(task_in(Status.RUNNING, now=before)) for _ in range(3)]
    unsubmitted = store.create(task_in(Status.QUEUED, now=before))
    failed = task_in(Status.FAILED, now=before)
    told = store.create(replace(failed, notices=(Notice(channel="none", due_at=before),)))
    old = store.create(task_in(Status.FAILED, now=before - KEEP_RECORD))
    fresh = store.create(task_in(Status.PENDING, now=before))

    # when the schedule comes
    with lambda_process.started(env(faults, aws), tmp_path, module="handlers.sweep") as function:
        answer = function.invoke(event("sweep"))
    records = function.log()

    # then each has what it needs
    for task in (*lost, unsubmitted):
        stored = store.get(task.task_id)
        assert (stored.status, bool(stored.job_id)) == (Status.QUEUED, True)
    assert store.get(told.task_id).notices[0].status is NoticeStatus.ABANDONED
    assert old.task_id not in {item["task_id"]["S"] for item in rows()}
    assert store.get(fresh.task_id) == fresh
    assert faults.calls["SubmitJob"] == 4
    # and the log and the metrics say so
    counts = {name: answer[name] for name in ("BatchesMoved", "LiveTasksMoved", "EndedTasksMoved", "OldestDueSeconds")}
    assert counts == {"BatchesMoved": 0, "LiveTasksMoved": 4, "EndedTasksMoved": 2, "OldestDueSeconds": 0}
    (swept,) = [record for record in records if record.get("message") == "swept"]
    assert swept["correlation_id"] == event("sweep")["id"]
    assert counts.items() <= swept.items()
    (metrics,) = [record for record in records if "_aws" in record]
    assert {name: metrics[name] for name in counts} == {name: [float(value)] for name, value in counts.items()}
    units = {metric["Name"]: metric["Unit"] for metric in metrics["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert units["OldestDueSeconds"] == "Seconds"
    assert {record["task_id"] for record in records if record.get("action") == "sweep_lose"} == {
        task.task_id for task in lost
    }


def test_at_rest_it_asks_for_what_the_costs_are_reckoned_with(aws: Moto, faults: Faults, tmp_path: Path) -> None:
    with lambda_process.started(env(faults, aws), tmp_path, module="handlers.sweep") as function:
        function.invoke(event("sweep"))
    (metrics,) = [record for record in function.log() if "_aws" in record]
    sent = len(metrics["_aws"]["CloudWatchMetrics"][0]["Metrics"])

    assert set(faults.calls) == {"Query", "ListJobs"}
    assert f"| {faults.calls['Query']} index queries of half a unit each" in COSTS
    assert f"| {sent} metrics that the sweep sends each minute |" in COSTS


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = boto3.client("dynamodb").scan(TableName=moto_server.TABLE)["Items"]
    return found


def run(services: Services, *, seconds: float, now: datetime = NOW + moves.LEASE) -> dict[str, int]:
    """The sweep with a clock that goes by a second each time that it is looked at."""
    left = iter(range(int(seconds), -1000, -1))
    swept: dict[str, int] = sweep_handler.run(services, now=lambda: now, seconds_left=lambda: float(next(left)))
    return swept


def test_the_sweep_takes_page_after_page(services: Services) -> None:
    for number in range(sweep_handler.PAGE + 20):
        services.store.create(task_in(Status.QUEUED, task_id=f"task-{number}"))
    assert run(services, seconds=60) == {
        "BatchesMoved": 0,
        "LiveTasksMoved": 120,
        "EndedTasksMoved": 0,
        "OldestDueSeconds": 0,
    }


def test_the_sweep_stops_in_time_and_says_how_far_behind_it_is(services: Services) -> None:
    services.store.create(task_in(Status.QUEUED))
    ended = services.store.create(replace(task_in(Status.FAILED), tidy_due_at=NOW))
    # too late for live tasks, but not for the others
    due_for = int((moves.LEASE - moves.SUBMIT_GRACE).total_seconds())
    assert run(services, seconds=sweep_handler.LEFT_FOR_ENDED) == {
        "BatchesMoved": 0,
        "LiveTasksMoved": 0,
        "EndedTasksMoved": 1,
        "OldestDueSeconds": due_for,
    }
    assert services.store.get(ended.task_id).tidy_due_at is None
    assert run(services, seconds=5)["OldestDueSeconds"] == due_for


def test_many_batches_that_lost_their_workers_leave_time_for_the_tasks(services: Services) -> None:
    """Each gets rows, hundreds of writes; else nobody would hand over what has a row."""
    task = services.store.create(task_in(Status.QUEUED))
    lost = [a_batch_of_one(services) for _ in range(5)]

    swept = run(services, seconds=sweep_handler.LEFT_FOR_LIVE + 3)

    assert 0 < swept["BatchesMoved"] < len(lost)
    assert services.store.get(task.task_id).job_id
    assert sum(run(services, seconds=60)["BatchesMoved"] for _ in range(3)) == len(lost) - swept["BatchesMoved"]


def a_batch_of_one(services: Services) -> Batch:
    """Due, and of a job that nobody knows any more."""
    batch_id = batch_id_of(str(uuid4()))
    template = a_task(input_files={"{name}": "{url}"})
    batch = Batch(
        batch_id=batch_id,
        template=template,
        count=1,
        per_slice=1,
        created_at=NOW,
        correlation_id="corr-1",
        job_id="lost",
        dispatch_due_at=NOW,
    )
    return create_batch(services, batch, [Source("a.mp4", "https://media.example/a.mp4")])


def test_two_sweeps_at_once_do_what_one_does(services: Services) -> None:
    tasks = [services.store.create(task_in(Status.RUNNING)) for _ in range(20)]
    both = threading.Barrier(2)

    def one(_: int) -> dict[str, int]:
        both.wait()
        return run(services, seconds=60)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(2)))
    stored = [services.store.get(task.task_id) for task in tasks]
    assert all(task.status is Status.QUEUED and task.job_id for task in stored)
    assert {(task.fence, len(task.attempts)) for task in stored} == {(1, 1)}


# A burst

THROTTLES = (error("ProvisionedThroughputExceededException"), error("ThrottlingException"))
BUSY = error("TooManyRequestsException", 429)
FUNCTIONS, EACH = 3, 5


def test_a_burst_on_a_throttled_aws_loses_nothing(
    aws: Moto, faults: Faults, services: Services, tmp_path: Path
) -> None:
    chance, asked = random.Random(4), Counter[str]()

    def chosen(exchange: Exchange) -> Fault | None:
        """Three of ten calls are throttled; of the submits some more are lost, and some refused again and again."""
        asked[exchange.operation] += 1
        if exchange.operation == "SubmitJob" and asked["SubmitJob"] % 8 in (0, 1, 2):
            return BUSY
        return chance.choice(THROTTLES) if chance.random() < 0.3 else None

    faults.chosen = chosen
    with ExitStack() as stack:
        functions = []
        for number in range(FUNCTIONS):
            folder = tmp_path / str(number)
            folder.mkdir()
            functions.append(stack.enter_context(lambda_process.started(env(faults, aws), folder)))
        with ThreadPoolExecutor(FUNCTIONS) as pool:
            results = [answer for answers in pool.map(burst, functions) for answer in answers]

    # whatever was answered is true: what was accepted is in the store, as it was said to be
    assert Counter(status for status, _ in results).keys() <= {201, 202, 429, 503}
    accepted = {task_id for status, task_id in results if status == 202}
    stored = {item["task_id"]["S"]: services.store.get(item["task_id"]["S"]) for item in rows()}
    assert {task_id for status, task_id in results if status == 201} <= set(stored)
    assert len(accepted) == FUNCTIONS * EACH
    assert {stored[task_id].status for task_id in accepted} == {Status.QUEUED}
    # and the sweep brings every task to a job, AWS being throttled still and then no more
    now = datetime.now(UTC)
    for minute in range(1, 4):
        sweep.sweep(services, now=now + timedelta(minutes=minute))
    jobs = set(job_names())
    assert {f"task-{task_id}" for task_id in accepted} <= jobs
    assert all(services.store.get(task_id).job_id for task_id in accepted)


def burst(function: LambdaProcess) -> list[tuple[int, str]]:
    """Each task registered and executed, each request sent again when it is to be; the answers with the tasks' ids."""
    answers: list[tuple[int, str]] = []

    def sent(made: Callable[[], dict[str, Any]], task_id: str = "") -> str:
        for _ in range(8):
            answer = function.invoke(made())
            task = json.loads(answer["body"])
            task_id = task.get("task_id", task_id)
            answers.append((answer["statusCode"], task_id))
            if answer["statusCode"] < 400:
                return task_id
            assert int(answer["headers"]["retry-after"]) in range(1, 61)
        raise AssertionError("refused again and again")

    for _ in range(EACH):
        registered = sent(lambda: event("register"))
        sent(lambda task_id=registered: event("execute", task_id), registered)  # type: ignore[misc]
    return answers


def job_names() -> list[str]:
    pages = (
        boto3.client("batch")
        .get_paginator("list_jobs")
        .paginate(jobQueue=moto_server.QUEUE, filters=[{"name": "JOB_NAME", "values": ["task-*"]}])
    )
    return [job["jobName"] for page in pages for job in page["jobSummaryList"]]


def test_an_api_whose_store_is_throttled_or_gone_says_when_to_come_again(
    aws: Moto, faults: Faults, tmp_path: Path
) -> None:
    with lambda_process.started(env(faults, aws), tmp_path) as function:
        faults.on("PutItem", THROTTLES[0], always=True)
        throttled = function.invoke(event("register"))
        faults.on("PutItem", CLOSED, always=True)
        gone = function.invoke(event("register"))
    assert (throttled["statusCode"], throttled["headers"]["retry-after"]) == (429, "5")
    assert (gone["statusCode"], gone["headers"]["retry-after"]) == (503, "5")
    assert [json.loads(answer["body"])["error"]["code"] for answer in (throttled, gone)] == [
        "TOO_MANY_REQUESTS",
        "SERVICE_UNAVAILABLE",
    ]
    assert rows() == []
