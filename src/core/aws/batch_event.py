"""What an event of AWS Batch, as EventBridge delivers it, is about: a task of ours, a batch, or nothing of ours.

Pure. Nothing else is taken from an event: it may be late, doubled or overtaken, and so is a hint and no fact.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from core.aws import dispatcher

_KINDS = {("aws.batch", "Batch Job State Change"), ("aws.batch", "Batch Job Queue Blocked")}


class Malformed(ValueError):
    """This is no event of AWS Batch: it lacks what they all have."""


class Slice(NamedTuple):
    """A part of a batch: what the worker `number`, from 0, is for; None is the whole."""

    batch_id: str
    number: int | None = None


def task_of(event: Any, *, queues: Iterable[str]) -> str | None:
    """The task whose job the event is about, None when the job is none of ours in `queues`. Raises Malformed."""
    name, _ = _job(event, queues)
    return dispatcher.task_of(name)


def slice_of(event: Any, *, queues: Iterable[str]) -> Slice | None:
    """The slice of a batch whose job the event is about, by an array's child; its parent, or a job without an array,
    is about the whole. None when the job is none of ours in `queues`. Raises Malformed."""
    name, detail = _job(event, queues)
    batch_id = dispatcher.batch_of(name)
    array = detail.get("arrayProperties")
    number = array.get("index") if isinstance(array, Mapping) else None
    known = number if type(number) is int and number >= 0 else None
    return Slice(batch_id, known) if batch_id else None


def _job(event: Any, queues: Iterable[str]) -> tuple[str, Mapping[str, Any]]:
    """The name of the job that the event is about, and the rest of it; empty when it is in none of the queues."""
    if (_text(event, "source"), _text(event, "detail-type")) not in _KINDS:
        return "", {}
    detail = event.get("detail")
    name, job_queue = _text(detail, "jobName"), _text(detail, "jobQueue")
    return (name, detail) if _name(job_queue) in map(_name, queues) else ("", {})


def _text(record: Any, field: str) -> str:
    value = record.get(field) if isinstance(record, Mapping) else None
    if not isinstance(value, str) or not value:
        raise Malformed(f"The event has no {field}, which the events of AWS Batch have.")
    return value


def _name(queue: str) -> str:
    """Of a queue by its name or its ARN."""
    return queue.rpartition("/")[2]
