"""How many jobs wait in AWS Batch for a machine, and since when: for the metrics, and for nothing else.

AWS Batch has no metrics of its own for this. What cannot be had for the moment is left out. The children of an array
are counted by their parent, which is pending as long as any of them lives; since when they wait it does not tell, save
as long as none of them has begun.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from core.aws import client as clients
from core.aws.trouble import AwsError

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_batch.literals import JobStatusType
    from mypy_boto3_batch.type_defs import JobSummaryTypeDef

log = logging.getLogger(__name__)

_BEGUN = ("STARTING", "RUNNING", "SUCCEEDED", "FAILED")


def waiting(queues: Sequence[str], *, now: datetime, client: "BatchClient | None" = None) -> dict[str, int]:
    """WaitingJobs, by the 1,000 jobs of each queue that one answer has, and OldestWaitingSeconds, 0 when none waits."""
    asked = client or clients.batch()
    try:
        single = [job for queue in queues for job in _listed(asked, queue, "RUNNABLE")]
        parents = [job for queue in queues for job in _listed(asked, queue, "PENDING")]
    except (*AwsError, KeyError) as error:  # of an answer that was cut nothing may be left
        log.warning("the queues could not be looked at", extra={"action": "backlog"}, exc_info=error)
        return {}
    children = [_children(job) for job in parents]
    idle = [job for job, of in zip(parents, children, strict=True) if of["RUNNABLE"] and not any(map(of.get, _BEGUN))]
    oldest = min((job["createdAt"] for job in (*single, *idle)), default=None)
    return {
        "WaitingJobs": len(single) + sum(of["RUNNABLE"] for of in children),
        "OldestWaitingSeconds": 0 if oldest is None else max(0, int(now.timestamp() - oldest / 1000)),
    }


def _listed(client: "BatchClient", queue: str, status: "JobStatusType") -> "Sequence[JobSummaryTypeDef]":
    return client.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"]


def _children(parent: "JobSummaryTypeDef") -> Counter[str]:
    """How many there are in each status."""
    return Counter(parent.get("arrayProperties", {}).get("statusSummary", {}))
