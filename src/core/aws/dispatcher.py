"""AWS Batch as the dispatcher: one job for each submit.

SubmitJob knows no idempotency token, so a lost answer may leave two jobs for one task; the claim makes the second one
end at once. What the job runs, on what and how often, is for the job definition to say.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from core.aws import client as clients
from core.aws.trouble import AwsError, Trouble, trouble
from core.errors import DispatchDelayed, DispatchUnavailable
from core.ports import JobState, Sighting
from core.task import Task

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_batch.type_defs import JobDetailTypeDef

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MOST_ASKED = 100  # jobs in one DescribeJobs
# Of all other states a worker may still come.
_STATES = {"RUNNING": JobState.RUNNING, "SUCCEEDED": JobState.GONE, "FAILED": JobState.GONE}


class Place(NamedTuple):
    """Where a kind of job runs, and as what: each a name or an ARN."""

    queue: str
    definition: str


class BatchDispatcher:
    """The Dispatcher of AWS: a job goes to the place for what its task computes on, `gpu` or `cpu`."""

    def __init__(self, places: Mapping[str, Place], *, client: "BatchClient | None" = None) -> None:
        self._places = places
        self._given = client

    def submit(self, task: Task) -> str:
        place = self._places[task.compute]
        env = {"TASK_ID": task.task_id, "CORRELATION_ID": task.correlation_id}
        with _translated("AWS Batch could not be asked for a worker."):
            answer = self._client.submit_job(
                jobName=f"task-{task.task_id}",
                jobQueue=place.queue,
                jobDefinition=place.definition,
                containerOverrides={"environment": [{"name": name, "value": value} for name, value in env.items()]},
            )
            return answer["jobId"]

    def look(self, tasks: Sequence[Task]) -> Mapping[str, Sighting]:
        jobs: dict[str, JobDetailTypeDef] = {}
        ids = sorted({task.job_id for task in tasks if task.job_id})
        with _translated("AWS Batch could not be asked about jobs."):
            for start in range(0, len(ids), _MOST_ASKED):
                answer = self._client.describe_jobs(jobs=ids[start : start + _MOST_ASKED])
                jobs |= {job["jobId"]: job for job in answer["jobs"]}
            return {task.task_id: _seen(jobs.get(task.job_id or "")) for task in tasks}

    def stop(self, task: Task) -> None:
        if task.job_id is None:
            return
        try:
            with _translated("AWS Batch could not be told to stop the job."):
                self._client.terminate_job(jobId=task.job_id, reason="The task was canceled.")
        except DispatchUnavailable:
            if self.look([task])[task.task_id].state is not JobState.GONE:
                raise

    def check(self) -> str:
        names = {place.queue for place in self._places.values()}
        with _translated("AWS Batch cannot be asked."):
            queues = self._client.describe_job_queues(jobQueues=sorted(names))["jobQueues"]
        if len(queues) < len(names) or any((q["state"], q.get("status")) != ("ENABLED", "VALID") for q in queues):
            raise DispatchUnavailable("A job queue takes no jobs.")
        return "AWS Batch"

    @cached_property
    def _client(self) -> "BatchClient":
        return self._given or clients.batch()


def task_of(job_name: str) -> str | None:
    """The task that a job of this name is for; None when the job is none of ours."""
    found = re.fullmatch(f"task-({_UUID})", job_name)
    return found and found[1]


def _seen(job: "JobDetailTypeDef | None") -> Sighting:
    if job is None:
        return Sighting(JobState.GONE)
    return Sighting(_STATES.get(job["status"], JobState.COMING), job.get("statusReason"))


@contextmanager
def _translated(message: str) -> Iterator[None]:
    try:
        yield
    except AwsError as error:
        refused = trouble(error) is Trouble.REFUSED
        raise (DispatchUnavailable if refused else DispatchDelayed)(message) from error
    except KeyError as error:  # an answer that was cut or garbled on its way has none of what it should
        raise DispatchDelayed(message) from error
