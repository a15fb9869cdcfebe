"""What goes over the wire, and the crossings between that and what core knows.

Nothing unknown is accepted and nothing is converted: a number where text is due is the caller's mistake. What is
shown holds no query string of a caller's URL, because that is where signed URLs keep their secret.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from core import health, preview, urls
from core import task as domain
from core.ports import Page, Position, Services
from handlers.web import cursors
from handlers.web.destination import Destination
from handlers.web.errors import CODES
from handlers.web.wire import Wire

# A Lambda function's answer may have 6 MB, and nobody wants to wait for as much.
MAX_PAGE_BYTES = 1024**2

Time = Annotated[datetime, AfterValidator(lambda time: time.astimezone(UTC))]


class Progress(Wire):
    """How far the transcode is. What is not known is null; nothing is guessed."""

    percent: float | None = Field(description="0 to 99.9 while running; 100 only when completed")
    frame: int | None
    fps: float | None
    speed: float | None = Field(description="media seconds per second")
    out_time_seconds: float | None
    eta_seconds: float | None


class Stream(Wire):
    type: str = Field(description="video, audio, subtitle, data or attachment")
    codec: str
    width: int | None
    height: int | None
    frame_rate: float | None
    pixel_format: str | None
    sample_aspect_ratio: str | None
    channels: int | None
    channel_layout: str | None
    sample_rate: int | None
    bit_rate: int | None


class Media(Wire):
    """What a file holds, as probed. Bit rates in bits per second."""

    container: str
    duration_seconds: float | None
    bit_rate: int | None
    streams: tuple[Stream, ...]


class Output(Wire):
    filename: str
    url: str = Field(description="A link to the file that works for a limited time; each read gives a fresh one.")
    s3_uri: str | None = Field(description="Null where the files are not kept in S3.")
    size_bytes: int
    sha256: str
    media: Media | None = Field(description="Null for a part of another output, such as a segment of a playlist.")


class Failure(Wire):
    """Why a task failed."""

    code: domain.FailureCode
    message: str
    retryable: bool = Field(description="Whether the same task may well succeed when it is registered again.")
    details: dict[str, Any]


class Attempt(Wire):
    """One worker that took the task, and what became of it."""

    number: int
    started_at: Time
    finished_at: Time | None
    ending: domain.Ending | None = Field(description="Null while the worker has the task.")
    code: domain.FailureCode | None = Field(description="Only when failed; the task itself may be tried again.")
    message: str | None
    note: str | None = Field(description="What it did otherwise than asked, and why.")


class Timings(Wire):
    """Where the time of the newest attempt went."""

    queued_seconds: float | None = Field(description="How long the task waited for it.")
    download_seconds: float | None
    transcode_seconds: float | None
    upload_seconds: float | None


class Notice(Wire):
    """That somebody is told of the task's end, and how that went."""

    channel: str = Field(description="`webhook` goes to `callback_url`, `event` to the service's own event bus.")
    status: domain.NoticeStatus = Field(description="`abandoned` means refused for good, or too often.")
    tries: int
    due_at: Time | None = Field(description="When it is sent, or sent again; null before the task has ended.")
    delivered_at: Time | None
    error: str | None = Field(description="Why the newest try failed.")


class Task(Wire):
    """A task as it is now. Times are RFC 3339 in UTC."""

    task_id: str
    status: domain.Status
    stage: domain.Stage | None = Field(description="Only while running.")
    progress: Progress
    command: str = Field(
        description="The command as it was understood. Of a preset that looks at the source: for any source, until the "
        "worker has looked at this one; then the one that it runs."
    )
    input_files: dict[str, str] = Field(description="Query strings are never shown: they may hold secrets.")
    output_files: tuple[str, ...] = Field(description="The names as registered.")
    outputs: tuple[Output, ...] = Field(
        description="Only when completed, until they are deleted; the registered names come first."
    )
    output_count: int = Field(description="All stored files; `outputs` lists the first of them.")
    output_url: str | None = Field(description="The link of the first output, for the simple case.")
    error: Failure | None = Field(description="Only when failed.")
    timings: Timings
    attempt: int = Field(description="How many workers have taken the task.")
    attempts: tuple[Attempt, ...] = Field(description="Each of them, and how it ended; the newest is the last.")
    compute: Literal["gpu", "cpu"] = Field(description="What kind of worker runs it.")
    queue_reason: str | None = Field(description="Only while queued: why no worker has it yet, where that is known.")
    created_at: Time
    queued_at: Time | None
    started_at: Time | None = Field(description="When the newest attempt began.")
    finished_at: Time | None
    expires_at: Time | None = Field(description="When the outputs are deleted; null where that is not ours to do.")
    purged_at: Time | None = Field(description="When they were, and the logs.")
    timeout_seconds: int | None = Field(description="As registered.")
    metadata: dict[str, str] = Field(description="As registered.")
    destination: Destination | None = Field(description="As registered; null is the service's own bucket.")
    correlation_id: str
    batch_id: str | None = Field(description="Of the batch that it is one of.")
    key_name: str | None = Field(description="Of the API key that registered it, where there is sign-in.")
    callback_url: str | None = Field(description="As registered, without its query string.")
    notices: tuple[Notice, ...] = Field(description="Who is told of the end, and whether they have been.")


