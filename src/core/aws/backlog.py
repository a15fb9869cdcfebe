"""How many jobs wait in AWS Batch for a machine, and since when: for the metrics, and for nothing else.

AWS Batch has no metrics of its own for this. What cannot be had for the moment is left out.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from core.aws import client as clients
from core.aws.trouble import AwsError

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient

log = logging.getLogger(__name__)


def waiting(queues: Sequence[str], *, now: datetime, client: "BatchClient | None" = None) -> dict[str, int]:
    """WaitingJobs, of each queue at most the 1,000 that one answer has, and OldestWaitingSeconds, 0 when none waits."""
    asked = client or clients.batch()
    try:
        answers = [asked.list_jobs(jobQueue=queue, jobStatus="RUNNABLE")["jobSummaryList"] for queue in queues]
    except (*AwsError, KeyError) as error:  # of an answer that was cut nothing may be left
        log.warning("the queues could not be looked at", extra={"action": "backlog"}, exc_info=error)
        return {}
    created = [job["createdAt"] for jobs in answers for job in jobs]
    oldest = now.timestamp() - min(created) / 1000 if created else 0
    return {"WaitingJobs": len(created), "OldestWaitingSeconds": max(0, int(oldest))}
