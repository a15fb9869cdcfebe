"""From settings to Services: the only file that knows both worlds.

The twins are imported when they are asked for, and AWS clients are made when they are first used, so that a Lambda
start pays for nothing that its request does not need.
"""

import base64
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from core import sweep, sweep_batches
from core.ports import BATCHES, Channel, Services
from core.settings import SECRET_ARN, Settings, SettingsInvalid
from core.task import Task

if TYPE_CHECKING:
    from core.load import Machine
    from core.local.dispatcher import LocalDispatcher
    from core.local.object_store import FoundFile
    from core.local.upload_store import Draft
    from core.presets import SharedShelf

# The one program that runs a task, here as in the container.
WORKER = ("-m", "handlers.batch_worker")

# What a local worker keeps of the environment of whoever starts it, besides the settings.
_INHERITED = (
    "PATH",  # programs that FFMPEG_PATH names without a folder
    "PYTHONPATH",  # where the worker's own code is
    "HOME",
    "TMPDIR",
    "LANG",
    "LD_LIBRARY_PATH",  # where drivers may be
    "CUDA_VISIBLE_DEVICES",
    "SSL_CERT_FILE",  # whom the fetcher trusts
    "SANDBOX_LAYERS",  # what the service's canary found, so that a worker need not ask again
)


class Local(NamedTuple):
    """What one machine has besides the services: a pool to start and close, links to answer, and parts to take."""

    services: Services
    pool: "LocalDispatcher"
    open_link: "Callable[[str, str], FoundFile | None]"
    machine: "Callable[[], Machine]"  # what it is busy with
    take_part: "Callable[[str, str, int], Draft]"
    lists: Callable[[], Sequence[str]]  # the ids of batches of whose files there are lists


def signing(settings: Settings) -> Settings:
    """One machine signs its notices also where nobody has said with what: by a key that it keeps in the data folder."""
    from core.local.object_store import load_secret

    if settings.webhook_secret:
        return settings
    key = base64.b64encode(load_secret(settings.data_dir / "webhook-secret")).decode()
    return replace(settings, webhook_secret=f"whsec_{key}")


def with_keys(env: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with what API_KEYS leads to, where on AWS it names a secret. Raises SettingsInvalid."""
    named = env.get("API_KEYS", "")
    if env.get("BACKEND") != "aws" or not SECRET_ARN.search(named):
        return env
    from core.aws import secrets

    entries = secrets.read(named)
    if not entries:  # which would read as no sign-in at all
        raise SettingsInvalid(["API_KEYS leads to a secret that is empty; put the entries of the keys there"])
    return {**env, "API_KEYS": entries}


def channels(settings: Settings, shown: Callable[[Task], str]) -> Mapping[str, Channel]:
    """By which others can be told that a task has ended; `shown` gives what they are told."""
    made: dict[str, Channel] = {}
    if settings.webhook_secret:
        from core.worker.webhook import WebhookChannel

        def signed(secret: str) -> Channel:
            return WebhookChannel(secret.split(), policy=settings.url_policy, shown=shown)

        made["webhook"] = _made(signed, settings.webhook_secret)
    if settings.event_bus:
        from core.aws.event_bus import EventBusChannel

        made["event"] = EventBusChannel(settings.event_bus, shown=shown)
    return made


def _made(signed: Callable[[str], Channel], secret: str) -> Channel:
    if not SECRET_ARN.search(secret):
        return signed(secret)
    from core.aws.secrets import SignedLater

    return SignedLater(secret, signed)


def services(settings: Settings, env: Mapping[str, str]) -> Services:
    """What the API and the worker run on, for either backend; `env` is the environment of this process."""
    return _aws(settings) if settings.backend == "aws" else local(settings, env).services


def _aws(settings: Settings) -> Services:
    from core.aws.dispatcher import BatchDispatcher, Place
    from core.aws.input_store import S3InputStore
    from core.aws.object_store import S3ObjectStore
    from core.aws.record_store import DynamoRecordStore
    from core.aws.task_store import DynamoTaskStore
    from core.aws.upload_store import S3UploadStore

    # Settings.from_env has seen to it.
    assert settings.task_table
    assert settings.output_bucket
    assert settings.job_queue
    assert settings.job_definition
    gpu = Place(settings.job_queue, settings.job_definition)
    cpu = Place(settings.cpu_job_queue or gpu.queue, settings.cpu_job_definition or gpu.definition)
    return Services(
        store=DynamoTaskStore(settings.task_table),
        records=DynamoRecordStore(settings.task_table),
        objects=S3ObjectStore(settings.output_bucket),
        dispatcher=BatchDispatcher({"gpu": gpu, "cpu": cpu}, task_seconds=settings.job_seconds),
        inputs=S3InputStore(),
        uploads=S3UploadStore(settings.output_bucket),
        output_prefix=settings.output_prefix,
        buckets=cache(S3ObjectStore),
        presets=_shared_presets(settings.presets_uri) if settings.presets_uri else None,
    )


def _shared_presets(uri: str) -> "SharedShelf":
    from core.aws.preset_folder import S3PresetFolder
    from core.presets import SharedShelf

    return SharedShelf(S3PresetFolder(uri).texts)


def local(settings: Settings, env: Mapping[str, str]) -> Local:
    """One machine. Nothing is started: a worker needs the services only, and lets the pool be."""
    from core.local import machine
    from core.local.buckets import Folders
    from core.local.dispatcher import LocalDispatcher
    from core.local.input_folders import LocalInputFolders
    from core.local.object_store import load_secret
    from core.local.record_store import SqliteRecordStore
    from core.local.task_store import SqliteTaskStore
    from core.local.upload_store import FolderUploadStore

    secret = load_secret(settings.data_dir / "secret")
    opened = {place.bucket for place in settings.destinations}
    folders = Folders(settings.data_dir, base_url=settings.base_url, secret=secret, opened=opened)
    uploads = FolderUploadStore(settings.data_dir / "uploads", base_url=settings.base_url, secret=secret)
    pool = LocalDispatcher(
        command=(sys.executable, *WORKER),
        env=settings.to_env() | {name: env[name] for name in _INHERITED if name in env},
        max_concurrent=settings.max_concurrent_tasks,
        on_exit=lambda task_id, _: sweep.look_after(wired, task_id, now=datetime.now(UTC), job=sweep.GONE),
        on_batch_exit=lambda batch_id: sweep_batches.look_after_batch(wired, batch_id, now=datetime.now(UTC)),
    )
    file = settings.data_dir / "tasks.db"
    wired = Services(
        store=SqliteTaskStore(file),
        records=SqliteRecordStore(file),
        objects=folders.own,
        dispatcher=pool,
        uploads=uploads,
        folders=LocalInputFolders(settings.input_roots),
        output_prefix=settings.output_prefix,
        buckets=folders.bucket,
    )
    places = {"data": settings.data_dir, "scratch": settings.scratch}
    return Local(
        services=wired,
        pool=pool,
        open_link=folders.open_link,
        machine=lambda: machine.look(places, pool.load()),
        take_part=uploads.take,
        lists=lambda: folders.own.folders(BATCHES),
    )
