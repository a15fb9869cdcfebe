"""AWS Batch as the dispatcher: one job for each submit.

SubmitJob knows no idempotency token, so a lost answer may leave two jobs for one task; the claim makes the second one
end at once. What the job runs, on what and how often, is for the job definition to say.
"""

from functools import cached_property
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from core.aws import client as clients
from core.errors import DispatchUnavailable
from core.task import Task

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient


class BatchDispatcher:
    """The Dispatcher of AWS: jobs of `definition` in `queue`, each a name or an ARN."""

    def __init__(self, *, queue: str, definition: str, client: "BatchClient | None" = None) -> None:
        self._queue = queue
        self._definition = definition
        self._given = client

    def submit(self, task: Task) -> str:
        env = {"TASK_ID": task.task_id, "CORRELATION_ID": task.correlation_id}
        try:
            answer = self._client.submit_job(
                jobName=f"task-{task.task_id}",
                jobQueue=self._queue,
                jobDefinition=self._definition,
                containerOverrides={"environment": [{"name": name, "value": value} for name, value in env.items()]},
            )
        except (BotoCoreError, ClientError) as error:
            raise DispatchUnavailable from error
        return answer["jobId"]

    def check(self) -> str:
        try:
            queues = self._client.describe_job_queues(jobQueues=[self._queue])["jobQueues"]
        except (BotoCoreError, ClientError) as error:
            raise DispatchUnavailable("AWS Batch cannot be asked.") from error
        if not queues or (queues[0]["state"], queues[0].get("status")) != ("ENABLED", "VALID"):
            raise DispatchUnavailable("The job queue takes no jobs.")
        return "AWS Batch"

    @cached_property
    def _client(self) -> "BatchClient":
        return self._given or clients.batch()
