"""Register: check everything that can be checked without running, then store the task as `pending`.

A task is written as a command, as options or as a preset with parameters, and always becomes a command. The command and
the names are judged by ffmpeg/, the URLs by urls; nothing is fetched and no name is looked up.
An idempotency key is turned into the task's id, so that key and task are one record: it cannot be stored without the
other, be taken twice, or outlive it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid5

from core import destination, urls
from core.destination import Destination
from core.errors import IdempotencyConflict, InvalidArgument, TaskExists, TaskNotFound
from core.ffmpeg import compute, fallback, validate
from core.ffmpeg.command import Command
from core.ports import TaskStore
from core.settings import Settings
from core.task import Notice, Recipe, Status, Task
from core.uploads import Uploads

if TYPE_CHECKING:
    from core.ffmpeg.form import Options
    from core.presets import Own

_KEYS = UUID("6f2c8a4e-9d0b-5c37-8f61-2b7d43e9a015")  # what ids made from idempotency keys are in the name of
MAX_KEY_LENGTH = 255
ONE_WAY = "Give exactly one of command, options and preset."


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a caller asks for, in one of three ways: a command, options, or a preset with parameters; in none of them,
    it is the default preset, if the settings name one.

    `input_files` maps the names in the command to URLs.
    """

    command: str = ""  # empty where it is written in another way
    options: "Options | None" = None
    preset: str | None = None
    parameters: Mapping[str, Any] | None = None
    input_files: Mapping[str, str]
    output_files: tuple[str, ...]
    callback_url: str | None = None
    compute: str = "auto"  # auto, gpu or cpu
    gpu_fallback: bool = False
    timeout_seconds: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    destination: Destination | None = None  # None is the service's own bucket


class Defaults(NamedTuple):
    """What is taken where nothing is asked for."""

    preset: str | None = None
    quality: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Defaults":
        return cls(settings.default_preset, settings.default_quality)


NO_DEFAULTS = Defaults()


class Registered(NamedTuple):
    task: Task
    again: bool  # whether the same request had registered it before


def register(
    store: TaskStore,
    wanted: Registration,
    *,
    settings: Settings,
    task_id: str,
    correlation_id: str,
    now: datetime,
    idempotency_key: str | None = None,
    key_name: str | None = None,
    uploads: Uploads | None = None,
    own_presets: "Own" = None,
) -> Registered:
    """The task, stored; with an idempotency key that was used before, the one that it was used for.

    `key_name` is that of the API key: the task is its own, and so are its idempotency keys. `uploads` are those that
    may be its inputs; they are kept for it.
    Raises CommandNotAllowed, UrlNotAllowed, InvalidArgument or IdempotencyConflict, and then stores nothing.
    """
    own_presets = own_presets or settings.presets_folder
    if idempotency_key is None:
        task = _task(wanted, settings, own_presets, task_id, correlation_id, now)
        _hold(uploads, task, now=now)
        return Registered(store.create(replace(task, key_name=key_name)), again=False)
    task_id, fingerprint = id_of(idempotency_key, key_name), fingerprint_of(wanted)
    try:
        return _same(store.get(task_id), fingerprint)
    except TaskNotFound:
        task = _task(wanted, settings, own_presets, task_id, correlation_id, now)
        task = replace(task, key_name=key_name, fingerprint=fingerprint)
        _hold(uploads, task, now=now)
    try:
        return Registered(store.create(task), again=False)
    except TaskExists:  # by the same request, at the same time
        return _same(store.get(task_id), fingerprint)


def _task(
    wanted: Registration, settings: Settings, own_presets: "Own", task_id: str, correlation_id: str, now: datetime
) -> Task:
    task = judged(
        wanted, settings=settings, own_presets=own_presets, task_id=task_id, correlation_id=correlation_id, now=now
    )
    for name, url in wanted.input_files.items():
        urls.check(url, field=f"input_files.{name}", policy=settings.url_policy)
    return task


def judged(
    wanted: Registration,
    *,
    settings: Settings,
    own_presets: "Own",
    task_id: str,
    correlation_id: str,
    now: datetime,
) -> Task:
    """The task, of which all is judged but where its inputs lie. Raises CommandNotAllowed, InvalidArgument."""
    default = Defaults.of(settings)
    text = command_text(wanted, own_presets, default=default)
    command = validate.check(text, input_names=wanted.input_files, output_names=wanted.output_files)
    return Task(
        task_id=task_id,
        status=Status.PENDING,
        command=command.text,
        input_files=dict(wanted.input_files),
        output_files=wanted.output_files,
        correlation_id=correlation_id,
        created_at=now,
        compute=compute_for(command, wanted),
        gpu_fallback=wanted.gpu_fallback,
        callback_url=_callback(wanted, settings),
        timeout_seconds=timeout_for(wanted, most_seconds=settings.task_timeout_seconds),
        recipe=recipe_for(wanted, own_presets, default=default),
        metadata=dict(wanted.metadata),
        destination=destination.check(wanted.destination, settings.destinations),
        # In somebody else's bucket it is theirs to say for how long.
        result_ttl_seconds=None if wanted.destination else settings.result_ttl_seconds,
        notices=_notices(wanted, settings),
    )