class ListedFailure(Wire):
    """Why a task failed, without the details."""

    code: domain.FailureCode
    message: str
    retryable: bool


class ListedTask(Wire):
    """A task as the list has it: what tells it from others, and how far it is. All of it is in its status."""

    task_id: str
    status: domain.Status
    stage: domain.Stage | None
    progress: Progress
    command: str
    output_files: tuple[str, ...]
    output_count: int
    error: ListedFailure | None
    attempt: int
    compute: str = Field(json_schema_extra={"enum": ["gpu", "cpu"]})
    queue_reason: str | None
    created_at: Time
    queued_at: Time | None
    started_at: Time | None
    finished_at: Time | None
    expires_at: Time | None
    purged_at: Time | None
    metadata: dict[str, str]
    correlation_id: str
    batch_id: str | None


class TaskPage(Wire):
    items: tuple[ListedTask, ...] = Field(description="The newest first. There may be fewer than asked for, or none.")
    next_cursor: str | None = Field(description="Send it as `cursor` for what comes next; null when nothing does.")


class Violation(Wire):
    """One thing that is wrong with a command."""

    position: int | None = Field(description="Which word of the command it is, from 0; null where it is none of them.")
    token: str = Field(description="The word, or its first 200 bytes.")
    reason: str


class Validation(Wire):
    """What registering would say of a command, and what ffmpeg would be told."""

    valid: bool
    command: str | None = Field(description="The command as it was understood; null when it may not run.")
    arguments: tuple[str, ...] | None = Field(
        description="All that ffmpeg gets, with the names of the files as the worker has them; null when invalid."
    )
    compute: str = Field(json_schema_extra={"enum": ["gpu", "cpu"]}, description="What kind of worker it goes to.")
    cpu_command: str | None = Field(description="With `gpu_fallback`: what runs where no GPU can; null without need.")
    warnings: tuple[str, ...] = Field(description="What may well disappoint, and what to do about it.")
    violations: tuple[Violation, ...] = Field(description="All that is wrong; empty when valid.")


class Ffmpeg(Wire):
    version: str


class Check(Wire):
    ready: bool
    detail: str


class Health(Wire):
    status: str = Field(json_schema_extra={"enum": ["healthy", "unhealthy"]})
    ffmpeg: Ffmpeg | None = Field(description="Null for callers without a key, where keys are needed.")
    checks: dict[str, Check] = Field(description="Each part by its name; empty for callers without a key.")


class ErrorInfo(Wire):
    code: str = Field(json_schema_extra={"enum": list(CODES)}, description="Stable; build on this.")
    message: str = Field(description="For people; may change.")
    details: dict[str, Any]


class Error(Wire):
    """The body of every answer that is not a success."""

    error: ErrorInfo


