"""What waits in AWS Batch, as the metrics of the sweep are told, by answers of AWS Batch that are made up."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from core.aws import backlog
from support import aws_faults
from support.aws_faults import CLOSED, Faults, error, says
from support.builders import NOW
from support.moto_server import QUEUE, Moto

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient


@pytest.fixture
def faults(aws: Moto) -> Iterator[Faults]:
    with aws_faults.serving(aws.url) as serving:
        yield serving


@pytest.fixture
def client(faults: Faults) -> "BatchClient":
    return boto3.client("batch", endpoint_url=faults.url, config=Config(retries={"total_max_attempts": 1}))


def test_the_jobs_of_all_queues_that_wait_are_counted_from_the_oldest_on(faults: Faults, client: "BatchClient") -> None:
    waits = {"gpu": [90], "cpu": [30, 400]}

    def listed(request: dict[str, Any]) -> dict[str, Any]:
        if request["jobStatus"] != "RUNNABLE":
            return {"jobSummaryList": []}
        created = [int((NOW.timestamp() - seconds) * 1000) for seconds in waits[request["jobQueue"]]]
        return {"jobSummaryList": [{"jobId": "1", "jobName": "task-1", "createdAt": at} for at in created]}

    faults.on("ListJobs", says(listed), always=True)
    found = backlog.waiting(["gpu", "cpu"], now=NOW, client=client)
    assert found == {"WaitingJobs": 3, "OldestWaitingSeconds": 400}


@pytest.mark.parametrize(
    ("children", "jobs", "seconds"),
    [
        ({"RUNNABLE": 17}, 17, 600),
        ({"RUNNABLE": 16, "RUNNING": 1}, 16, 0),  # since when the others wait is not known
        ({"RUNNABLE": 1, "FAILED": 16}, 1, 0),
        ({"RUNNING": 17, "RUNNABLE": 0}, 0, 0),
        ({}, 0, 0),
    ],
)
def test_the_children_of_an_array_wait_by_their_parents_word(
    faults: Faults, client: "BatchClient", children: dict[str, int], jobs: int, seconds: int
) -> None:
    array = {"size": 17, "statusSummary": children}
    created_at = int((NOW.timestamp() - 600) * 1000)
    parent = {"jobId": "1", "jobName": "batch-1", "createdAt": created_at, "arrayProperties": array}

    def listed(request: dict[str, Any]) -> dict[str, Any]:
        return {"jobSummaryList": [parent] if request["jobStatus"] == "PENDING" else []}

    faults.on("ListJobs", says(listed), always=True)
    found = backlog.waiting([QUEUE], now=NOW, client=client)
    assert found == {"WaitingJobs": jobs, "OldestWaitingSeconds": seconds}


def test_nothing_waits_in_an_empty_queue(client: "BatchClient") -> None:
    assert backlog.waiting([QUEUE], now=NOW, client=client) == {"WaitingJobs": 0, "OldestWaitingSeconds": 0}


@pytest.mark.parametrize(
    "fault", [error("TooManyRequestsException", 429), error("AccessDeniedException", 403), CLOSED, says(lambda _: {})]
)
def test_what_cannot_be_had_is_left_out_and_ends_no_sweep(
    faults: Faults, client: "BatchClient", fault: aws_faults.Fault
) -> None:
    faults.on("ListJobs", fault, always=True)
    assert backlog.waiting([QUEUE], now=NOW, client=client) == {}
