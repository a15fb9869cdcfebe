"""AWS Batch that throttles, fails, is silent or loses its answers, seen through the real boto3 and a faulty network.

A task that could not be handed over stays queued and due, and the sweep hands it over; one that may have been handed
over twice is claimed once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config

from core import moves, sweep
from core.aws.dispatcher import BatchDispatcher
from core.aws.object_store import S3ObjectStore
from core.aws.record_store import DynamoRecordStore
from core.aws.task_store import DynamoTaskStore
from core.cancel import cancel
from core.errors import DispatchDelayed, DispatchUnavailable, ServiceError, TaskEnded, TaskNotReady
from core.execute import execute
from core.ports import JobState, Services, Sighting
from core.task import Status, Task
from support import aws_faults, moto_server
from support.aws_faults import CLOSED, GARBLED, LATE, LOST, SILENT, TRUNCATED, Answer, Exchange, Fault, Faults, error
from support.builders import NOW, a_task, task_in
from support.moto_server import Moto

TRIES = 2
LATER = NOW + timedelta(minutes=1)
THROTTLED = error("TooManyRequestsException", 429)


@pytest.fixture
def faults(aws: Moto) -> Iterator[Faults]:
    with aws_faults.serving(aws.url) as serving:
        yield serving


def a_dispatcher(url: str) -> BatchDispatcher:
    return BatchDispatcher(moto_server.places(), client=aws_faults.client("batch", url, tries=TRIES))


@pytest.fixture
def services(faults: Faults) -> Services:
    """As on AWS, with the faulty network to AWS Batch only."""
    return Services(
        store=DynamoTaskStore(moto_server.TABLE),
        records=DynamoRecordStore(moto_server.TABLE),
        objects=S3ObjectStore(moto_server.BUCKET),
        dispatcher=a_dispatcher(faults.url),
    )


def jobs_of(task: Task) -> list[str]:
    found = boto3.client("batch").list_jobs(
        jobQueue=moto_server.QUEUE, filters=[{"name": "JOB_NAME", "values": [f"task-{task.task_id}"]}]
    )
    return [job["jobId"] for job in found["jobSummaryList"]]


def empty_429(exchange: Exchange) -> None:
    exchange.answer(Answer(429, {}, b""))


# What happens to SubmitJob, whether each time; what submit then is, and how many jobs there are.
SUBMITS: dict[str, tuple[Fault, bool, type[ServiceError] | None, int]] = {
    "throttled once": (THROTTLED, False, None, 1),
    "throttled": (THROTTLED, True, DispatchDelayed, 0),
    "throttled by rate": (error("ThrottlingException"), True, DispatchDelayed, 0),
    "429 and nothing else": (empty_429, True, DispatchDelayed, 0),
    "500 once": (error("ServerException", 500), False, None, 1),
    "500": (error("ServerException", 500), True, DispatchDelayed, 0),
    "503": (error("ServiceUnavailable", 503), True, DispatchDelayed, 0),
    "closed before it arrives, once": (CLOSED, False, None, 1),
    "closed before it arrives": (CLOSED, True, DispatchDelayed, 0),
    "answer lost once": (LOST, False, None, 2),
    "answer lost": (LOST, True, DispatchDelayed, 2),
    "answer late": (LATE, True, DispatchDelayed, 2),
    "silent": (SILENT, True, DispatchDelayed, 0),
    "answer garbled": (GARBLED, False, DispatchDelayed, 1),
    "answer cut": (TRUNCATED, False, DispatchDelayed, 1),
    "queue disabled": (error("ClientException"), True, DispatchUnavailable, 0),
    "access denied": (error("AccessDeniedException", 403), True, DispatchUnavailable, 0),
    "token expired": (error("ExpiredTokenException", 403), True, DispatchUnavailable, 0),
}


@pytest.mark.parametrize("name", SUBMITS)
def test_no_task_is_lost_on_its_way_to_a_job(faults: Faults, services: Services, name: str) -> None:
    fault, always, raised, jobs = SUBMITS[name]
    task = services.store.create(a_task())
    faults.on("SubmitJob", fault, always=always)

    # when it is executed
    if raised is DispatchUnavailable:
        with pytest.raises(DispatchUnavailable) as caught:
            execute(services, task.task_id, now=NOW)
        assert caught.value.details["retry_after_seconds"] in range(10, 31)
    else:
        execute(services, task.task_id, now=NOW)

    # then it is queued, with its job or due soon
    stored = services.store.get(task.task_id)
    assert stored.status is Status.QUEUED
    assert len(jobs_of(task)) == jobs
    assert stored.dispatch_due_at
    if raised is None:
        assert stored.job_id in jobs_of(task)
        return
    assert (stored.job_id, stored.queue_reason) == (None, "AWS Batch could not be asked for a worker.")
    assert timedelta(seconds=10) <= stored.dispatch_due_at - NOW <= timedelta(seconds=30)
    # and with a whole network, the next sweep hands it over
    faults.heal()
    sweep.sweep(services, now=LATER)
    submitted = services.store.get(task.task_id)
    assert submitted.job_id in jobs_of(task)
    assert (len(jobs_of(task)), submitted.queue_reason) == (jobs + 1, None)


def test_nobody_listens(aws: Moto, services: Services) -> None:
    dispatcher = a_dispatcher("http://127.0.0.1:1")
    task = a_task(job_id="job-1")
    for act in (dispatcher.submit, dispatcher.stop, lambda task: dispatcher.look([task])):
        with pytest.raises(DispatchDelayed):
            act(task)
    with pytest.raises(DispatchDelayed):
        dispatcher.check()


def test_no_answer_in_time_is_none(faults: Faults) -> None:
    """By the real clock, which all other cases of silence here do without."""
    bounds = Config(read_timeout=0.2, retries={"mode": "standard", "total_max_attempts": TRIES})
    client = boto3.client("batch", endpoint_url=faults.url, config=bounds)
    faults.on("SubmitJob", aws_faults.HELD, always=True)
    with pytest.raises(DispatchDelayed):
        BatchDispatcher(moto_server.places(), client=client).submit(a_task())


def test_of_two_jobs_for_one_task_one_claims_it(faults: Faults, services: Services) -> None:
    task = services.store.create(a_task())
    faults.on("SubmitJob", LOST)
    queued = execute(services, task.task_id, now=NOW)
    first, second = jobs_of(task)
    claimed = services.store.replace(moves.claim(queued, now=NOW, owner="a", job_id=first), queued)
    with pytest.raises(TaskNotReady):
        moves.claim(claimed, now=NOW, owner="b", job_id=second)


def described(jobs: Mapping[str, Mapping[str, Any]]) -> Fault:
    """AWS Batch, with these jobs and no others."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"jobs": [{"jobId": job_id, **jobs[job_id]} for job_id in request["jobs"] if job_id in jobs]}

    return aws_faults.says(answer)


