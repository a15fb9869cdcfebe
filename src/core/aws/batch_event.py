"""What an event of AWS Batch, as EventBridge delivers it, is about: a task of ours, or nothing of ours.

Pure. Nothing else is taken from an event: it may be late, doubled or overtaken, and so is a hint and no fact.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from core.aws import dispatcher

_KINDS = {("aws.batch", "Batch Job State Change"), ("aws.batch", "Batch Job Queue Blocked")}


class Malformed(ValueError):
    """This is no event of AWS Batch: it lacks what they all have."""


def task_of(event: Any, *, queues: Iterable[str]) -> str | None:
    """The task whose job the event is about, None when the job is none of ours in `queues`. Raises Malformed."""
    if (_text(event, "source"), _text(event, "detail-type")) not in _KINDS:
        return None
    detail = event.get("detail")
    name, job_queue = _text(detail, "jobName"), _text(detail, "jobQueue")
    return dispatcher.task_of(name) if _name(job_queue) in map(_name, queues) else None


def _text(record: Any, field: str) -> str:
    value = record.get(field) if isinstance(record, Mapping) else None
    if not isinstance(value, str) or not value:
        raise Malformed(f"The event has no {field}, which the events of AWS Batch have.")
    return value


def _name(queue: str) -> str:
    """Of a queue by its name or its ARN."""
    return queue.rpartition("/")[2]
