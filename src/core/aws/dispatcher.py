"""AWS Batch as the dispatcher: one job for each submit, of a batch an array job with a child for each slice.

SubmitJob knows no idempotency token, so a lost answer may leave two jobs for one task; the claim makes the second one
end at once. What the job runs, on what and how often, is for the job definition to say; how long it may take, too,
save where it is for many tasks. How many children run at once, it is told by their number alone.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from core.aws import client as clients
from core.aws.trouble import AwsError, Trouble, trouble
from core.batch import Batch, batch_id_of, whole_job
from core.errors import DispatchDelayed, DispatchUnavailable
from core.ports import JobState, Sighting
from core.task import Task

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_batch.type_defs import JobDetailTypeDef

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MOST_ASKED = 100  # jobs in one DescribeJobs
_GONE = Sighting(JobState.GONE)
# Of all other states a worker may still come.
_STATES = {"RUNNING": JobState.RUNNING, "SUCCEEDED": JobState.GONE, "FAILED": JobState.GONE}


class Place(NamedTuple):
    """Where a kind of job runs, and as what: each a name or an ARN."""

    queue: str
    definition: str


class BatchDispatcher:
    """The Dispatcher of AWS: a job goes to the place for what its task computes on, `gpu` or `cpu`.

    A worker for a slice of a batch is given `task_seconds` for each task of it before AWS Batch takes it for hanging.
    """

    def __init__(
        self, places: Mapping[str, Place], *, task_seconds: int = 3 * 3600, client: "BatchClient | None" = None
    ) -> None:
        self._places = places
        self._task_seconds = task_seconds
        self._given = client

    def submit(self, task: Task) -> str:
        env = {"TASK_ID": task.task_id, "CORRELATION_ID": task.correlation_id}
        return self._submit(f"task-{task.task_id}", task.compute, env)

    def submit_batch(self, batch: Batch) -> str:
        """An array has two children at least, so that a batch of one slice is a plain job."""
        env = {"BATCH_ID": batch.batch_id, "CORRELATION_ID": batch.correlation_id}
        array: Mapping[str, Any] = {"arrayProperties": {"size": batch.slices}} if batch.slices > 1 else {}
        seconds = {"attemptDurationSeconds": self._task_seconds * min(batch.per_slice, batch.count)}
        return self._submit(f"batch-{batch.batch_id}", batch.template.compute, env, timeout=seconds, **array)

    def look(self, tasks: Sequence[Task]) -> Mapping[str, Sighting]:
        """A slice's job that AWS Batch does not know is the plain one of a batch of one slice."""
        ids = {task.task_id: task.job_id or "" for task in tasks}
        seen = self._seen({part for job_id in ids.values() for part in (job_id, whole_job(job_id)) if part})
        return {task_id: seen.get(job_id) or seen.get(whole_job(job_id), _GONE) for task_id, job_id in ids.items()}

    def look_batch(self, batch: Batch) -> Sighting:
        return self._seen({batch.job_id}).get(batch.job_id, _GONE) if batch.job_id else _GONE

    def stop(self, task: Task) -> None:
        if task.job_id:
            self._stop(task.job_id, "The task was canceled.")

    def stop_batch(self, batch: Batch) -> None:
        """The end of a parent is that of all its children."""
        if batch.job_id:
            self._stop(batch.job_id, "The batch was canceled.")

    def check(self) -> str:
        names = {place.queue for place in self._places.values()}
        with _translated("AWS Batch cannot be asked."):
            queues = self._client.describe_job_queues(jobQueues=sorted(names))["jobQueues"]
        if len(queues) < len(names) or any((q["state"], q.get("status")) != ("ENABLED", "VALID") for q in queues):
            raise DispatchUnavailable("A job queue takes no jobs.")
        return "AWS Batch"

    def _submit(self, name: str, compute: str, env: Mapping[str, str], **more: Any) -> str:
        place = self._places[compute]
        with _translated("AWS Batch could not be asked for a worker."):
            answer = self._client.submit_job(
                jobName=name,
                jobQueue=place.queue,
                jobDefinition=place.definition,
                containerOverrides={"environment": [{"name": name, "value": value} for name, value in env.items()]},
                **more,
            )
            return answer["jobId"]

    def _seen(self, job_ids: Collection[str]) -> Mapping[str, Sighting]:
        """Those of the jobs that AWS Batch knows, by their ids; a child's is its parent's, a colon and its number."""
        seen: dict[str, Sighting] = {}
        ids = sorted(job_ids)
        with _translated("AWS Batch could not be asked about jobs."):
            for start in range(0, len(ids), _MOST_ASKED):
                answer = self._client.describe_jobs(jobs=ids[start : start + _MOST_ASKED])
                seen |= {job["jobId"]: _sighting(job) for job in answer["jobs"]}
        return seen

    def _stop(self, job_id: str, reason: str) -> None:
        try:
            with _translated("AWS Batch could not be told to stop the job."):
                self._client.terminate_job(jobId=job_id, reason=reason)
        except DispatchUnavailable:
            if self._seen({job_id}).get(job_id, _GONE).state is not JobState.GONE:
                raise

    @cached_property
    def _client(self) -> "BatchClient":
        return self._given or clients.batch()


def task_of(job_name: str) -> str | None:
    """The task that a job of this name is for; None when the job is none of ours."""
    found = re.fullmatch(f"task-({_UUID})", job_name)
    return found and found[1]


def batch_of(job_name: str) -> str | None:
    """The batch that a job of this name is for; None when the job is none of ours."""
    found = re.fullmatch(f"batch-({_UUID})", job_name)
    return found[1] if found and batch_id_of(found[1]) == found[1] else None


def _sighting(job: "JobDetailTypeDef") -> Sighting:
    state = _STATES.get(job["status"], JobState.COMING)
    # A parent is pending, in AWS Batch's words, until all of its children have ended.
    begun = job.get("arrayProperties", {}).get("statusSummary", {}).get("RUNNING", 0) > 0
    return Sighting(JobState.RUNNING if state is JobState.COMING and begun else state, job.get("statusReason"))


@contextmanager
def _translated(message: str) -> Iterator[None]:
    try:
        yield
    except AwsError as error:
        refused = trouble(error) is Trouble.REFUSED
        raise (DispatchUnavailable if refused else DispatchDelayed)(message) from error
    except KeyError as error:  # an answer that was cut or garbled on its way has none of what it should
        raise DispatchDelayed(message) from error