STATES = {
    "SUBMITTED": JobState.COMING,
    "PENDING": JobState.COMING,
    "RUNNABLE": JobState.COMING,
    "STARTING": JobState.COMING,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.GONE,
    "FAILED": JobState.GONE,
}


def test_look_tells_how_each_job_is(faults: Faults, services: Services) -> None:
    tasks = [a_task(job_id=f"job-{state}") for state in STATES]
    unknown, without = a_task(job_id="job-unknown"), a_task()
    faults.on("DescribeJobs", described({f"job-{state}": {"status": state} for state in STATES}))
    assert services.dispatcher.look([*tasks, unknown, without]) == {
        **{task.task_id: Sighting(state) for task, state in zip(tasks, STATES.values(), strict=True)},
        unknown.task_id: Sighting(JobState.GONE),
        without.task_id: Sighting(JobState.GONE),
    }


def test_look_asks_for_a_hundred_jobs_at_a_time(faults: Faults, services: Services) -> None:
    tasks = [a_task(job_id=f"job-{number:03}") for number in range(230)]
    asked: list[int] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(len(request["jobs"]))
        return {"jobs": [{"jobId": job_id, "status": "RUNNING"} for job_id in request["jobs"]]}

    faults.on("DescribeJobs", aws_faults.says(answer), always=True)
    assert set(services.dispatcher.look(tasks).values()) == {Sighting(JobState.RUNNING)}
    assert asked == [100, 100, 30]


def test_look_with_nothing_to_ask_asks_nothing(faults: Faults, services: Services) -> None:
    assert services.dispatcher.look([]) == {}
    assert faults.calls["DescribeJobs"] == 0