def _hold(uploads: Uploads | None, task: Task, *, now: datetime) -> None:
    """Keep the uploads that are inputs of the task. Raises InvalidArgument for one that cannot be."""
    for name, url in task.input_files.items():
        if uploads and url.startswith(urls.UPLOAD):
            upload_id = url.removeprefix(urls.UPLOAD)
            uploads.hold(upload_id, task_id=task.task_id, field=f"input_files.{name}", now=now)


def command_text(wanted: Registration, own_presets: "Own", *, default: Defaults = NO_DEFAULTS) -> str:
    """The command that is asked for, not judged yet. Raises InvalidArgument where the wishes make none."""
    if wanted.command:
        return wanted.command
    name = wanted.preset or default.preset
    if wanted.options is None and name is None:
        raise InvalidArgument(ONE_WAY, details={"field": "command"})
    (source, output), gpu, quality = _one_of_each(wanted), wanted.compute == "gpu", default.quality
    if wanted.options is not None:
        from core.ffmpeg import form  # only here: most requests are commands

        return form.command(wanted.options, source=source, output=output, gpu=gpu, quality=quality)
    from core import presets
    from core.ffmpeg import preset

    found = presets.find(name or "", own_presets)
    given = preset.with_default(found, wanted.parameters or {}, quality)
    return preset.command(found, given, source=source, output=output, gpu=gpu)


def recipe_for(wanted: Registration, own_presets: "Own", *, default: Defaults = NO_DEFAULTS) -> Recipe | None:
    """What the worker makes the command of, for a preset that looks at the source; None for all else."""
    name = wanted.preset or default.preset
    if wanted.command or wanted.options is not None or name is None:
        return None
    from core import presets
    from core.ffmpeg import preset, recipe

    found = presets.find(name, own_presets)
    given = preset.with_default(found, wanted.parameters or {}, default.quality)
    return recipe.of(found, given, gpu=wanted.compute == "gpu")


def _one_of_each(wanted: Registration) -> tuple[str, str]:
    for name, there in (("input_files", wanted.input_files), ("output_files", wanted.output_files)):
        if len(there) != 1:
            message = f"options and presets are for one input and one output: give one in {name}, or write a command."
            raise InvalidArgument(message, details={"field": name})
    return next(iter(wanted.input_files)), wanted.output_files[0]


def compute_for(command: Command, wanted: Registration) -> compute.Compute:
    """What kind of worker the task goes to. Raises InvalidArgument when the command cannot run as it is wanted."""
    needs = compute.needs(command)
    if needs == "cpu":
        return "gpu" if wanted.compute == "gpu" else "cpu"
    if wanted.gpu_fallback:
        try:
            fallback.to_cpu(command)
        except fallback.NoCpuForm as reason:
            message = f"gpu_fallback cannot be had, the command has no form for the CPU: {reason}"
            raise InvalidArgument(message, details={"field": "gpu_fallback"}) from None
    elif wanted.compute == "cpu":
        message = (
            "The command names NVENC or CUDA: set compute to gpu or auto, or gpu_fallback to run it in its CPU form."
        )
        raise InvalidArgument(message, details={"field": "compute"})
    return "cpu" if wanted.compute == "cpu" else "gpu"


def timeout_for(wanted: Registration, *, most_seconds: int) -> int | None:
    """The task's own limit, if it has one. Raises InvalidArgument when it is beyond that of the service."""
    if wanted.timeout_seconds is not None and not 1 <= wanted.timeout_seconds <= most_seconds:
        message = f"timeout_seconds must be from 1 to {most_seconds}, the most that a task may take here."
        raise InvalidArgument(message, details={"field": "timeout_seconds"})
    return wanted.timeout_seconds


def _callback(wanted: Registration, settings: Settings) -> str | None:
    if wanted.callback_url is None:
        return None
    field = "callback_url"
    if settings.webhook_secret is None:
        message = "callback_url cannot be used: this service has no WEBHOOK_SECRET to sign notices with."
        raise InvalidArgument(message, details={"field": field})
    urls.check(wanted.callback_url, field=field, policy=settings.url_policy.web_only)
    return wanted.callback_url


def _notices(wanted: Registration, settings: Settings) -> tuple[Notice, ...]:
    asked = {"webhook": wanted.callback_url, "event": settings.event_bus}
    return tuple(Notice(channel=channel) for channel, where in asked.items() if where)


def id_of(key: str, key_name: str | None) -> str:
    """A UUID for the idempotency key. Raises InvalidArgument."""
    if not 0 < len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        message = f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable ASCII characters."
        raise InvalidArgument(message, details={"field": "Idempotency-Key"})
    return str(uuid5(uuid5(_KEYS, key_name) if key_name else _KEYS, key))


def fingerprint_of(wanted: Registration) -> str:
    given = {name: value for name, value in asdict(wanted).items() if value is not None}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _same(task: Task, fingerprint: str) -> Registered:
    if task.fingerprint != fingerprint:
        raise IdempotencyConflict(details={"task_id": task.task_id})
    return Registered(task, again=True)
