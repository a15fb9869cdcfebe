"""A batch: many tasks registered in one call, as data, and what follows from it alone.

A task of a batch is there from the moment that the batch is, but has a row of its own only when somebody comes to it:
until then it is made from the batch's template and its line in the manifest. So 10,000 tasks are one record, one
object and one job.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from core.task import Status, Task

MOST_TASKS = 10_000
# What a template has in the place of a file's name, of that without its extension, and of its URL.
NAME, STEM, URL = "{name}", "{stem}", "{url}"
_OWN_DIGITS = 4  # hexadecimal digits at the end of an id that number the tasks of a batch; those of the batch are 0
_ID = re.compile(rf"[0-9a-f-]{{32}}[0-9a-f]{{{_OWN_DIGITS}}}")


class Source(NamedTuple):
    """A line of the manifest: the file that one task of the batch is about."""

    name: str  # in the command, with its extension
    url: str
    size_bytes: int | None = None  # where a listing told


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
    job_id: str | None = None
    dispatch_due_at: datetime | None = None  # when to see whether its workers are there
    canceled_at: datetime | None = None
    finished_at: datetime | None = None
    counts: Mapping[str, int] | None = None  # of its tasks by status, once it has ended
    version: int = 0

    @property
    def slices(self) -> int:
        return -(-self.count // self.per_slice)

    def slice(self, number: int) -> range:
        """The indexes of the tasks that the worker `number`, from 0, is for."""
        return range(number * self.per_slice, min((number + 1) * self.per_slice, self.count))

    def task(self, index: int, source: Source) -> Task:
        """The task as it is before anybody has come to it: queued, or canceled with the batch."""
        task = filled(self.template, source)
        made = replace(task, task_id=task_id(self.batch_id, index), status=Status.QUEUED, queued_at=self.created_at)
        if self.canceled_at:
            return replace(made, status=Status.CANCELED, finished_at=self.canceled_at)
        return made


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


def filled(template: Task, source: Source) -> Task:
    """The template with what `source` is in its gaps."""
    words = (_filled(word, source) for word in shlex.split(template.command))
    inputs = {_filled(name, source): _filled(url, source) for name, url in template.input_files.items()}
    outputs = tuple(_filled(name, source) for name in template.output_files)
    return replace(template, command=shlex.join(words), input_files=inputs, output_files=outputs)


_GAP = re.compile("|".join(map(re.escape, (NAME, STEM, URL))))


def _filled(text: str, source: Source) -> str:
    stem = source.name.rpartition(".")[0] or source.name
    words = {NAME: source.name, STEM: stem, URL: source.url}
    return _GAP.sub(lambda gap: words[gap[0]], text)
