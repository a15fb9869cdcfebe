"""A batch: many tasks registered in one call, as data, and what follows from it alone.

A task of a batch is there from the moment that the batch is, but has a row of its own only when somebody comes to it:
until then it is made from the batch's template and its line in the manifest. So 10,000 tasks are one record, one
object and one job.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from core.task import KEEP_RECORD, NoticeStatus, Status, Task

MOST_TASKS = 10_000
# What a template has in the place of a file's name, of that without its extension, and of its URL.
NAME, STEM, URL = "{name}", "{stem}", "{url}"
# How long a slice is to take, and what to expect of a task: a guess, which only has to be right within some times.
_SLICE_SECONDS = 600
_LEAST_SECONDS = 15  # below that, a start is a part of it that shows
_BYTES_A_SECOND = 4_000_000
_USUAL_SECONDS = 10
_SLICES_EACH = 4
_UNTOLD = "Canceled with its batch, before a worker came to it: nobody was told. POST /ffmpeg/notify does so."
_PART = ":"  # in a job id, before the number of the slice
_OWN_DIGITS = 4  # hexadecimal digits at the end of an id that number the tasks of a batch; those of the batch are 0
_ID = re.compile(rf"[0-9a-f-]{{32}}[0-9a-f]{{{_OWN_DIGITS}}}")


class Source(NamedTuple):
    """A line of the manifest: the file that one task of the batch is about."""

    name: str  # in the command, with its extension
    url: str
    size_bytes: int | None = None  # where a listing told


class Lost(tuple[Source, ...]):
    """What is shown in the place of a manifest that is gone: files that are called by their indexes."""

    __slots__ = ()


class Member(NamedTuple):
    """What is kept of a task for the sight of its batch."""

    number: int  # its index in the manifest, from 0
    status: Status
    finished_at: datetime | None = None
    percent: float | None = None
    error: str | None = None  # the sentence of its failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """All that a batch is but its manifest. All times are in UTC."""

    batch_id: str
    template: Task  # a task as registered, with NAME, STEM and URL in its command, input_files and output_files
    count: int  # of tasks
    per_slice: int  # how many tasks, one after the other, one worker is for
    created_at: datetime
    correlation_id: str
    concurrency: int | None = None  # how many tasks at once; None is as many as there are workers
    delete_inputs: bool = False  # each after its task has completed
    key_name: str | None = None
    fingerprint: str | None = None
    manifest: str = "manifest.jsonl.gz"  # in the batch's folder; each request writes one of its own
    job_id: str | None = None
    dispatch_due_at: datetime | None = None  # when to see whether its workers are there; in the end, its tasks
    canceled_at: datetime | None = None
    finished_at: datetime | None = None
    counts: Mapping[str, int] | None = None  # of its tasks by status, once it has ended
    version: int = 0

    @property
    def due_at(self) -> datetime | None:
        """When somebody should look after this batch; in the end, to delete it."""
        return self.dispatch_due_at or (self.finished_at and self.finished_at + KEEP_RECORD)

    @property
    def may_lack_rows(self) -> bool:
        """Whether tasks of it may be there without a row. In the end these are those that were canceled with it, until
        its time is over; from then on it is kept for the rows that are still there."""
        if self.finished_at is None:
            return True
        return self.canceled_at is not None and self.dispatch_due_at is None

    @property
    def slices(self) -> int:
        return -(-self.count // self.per_slice)

    def slice(self, number: int) -> range:
        """The indexes of the tasks that the worker `number`, from 0, is for."""
        return range(number * self.per_slice, min((number + 1) * self.per_slice, self.count))

    def task(self, index: int, source: Source) -> Task:
        """The task as it is before anybody has come to it: queued, or canceled with the batch."""
        task = filled(self.template, source)
        made = replace(
            task,
            task_id=task_id(self.batch_id, index),
            batch_id=self.batch_id,
            status=Status.QUEUED,
            queued_at=self.created_at,
            delete_input=source.name if self.delete_inputs else None,
        )
        if not self.canceled_at:
            return made
        untold = tuple(replace(one, status=NoticeStatus.ABANDONED, error=_UNTOLD) for one in made.notices)
        return replace(made, status=Status.CANCELED, finished_at=self.canceled_at, notices=untold)


def lost(count: int) -> Lost:
    return Lost(Source(f"file-{index}", URL) for index in range(count))


def batch_id_of(unique: str) -> str:
    """The id of a batch from any UUID as text."""
    return unique[:-_OWN_DIGITS] + "0" * _OWN_DIGITS


def task_id(batch_id: str, index: int) -> str:
    """The id of a task of the batch: a UUID, too, that says which batch it is of."""
    return f"{batch_id[:-_OWN_DIGITS]}{index + 1:0{_OWN_DIGITS}x}"


def place_of(task_id: str) -> tuple[str, int] | None:
    """The batch that a task of this id would be of, and its index there; None when it can be of none."""
    number = int(task_id[-_OWN_DIGITS:], 16) if _ID.fullmatch(task_id) else 0
    return (batch_id_of(task_id), number - 1) if 1 <= number <= MOST_TASKS else None


def slice_job(job_id: str, number: int) -> str:
    """The job id of the worker for one slice, as AWS Batch has it."""
    return job_id if _PART in job_id else f"{job_id}{_PART}{number}"


def whole_job(job_id: str) -> str:
    """The job that a slice's worker is one of; of any other job, itself."""
    return job_id.partition(_PART)[0]


def has_own_job(task: Task) -> bool:
    """Whether its newest job is for this task alone, so that it may be stopped with it."""
    return task.job_id is not None and _PART not in task.job_id


def per_slice(sources: Sequence[Source], *, workers: int | None, concurrency: int | None) -> int:
    """How many tasks one worker should be for.

    A start costs seconds, so it is to be worth minutes. Where there are so many `workers` and no more, each is to get
    several slices, that they end together, if these are not too small; where there are any number, `concurrency` is
    that of the slices.
    """
    told = [source.size_bytes for source in sources if source.size_bytes is not None]
    each = 1 + sum(told) / len(told) / _BYTES_A_SECOND if told else _USUAL_SECONDS
    worth = max(1, round(_SLICE_SECONDS / each))
    if workers is None:
        return max(worth, -(-len(sources) // concurrency)) if concurrency else worth
    at_once = min(workers, concurrency or workers)
    least = min(round(_LEAST_SECONDS / each), -(-len(sources) // at_once))
    return min(worth, max(least, -(-len(sources) // (at_once * _SLICES_EACH)), 1))


def filled(template: Task, source: Source) -> Task:
    """The template with what `source` is in its gaps."""
    words = (with_name(word, source.name) for word in shlex.split(template.command))
    inputs = {
        with_name(name, source.name): source.url if url == URL else url for name, url in template.input_files.items()
    }
    outputs = tuple(with_name(name, source.name) for name in template.output_files)
    return replace(template, command=shlex.join(words), input_files=inputs, output_files=outputs)


def with_name(text: str, name: str) -> str:
    """The text with a file's name in its gaps; what is in that name is not looked at again."""
    if "{" not in text:
        return text
    words = {NAME: name, STEM: name.rpartition(".")[0] or name}
    return _GAP.sub(lambda gap: words[gap[0]], text)


_GAP = re.compile(f"{re.escape(NAME)}|{re.escape(STEM)}")
