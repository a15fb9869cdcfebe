"""Batches over the wire: many files, one wish for all of them, and what came of each.

The answer to a new batch names all of its files, in their order: of a folder or a prefix nobody else says what was
found there, and of 10,000 files it is some 300 KB, once. What is asked for again and again, the batch as it is, has the
first hundred of each kind; all tasks of a batch are in the list of tasks, page by page.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from core import batch_view, sources, urls
from core.batch import MOST_TASKS, URL
from core.batch_uploads import MOST_UPLOADS
from core.register_batch import BatchWanted
from handlers.web import batch_examples
from handlers.web.models import Time
from handlers.web.registration import InputFiles, Registration
from handlers.web.wire import Wire


def _bounded(value: Any) -> Any:
    """Before each entry is looked at: a body has room for a million that are wrong."""
    if isinstance(value, list) and len(value) > MOST_TASKS:
        raise PydanticCustomError("too_many_inputs", "has too many entries", {"most": MOST_TASKS})
    return value


class BatchRegistration(Registration):
    """What is to be done with each of many files, which come from exactly one of `inputs`, `input_prefix` and
    `input_folder`. The command, or the options or the preset, and the outputs have `{name}` in the place of a file's
    name, and `{stem}` in the place of that without its extension.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [batch_examples.REGISTRATION]})

    inputs: Annotated[list[str], BeforeValidator(_bounded)] | None = Field(
        default=None,
        description="The URL of each file, each once. A file is called by the last part of its URL's path. At most "
        f"{MOST_UPLOADS} of a batch's inputs may be uploads, `upload:ID`, which are called as their files were.",
        json_schema_extra={"minItems": 1, "maxItems": MOST_TASKS},
    )
    input_prefix: str | None = Field(
        default=None, description="On AWS: all media whose keys begin so, `s3://bucket/prefix`, in a listed bucket."
    )
    input_folder: str | None = Field(
        default=None, description="On one machine: all media below this folder, which lies in a listed one."
    )
    input_files: InputFiles = Field(
        default_factory=dict,
        description="Further inputs that all tasks have, such as a logo: the name in the command, and the URL.",
    )
    output_filename: str | None = Field(
        default=None, description="The one file that the command writes, such as `{stem}.mp4`."
    )
    concurrency: int | None = Field(
        default=None, ge=1, le=MOST_TASKS, description="How many tasks run at once; else as many as there is room for."
    )
    delete_inputs: bool = Field(
        default=False,
        description="Delete each file of the prefix or the folder once its task has completed. Not for `inputs`.",
    )

    def to_wanted(self) -> BatchWanted:
        """Raises InvalidArgument as to_domain does."""
        return BatchWanted(
            registration=self.to_domain(),
            sources=None if self.inputs is None else tuple(sources.source(url) for url in self.inputs),
            prefix=self.input_prefix,
            folder=self.input_folder,
            concurrency=self.concurrency,
            delete_inputs=self.delete_inputs,
        )


class BatchCounts(Wire):
    """How many of the tasks are in each status; together they are all."""

    queued: int
    running: int
    completed: int
    failed: int
    canceled: int


class ConvertedFile(Wire):
    index: int = Field(description="Which of the files it is, from 0.")
    file: str
    task_id: str = Field(description="Its result is at `/ffmpeg/result/{task_id}`.")
    finished_at: Time | None


class FailedFile(Wire):
    index: int
    file: str
    task_id: str
    finished_at: Time | None
    reason: str | None = Field(description="The first 300 characters of the task's own.")


class LogLine(Wire):
    at: Time
    text: str


class Batch(Wire):
    """A batch as it is now. Times are RFC 3339 in UTC."""

    batch_id: str
    status: Literal["queued", "running", "completed", "failed", "canceled"] = Field(
        description="`queued` until the first task runs. `completed` when all tasks are; `failed` when all have "
        "ended, and one or more have failed."
    )
    count: int = Field(description="Of tasks, one for each file.")
    counts: BatchCounts
    percent: float = Field(
        description="0 to 100: the share of tasks that have ended and, on one machine, of those that run."
    )
    converted: tuple[ConvertedFile, ...] = Field(description="The first 100.")
    failures: tuple[FailedFile, ...] = Field(description="The first 100.")
    log: tuple[LogLine, ...] = Field(description="The newest 100 lines, the oldest of them first.")
    command: str = Field(description="The command as it was understood, with `{name}` and `{stem}` in it.")
    input_files: dict[str, str] = Field(description="Those that all tasks have, without query strings.")
    output_files: tuple[str, ...]
    compute: Literal["gpu", "cpu"]
    concurrency: int | None = Field(description="How many tasks run at once; null: as many as there is room for.")
    delete_inputs: bool
    created_at: Time
    canceled_at: Time | None
    finished_at: Time | None = Field(description="When it was seen that all tasks have ended.")
    timeout_seconds: int | None
    metadata: dict[str, str]
    correlation_id: str
    key_name: str | None = Field(description="Of the API key that registered it, where there is sign-in.")
    callback_url: str | None = Field(description="Where the end of each task is posted, without its query string.")


class RegisteredBatch(Batch):
    files: tuple[str, ...] = Field(description="The names of all files, in their order; a task has that of its index.")


def shown_batch(found: batch_view.BatchView) -> Batch:
    return Batch(**_shown(found))


def shown_registered(found: batch_view.BatchView, files: Iterable[str]) -> RegisteredBatch:
    return RegisteredBatch(**_shown(found), files=tuple(files))


def _shown(found: batch_view.BatchView) -> dict[str, Any]:
    batch, template = found.batch, found.batch.template
    same_of_batch = ("batch_id", "count", "concurrency", "delete_inputs", "created_at", "canceled_at", "finished_at")
    same_of_task = ("command", "output_files", "timeout_seconds")
    fixed = {name: url for name, url in template.input_files.items() if url != URL}
    return {
        **{name: getattr(batch, name) for name in same_of_batch},
        **{name: getattr(template, name) for name in same_of_task},
        "status": found.status.value,
        "counts": BatchCounts(**{status.value: number for status, number in found.counts.items()}),
        "percent": found.percent,
        "converted": tuple(map(_converted, found.converted)),
        "failures": tuple(map(_failed, found.failures)),
        "log": tuple(LogLine.model_validate(line) for line in found.log),
        "input_files": {name: urls.without_secrets(url) for name, url in fixed.items()},
        "compute": "gpu" if template.compute == "gpu" else "cpu",
        "metadata": dict(template.metadata),
        "correlation_id": batch.correlation_id,
        "key_name": batch.key_name,
        "callback_url": urls.without_secrets(template.callback_url) if template.callback_url else None,
    }


def _converted(file: batch_view.File) -> ConvertedFile:
    return ConvertedFile(index=file.number, file=file.name, task_id=file.task_id, finished_at=file.finished_at)


def _failed(file: batch_view.File) -> FailedFile:
    return FailedFile(
        index=file.number, file=file.name, task_id=file.task_id, finished_at=file.finished_at, reason=file.error
    )