LOOKS: dict[str, tuple[Fault, type[ServiceError]]] = {
    "throttled": (THROTTLED, DispatchDelayed),
    "500": (error("ServerException", 500), DispatchDelayed),
    "closed": (CLOSED, DispatchDelayed),
    "silent": (SILENT, DispatchDelayed),
    "garbled": (GARBLED, DispatchDelayed),
    "cut": (TRUNCATED, DispatchDelayed),
    "half a job": (aws_faults.says(lambda request: {"jobs": [{"jobId": request["jobs"][0]}]}), DispatchDelayed),
    "access denied": (error("AccessDeniedException", 403), DispatchUnavailable),
    "refused": (error("ClientException"), DispatchUnavailable),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_that_fails_calls_no_job_gone(faults: Faults, services: Services, name: str) -> None:
    fault, raised = LOOKS[name]
    task = services.store.create(moves.submitted(task_in(Status.QUEUED), now=NOW, job_id="job-1"))
    faults.on("DescribeJobs", fault, always=True)
    with pytest.raises(raised):
        services.dispatcher.look([task])
    # and the sweep neither hands it over again nor forgets it
    assert sweep.sweep(services, now=NOW + timedelta(minutes=10)) == 0
    assert (services.store.get(task.task_id), jobs_of(task)) == (task, [])


def test_a_queue_that_is_blocked_shows_its_reason(faults: Faults, services: Services) -> None:
    reason = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - No compute environment has room for the job."
    task = services.store.create(moves.submitted(task_in(Status.QUEUED), now=NOW, job_id="job-1"))
    faults.on("DescribeJobs", described({"job-1": {"status": "RUNNABLE", "statusReason": reason}}), always=True)
    now = NOW + moves.QUEUE_PATIENCE

    assert sweep.sweep(services, now=now) == 1

    waiting = services.store.get(task.task_id)
    assert waiting == replace(task, version=2, queue_reason=reason, dispatch_due_at=now + moves.QUEUE_PATIENCE)
    # and it is not given up as long as AWS Batch has its job
    for hours in range(1, 31):
        sweep.look_after(services, task.task_id, now=now + timedelta(hours=hours))
    assert services.store.get(task.task_id) == replace(
        waiting, version=32, dispatch_due_at=now + timedelta(hours=30) + moves.QUEUE_PATIENCE
    )


# What happens to TerminateJob and to DescribeJobs; what stop raises.
STOPS: dict[str, tuple[Fault, Fault, type[ServiceError] | None]] = {
    "throttled": (THROTTLED, aws_faults.PASS, DispatchDelayed),
    "500": (error("ServerException", 500), aws_faults.PASS, DispatchDelayed),
    "answer lost": (LOST, aws_faults.PASS, DispatchDelayed),
    "silent": (SILENT, aws_faults.PASS, DispatchDelayed),
    "no such job": (error("ClientException"), described({}), None),
    "ended": (error("ClientException"), described({"job-1": {"status": "FAILED"}}), None),
    "refused": (error("ClientException"), described({"job-1": {"status": "RUNNING"}}), DispatchUnavailable),
    "denied": (
        error("AccessDeniedException", 403),
        described({"job-1": {"status": "RUNNABLE"}}),
        DispatchUnavailable,
    ),
    "denied, and blind": (error("AccessDeniedException", 403), THROTTLED, DispatchDelayed),
}


@pytest.mark.parametrize("name", STOPS)
def test_cancel_holds_whatever_becomes_of_its_job(faults: Faults, services: Services, name: str) -> None:
    terminate, describe, raised = STOPS[name]
    task = services.store.create(moves.submitted(task_in(Status.QUEUED), now=NOW, job_id="job-1"))
    faults.on("TerminateJob", terminate, always=True)
    faults.on("DescribeJobs", describe, always=True)
    if raised:
        with pytest.raises(raised):
            services.dispatcher.stop(task)
    else:
        services.dispatcher.stop(task)

    canceled = cancel(services, task.task_id, now=LATER)

    assert canceled.status is Status.CANCELED
    assert services.store.get(task.task_id) == canceled
    with pytest.raises(TaskEnded):
        moves.claim(canceled, now=LATER, owner="worker-1", job_id="job-1")


def test_stop_of_a_task_without_a_job_asks_nothing(faults: Faults, services: Services) -> None:
    services.dispatcher.stop(a_task())
    assert faults.calls.total() == 0


def test_a_sweep_over_a_throttled_batch_loses_none(faults: Faults, services: Services) -> None:
    tasks = [services.store.create(task_in(Status.QUEUED)) for _ in range(10)]
    faults.on("SubmitJob", *[THROTTLED, error("ServerException", 500), CLOSED, GARBLED, error("ClientException")] * 3)
    now = LATER
    for _ in range(8):
        sweep.sweep(services, now=now)
        now += LATER - NOW
    stored = [services.store.get(task.task_id) for task in tasks]
    assert all(task.status is Status.QUEUED and task.job_id in jobs_of(task) for task in stored)
