"""What is to be seen of a batch: how far it is, what came of which file, and what happened last. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest

from core.batch import Batch, Lost, Member, Source, task_id
from core.task import Status

LIST_GONE = (
    "The list of the batch's files is gone from the store: files are called by their indexes, and what no worker has "
    "come to cannot begin. Cancel the batch, and register anew what it has not converted."
)
MOST_SHOWN = 100  # lines of the log, files that failed, files that were converted


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What came of one file."""

    number: int  # from 0, in the order of the inputs
    name: str
    task_id: str
    finished_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the batch's log."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """`counts` has every status, and its sum is that of the tasks."""

    batch: Batch
    status: Status
    counts: Mapping[Status, int]
    percent: float  # 0 to 100: of tasks that have ended, and what is known of those that run
    log: tuple[Line, ...]  # the oldest first
    failures: tuple[File, ...]
    converted: tuple[File, ...]


def view(batch: Batch, members: Sequence[Member], sources: Sequence[Source]) -> BatchView:
    """`members` are those that there is a row for; the others wait, or are canceled with the batch."""
    members = sorted(members)
    counts = count(batch, members)

    def files(status: Status) -> tuple[File, ...]:
        these = [member for member in members if member.status is status][:MOST_SHOWN]
        return tuple(_file(batch, member, sources) for member in these)

    return BatchView(
        batch=batch,
        status=status_of(batch, counts),
        counts=counts,
        percent=_percent(batch, members, counts),
        log=_log(batch, members, sources),
        failures=files(Status.FAILED),
        converted=files(Status.COMPLETED),
    )


def count(batch: Batch, members: Sequence[Member]) -> Mapping[Status, int]:
    """How many of the batch's tasks are in each status."""
    if batch.counts is not None:  # its rows may be gone by now
        return {status: batch.counts.get(status.value, 0) for status in Status if status is not Status.PENDING}
    found = Counter(member.status for member in members)
    without_row = Status.CANCELED if batch.canceled_at else Status.QUEUED
    found[without_row] += batch.count - len(members)
    return {status: found[status] for status in Status if status is not Status.PENDING}


def status_of(batch: Batch, counts: Mapping[Status, int]) -> Status:
    if batch.canceled_at:
        return Status.CANCELED
    if counts[Status.QUEUED] == batch.count:
        return Status.QUEUED
    if counts[Status.QUEUED] or counts[Status.RUNNING]:
        return Status.RUNNING
    if counts[Status.FAILED]:
        return Status.FAILED
    return Status.COMPLETED if counts[Status.COMPLETED] else Status.CANCELED


def _percent(batch: Batch, members: Sequence[Member], counts: Mapping[Status, int]) -> float:
    ended = sum(number for status, number in counts.items() if status.ended)
    if ended == batch.count:
        return 100.0
    under_way = sum((member.percent or 0.0) / 100 for member in members if member.status is Status.RUNNING)
    return min(99.9, round(100 * (ended + under_way) / batch.count, 1))


def _file(batch: Batch, member: Member, sources: Sequence[Source]) -> File:
    return File(
        number=member.number,
        name=sources[member.number].name,
        task_id=task_id(batch.batch_id, member.number),
        finished_at=member.finished_at,
        error=member.error,
    )


def _log(batch: Batch, members: Sequence[Member], sources: Sequence[Source]) -> tuple[Line, ...]:
    ended = [(member.finished_at, member) for member in members if member.finished_at]
    lines = [
        Line(at=at, text=_words(member, sources[member.number].name)) for at, member in nlargest(MOST_SHOWN, ended)
    ]
    lines.append(Line(at=batch.created_at, text=f"{batch.count} task{'s' if batch.count > 1 else ''} registered"))
    if batch.canceled_at:
        lines.append(Line(at=batch.canceled_at, text="canceled"))
    if batch.finished_at:
        lines.append(Line(at=batch.finished_at, text="ended"))
    lines.sort(key=lambda line: line.at)
    if isinstance(sources, Lost):
        lines.append(Line(at=lines[-1].at, text=LIST_GONE))
    return tuple(lines[-MOST_SHOWN:])


def _words(member: Member, name: str) -> str:
    return f"{name}: {member.status.value}" + (f": {member.error}" if member.error else "")
