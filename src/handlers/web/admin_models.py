"""What goes over the wire of the operations for admins: the settings at run time, and the load."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from core.live_settings import Stored, applied
from core.load import MOST
from core.load import Load as DomainLoad
from core.load import Machine as DomainMachine
from core.settings import Settings
from core.task import Status
from handlers.web import admin_examples
from handlers.web.models import Time
from handlers.web.wire import Wire


def _text(description: str, **schema: object) -> Any:
    """A field that core judges, so that all that is wrong with a body is said at once; here it is only described."""
    return WithJsonSchema({"anyOf": [{"type": "string", **schema}, {"type": "null"}], "description": description})


def _whole(description: str, least: int, most: int) -> Any:
    number = {"type": "integer", "minimum": least, "maximum": most}
    return WithJsonSchema({"anyOf": [number, {"type": "null"}], "description": description})


class NewSettings(Wire):
    """What is to hold; what is null, or left out, is what the environment says."""

    model_config = ConfigDict(json_schema_extra={"examples": [admin_examples.NEW_SETTINGS]})

    default_preset: Annotated[
        Any, _text("The preset of a registration that has no command, options or preset of its own.")
    ] = None
    default_quality: Annotated[
        Any,
        _text(
            "The quality of a preset or of options where none is asked for, and no bit rate.",
            enum=["high", "balanced", "small"],
        ),
    ] = None
    result_ttl_hours: Annotated[
        Any,
        _whole("How long the outputs of tasks registered from now on are kept; 0 is for ever.", 0, 10 * 365 * 24),
    ] = None
    max_concurrent_tasks: Annotated[
        Any, _whole("How many tasks run at once, on one machine; those that run are let finish.", 1, 256)
    ] = None


class Setting(Wire):
    value: str | int | None
    source: Literal["environment", "stored"] = Field(description="Whether it was set by PUT, or is the environment's.")


class LiveSettings(Wire):
    """The settings that can be set while the service runs, as they hold."""

    default_preset: Setting
    default_quality: Setting
    result_ttl_hours: Setting
    max_concurrent_tasks: Setting | None = Field(description="Null on AWS, where AWS Batch decides.")
    version: int = Field(description="Counts the changes; also the `ETag`.")
    changed_at: Time | None
    changed_by: str | None = Field(description="The name of the key, where there is sign-in.")


class Counts(Wire):
    """As they are now, of all callers."""

    pending: int
    queued: int
    running: int


class Ended(Wire):
    """What has ended within the time."""

    completed: int
    failed: int
    canceled: int
    mean_seconds: float | None = Field(description="From execute to the end, of the completed ones.")


class Gpu(Wire):
    """A card that the worker sees; null is what its driver does not tell."""

    use_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None


class Worker(Wire):
    """A worker, as it last said of itself."""

    task_id: str
    attempt: int
    host: str
    started_at: Time
    seen_at: Time
    cpu_cores: float | None = Field(description="Processor time that it used, ffmpeg included: seconds a second.")
    memory_bytes: int | None
    gpus: tuple[Gpu, ...] = Field(description="Empty without cards.")


class Disk(Wire):
    total_bytes: int
    free_bytes: int


class Pool(Wire):
    size: int
    running: int
    waiting: int


class Machine(Wire):
    """One machine as a whole; other programs use it too."""

    cores: int
    load_average: float = Field(description="Of the last minute.")
    memory_total_bytes: int
    memory_available_bytes: int
    disks: dict[str, Disk] = Field(description="By what is kept there: `data`, `scratch`.")
    pool: Pool


class System(Wire):
    """How the service stands."""

    tasks: Counts
    counted_up_to: int = Field(description="A count that is as large as this is that or more.")
    oldest_queued_seconds: float | None = Field(
        description="For how long the queued task has waited that has waited the longest; null when none is queued."
    )
    last_minute: Ended
    last_hour: Ended
    workers: tuple[Worker, ...] = Field(
        description="Those heard of in the last minute, at most 100. A worker is heard of when it has worked for 2 s."
    )
    machine: Machine | None = Field(description="Null on AWS.")


def shown_settings(settings: Settings, stored: Stored) -> LiveSettings:
    """`settings` are the environment's."""
    holds = applied(settings, stored)

    def shown(name: str) -> Setting:
        value = getattr(holds, name)
        return Setting(value=value, source="stored" if stored.values.get(name) == value else "environment")

    return LiveSettings(
        default_preset=shown("default_preset"),
        default_quality=shown("default_quality"),
        result_ttl_hours=shown("result_ttl_hours"),
        max_concurrent_tasks=None if settings.backend == "aws" else shown("max_concurrent_tasks"),
        version=stored.version,
        changed_at=stored.changed_at,
        changed_by=stored.changed_by,
    )


def shown_load(load: DomainLoad, machine: DomainMachine | None) -> System:
    return System(
        tasks=Counts(
            **{status.value: load.counts[status] for status in (Status.PENDING, Status.QUEUED, Status.RUNNING)}
        ),
        counted_up_to=MOST,
        oldest_queued_seconds=load.oldest_queued_seconds,
        last_minute=Ended.model_validate(load.last_minute),
        last_hour=Ended.model_validate(load.last_hour),
        workers=tuple(
            Worker(
                task_id=worker.task_id,
                attempt=worker.fence,
                host=worker.host,
                started_at=worker.started_at,
                seen_at=worker.seen_at,
                cpu_cores=worker.usage.cpu_cores,
                memory_bytes=worker.usage.memory_bytes,
                gpus=tuple(Gpu.model_validate(card) for card in worker.usage.gpus),
            )
            for worker in load.workers
        ),
        machine=Machine.model_validate(machine) if machine else None,
    )