def shown_task(task: domain.Task, *, link: Callable[[str], str], uri: Callable[[str], str | None]) -> Task:
    """The task for its caller. `link` makes a link for an object's key, `uri` its s3:// name."""
    kept = task.status is domain.Status.COMPLETED and task.purged_at is None
    outputs = tuple(_output(output, link=link, uri=uri) for output in task.outputs) if kept else ()
    return Task(
        task_id=task.task_id,
        status=task.status,
        stage=task.stage,
        progress=Progress.model_validate(task.progress),
        command=task.command,
        input_files={name: urls.without_secrets(url) for name, url in task.input_files.items()},
        output_files=task.output_files,
        outputs=outputs,
        output_count=task.output_count,
        output_url=outputs[0].url if outputs else None,
        error=_failure(task.error) if task.error else None,
        timings=_timings(task),
        attempt=task.fence,
        attempts=tuple(Attempt.model_validate(attempt) for attempt in task.attempts),
        compute="gpu" if task.compute == "gpu" else "cpu",
        queue_reason=task.queue_reason,
        created_at=task.created_at,
        queued_at=task.queued_at,
        started_at=task.started_at,
        finished_at=task.finished_at,
        expires_at=task.expires_at,
        purged_at=task.purged_at,
        timeout_seconds=task.timeout_seconds,
        metadata=dict(task.metadata),
        destination=Destination.model_validate(task.destination) if task.destination else None,
        correlation_id=task.correlation_id,
        batch_id=task.batch_id,
        key_name=task.key_name,
        callback_url=urls.without_secrets(task.callback_url) if task.callback_url else None,
        notices=tuple(Notice.model_validate(notice) for notice in task.notices),
    )


def status_answer(task: domain.Task, services: Services, *, link_ttl_seconds: int) -> str:
    """The body that status answers with; also what notices carry, which nobody has asked for."""
    objects = services.objects_of(task)
    shown = shown_task(task, link=lambda key: objects.link(key, expires_in_seconds=link_ttl_seconds), uri=objects.uri)
    return shown.model_dump_json()


def page_answer(page: Page) -> str:
    """The body that the list answers with: of large tasks as many as fit, and at least one."""
    texts: list[str] = []
    room = MAX_PAGE_BYTES
    following = page.next
    for task in page.tasks:
        text = _listed(task).model_dump_json()
        room -= len(text.encode())
        if room < 0 and texts:
            break
        texts.append(text)
    if len(texts) < len(page.tasks):
        following = Position.of(page.tasks[len(texts) - 1])
    cursor = json.dumps(cursors.written(following) if following else None)
    return f'{{"items":[{",".join(texts)}],"next_cursor":{cursor}}}'


def _listed(task: domain.Task) -> ListedTask:
    error = task.error
    brief = ListedFailure(code=error.code, message=error.message, retryable=error.retryable) if error else None
    same = ListedTask.model_fields.keys() - {"progress", "error", "attempt", "metadata"}
    return ListedTask(
        progress=Progress.model_validate(task.progress),
        error=brief,
        attempt=task.fence,
        metadata=dict(task.metadata),
        **{name: getattr(task, name) for name in same},
    )


def shown_preview(found: preview.Preview) -> Validation:
    valid = found.command is not None
    return Validation(
        valid=valid,
        command=found.command,
        arguments=found.arguments if valid else None,
        compute=found.compute,
        cpu_command=found.cpu_command,
        warnings=found.warnings,
        violations=tuple(Violation.model_validate(dict(one)) for one in found.violations),
    )


def shown_health(found: health.Health, *, in_full: bool = True) -> Health:
    return Health(
        status="healthy" if found.healthy else "unhealthy",
        ffmpeg=Ffmpeg(version=found.ffmpeg_version) if in_full else None,
        checks={name: Check.model_validate(part) for name, part in found.parts.items()} if in_full else {},
    )


def _output(output: domain.Output, *, link: Callable[[str], str], uri: Callable[[str], str | None]) -> Output:
    return Output(
        filename=output.filename,
        url=link(output.key),
        s3_uri=uri(output.key),
        size_bytes=output.size_bytes,
        sha256=output.sha256,
        media=Media.model_validate(output.media) if output.media else None,
    )


def _failure(error: domain.Failure) -> Failure:
    return Failure(code=error.code, message=error.message, retryable=error.retryable, details=dict(error.details))


def _timings(task: domain.Task) -> Timings:
    started, queued = task.started_at, _queued_at(task)
    return Timings(
        queued_seconds=round((started - queued).total_seconds(), 3) if started and queued else None,
        download_seconds=task.timings.download_seconds,
        transcode_seconds=task.timings.transcode_seconds,
        upload_seconds=task.timings.upload_seconds,
    )


def _queued_at(task: domain.Task) -> datetime | None:
    """Since when the task waited for its newest attempt: since the end of the one before, or since it was executed."""
    before = task.attempts[:-1]
    return before[-1].finished_at if before else task.queued_at
