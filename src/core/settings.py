"""Every setting, read once by an entry point from the environment.

A setting's environment variable is its field's name in capitals. All faults are reported together. Nothing here is
opened or checked against the machine: that is for whoever uses the setting.
"""

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from core import destination, keys
from core.destination import Destination
from core.urls import Policy

# In the place of a secret: where on AWS it is kept.
SECRET_ARN = re.compile(r"arn:[a-z-]+:(secretsmanager|ssm):\S+")


class SettingsInvalid(Exception):
    """One or more settings cannot be used; `faults` has a sentence for each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults are those of one machine; AWS needs TASK_TABLE, OUTPUT_BUCKET, JOB_QUEUE and JOB_DEFINITION besides."""

    backend: str = "local"  # local or aws
    log_level: str = "INFO"
    link_ttl_seconds: int = 3600  # how long a link to an output can be used
    result_ttl_hours: int = 24  # how long outputs are kept; 0: for ever
    destinations: tuple[Destination, ...] = ()  # where outputs may go at a caller's wish, besides our own bucket
    default_preset: str | None = None  # for a registration that has no command, options or preset
    default_quality: str | None = None  # high, balanced or small, where none is asked for; none: what the preset says
    upload_ttl_hours: int = 24  # how long uploads are kept after they were begun, completed or last used
    retry_delay_seconds: int = 15  # before the second attempt of a task; four times that before the third
    # What notices are signed with: whsec_ and base64, or two; on AWS also the ARN of a secret that is that.
    webhook_secret: str | None = field(default=None, repr=False)
    # who may call
    api_keys: tuple[keys.Key, ...] = field(default=(), repr=False)  # none: whoever reaches the service
    rate_limit_per_minute: int = 0  # requests of one key; 0: any number
    max_live_tasks_per_key: int = 0  # queued or running at once; 0: any number
    max_open_uploads_per_key: int = 100  # begun and not completed; without keys, of all callers together; 0: any number
    # the worker
    ffmpeg_path: str | None = None  # another ffmpeg than the one that comes with the wheel
    scratch_dir: Path | None = None  # where tasks have their temporary folders
    max_input_bytes: int = 20 * 1024**3  # of each input file
    max_output_bytes: int = 50 * 1024**3  # of each output file
    max_task_bytes: int = 100 * 1024**3  # of all files that a task writes, the temporary ones included
    max_memory_bytes: int | None = None  # of a run of ffmpeg; none: nine tenths of the machine's
    task_timeout_seconds: int = 3600  # of each run of ffmpeg
    presets_dir: Path | str | None = None  # more presets than those of the package; on AWS also as s3://bucket/prefix
    # what may be fetched besides the public internet
    allow_private_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()  # for development
    input_buckets: tuple[str, ...] = ()  # whose objects may be inputs, with the AWS backend
    stall_seconds: int = 300  # the longest that ffmpeg may neither advance nor read
    sandbox: str = "auto"  # strict: nothing runs without all of it; auto: strict where the kernel has Landlock
    # one machine
    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    public_url: str | None = None  # how clients reach this server, if not by HOST and PORT
    upload_origins: tuple[str, ...] = ()  # whose pages may PUT parts of uploads; * is any
    data_dir: Path = Path(".data")
    max_concurrent_tasks: int = 2
    input_roots: tuple[Path, ...] = ()  # folders whose files may be inputs
    allow_unauthenticated: bool = False  # listen on other addresses than loopback without any sign-in
    # AWS
    task_table: str | None = None
    output_bucket: str | None = None
    output_prefix: str = "outputs"
    job_queue: str | None = None
    job_definition: str | None = None
    cpu_job_queue: str | None = None  # for commands that use no GPU; without it they go where the others go
    cpu_job_definition: str | None = None
    event_bus: str | None = None  # where the ends of tasks are announced as events

    @property
    def scratch(self) -> Path:
        return self.scratch_dir or self.data_dir / "scratch"

    @property
    def presets_folder(self) -> Path | None:
        """Where on this machine more presets are."""
        return self.presets_dir if isinstance(self.presets_dir, Path) else None

    @property
    def presets_uri(self) -> str | None:
        """Where in a bucket more presets are."""
        return self.presets_dir if isinstance(self.presets_dir, str) else None

    @property
    def base_url(self) -> str:
        """Where clients reach the local service."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def result_ttl_seconds(self) -> int | None:
        """None is for ever."""
        return self.result_ttl_hours * 3600 or None

    @property
    def job_queues(self) -> tuple[str, ...]:
        """Those that tasks are submitted to."""
        return tuple(queue for queue in (self.job_queue, self.cpu_job_queue) if queue)

    @property
    def job_seconds(self) -> int:
        """How long a worker may be at one task, which it fetches, runs twice at the most and stores, until it hangs."""
        return 2 * self.task_timeout_seconds + 3600

    @property
    def lets_strangers_in(self) -> bool:
        """Whether anybody who reaches the local service could use it, though nobody has said that they may."""
        return not (self.api_keys or self.allow_unauthenticated or _is_loopback(self.host))

    @property
    def url_policy(self) -> Policy:
        """Which URLs are taken. Only AWS has a role with which to read a bucket, and only one machine has folders."""
        buckets = self.input_buckets if self.backend == "aws" else ()
        folders = self.input_roots if self.backend == "local" else ()
        networks = self.allow_private_networks
        return Policy(private_networks=networks, buckets=buckets, folders=folders, uploads=True)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Settings from environment variables; empty ones count as unset. Raises SettingsInvalid."""
        values: dict[str, Any] = {}
        faults: list[str] = []
        for name, read in _READERS.items():
            text = env.get(name.upper(), "").strip()
            if not text:
                continue
            try:
                values[name] = read(text)
            except ValueError as fault:
                shown = "" if name in _SECRET else f"={text!r}"
                faults.append(f"{name.upper()}{shown}: {fault}")
        settings = cls(**values)
        faults += settings._contradictions()
        if faults:
            raise SettingsInvalid(faults)
        return settings

    def with_one(self, name: str, text: str) -> "Settings":
        """These settings, but for one, read as from the environment. Raises ValueError, saying how it must be."""
        return replace(self, **{name: _READERS[name](text)})

    def to_env(self) -> dict[str, str]:
        """The environment that gives these settings again, for a worker that we start: all but the secrets."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name not in _SECRET)
        return {name.upper(): _spelled(value) for name, value in pairs if value is not None}

    def _contradictions(self) -> list[str]:
        faults = []
        if self.backend == "aws":
            needed = ("task_table", "output_bucket", "job_queue", "job_definition")
            faults += [f"{name.upper()} must be set with BACKEND=aws" for name in needed if not getattr(self, name)]
        if bool(self.cpu_job_queue) != bool(self.cpu_job_definition):
            faults.append("CPU_JOB_QUEUE and CPU_JOB_DEFINITION go together: set both, or neither")
        if self.backend != "aws" and SECRET_ARN.search(self.webhook_secret or ""):
            faults.append("WEBHOOK_SECRET: an ARN is for BACKEND=aws; give the secret itself")
        if self.backend != "aws" and self.presets_uri:
            faults.append("PRESETS_DIR: s3:// is for BACKEND=aws; name a folder")
        return faults


def _whole(text: str, *, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None
    if not least <= number <= most:
        raise ValueError(f"must be from {least} to {most}")
    return number


def _between(least: int, most: int) -> Callable[[str], int]:
    return lambda text: _whole(text, least=least, most=most)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def _flag(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError("must be true or false")
    return words[text.lower()]


def _base_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return text.rstrip("/")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part) for part in _listed(text))
    except ValueError as fault:
        raise ValueError(f"must be networks like 127.0.0.0/8,::1/128: {fault}") from None


def _buckets(text: str) -> tuple[str, ...]:
    names = _listed(text)
    for name in names:
        if not destination.is_bucket(name):
            raise ValueError(f"must be names of buckets, like media,archive: {name!r} is none")
    return tuple(names)


def _destinations(text: str) -> tuple[Destination, ...]:
    return tuple(map(destination.read, _listed(text)))


def _origins(text: str) -> tuple[str, ...]:
    origins = _listed(text)
    for origin in origins:
        if not re.fullmatch(r"\*|https?://[^/?#\s]+", origin):
            raise ValueError(f"must be origins, like https://app.example.com, or *: {origin!r} is none")
    return tuple(origins)


def _presets_dir(text: str) -> Path | str:
    if not text.startswith("s3://"):
        return Path(text)
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not destination.is_bucket(bucket) or not prefix.strip("/"):
        raise ValueError("must be a folder, or s3://bucket/prefix")
    return text


def _folders(text: str) -> tuple[Path, ...]:
    folders = tuple(Path(part) for part in _listed(text))
    for folder in folders:
        if not folder.is_absolute() or ".." in folder.parts:
            raise ValueError(f"must be absolute paths, like /srv/media,/mnt/archive: {str(folder)!r} is none")
    return folders


def webhook_secret(text: str) -> str:
    """One secret or two, with a space between; each may be, or end in, the ARN of what it is. Raises ValueError."""
    secrets = text.split()
    if not all(SECRET_ARN.search(secret) or _is_webhook_secret(secret) for secret in secrets) or len(secrets) > 2:
        raise ValueError("must be whsec_ and then 24 to 64 bytes in base64; or two of these, with a space between them")
    return " ".join(secrets)


def _is_webhook_secret(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64


_SECRET = frozenset({"webhook_secret", "api_keys"})
_READERS: Mapping[str, Callable[[str], Any]] = {
    "backend": _one_of("local", "aws"),
    "log_level": lambda text: _one_of("DEBUG", "INFO", "WARNING", "ERROR")(text.upper()),
    "link_ttl_seconds": _between(1, 7 * 24 * 3600),
    "result_ttl_hours": _between(0, 10 * 365 * 24),
    "destinations": _destinations,
    "default_preset": str,
    "default_quality": _one_of("high", "balanced", "small"),
    "upload_ttl_hours": _between(1, 6 * 24),
    "retry_delay_seconds": _between(0, 3600),
    "webhook_secret": webhook_secret,
    "api_keys": keys.read,
    "rate_limit_per_minute": _between(0, 1_000_000),
    "max_live_tasks_per_key": _between(0, 1_000_000),
    "max_open_uploads_per_key": _between(0, 1000),
    "ffmpeg_path": str,
    "scratch_dir": Path,
    "presets_dir": _presets_dir,
    "max_input_bytes": _between(1, 2**50),
    "max_output_bytes": _between(1, 2**50),
    "max_task_bytes": _between(1, 2**50),
    "max_memory_bytes": _between(64 * 1024**2, 2**50),
    "task_timeout_seconds": _between(1, 7 * 24 * 3600),
    "allow_private_networks": _networks,
    "input_buckets": _buckets,
    "stall_seconds": _between(1, 7 * 24 * 3600),
    "sandbox": _one_of("auto", "strict", "degraded"),
    "host": str,
    "port": _between(0, 65535),
    "public_url": _base_url,
    "upload_origins": _origins,
    "data_dir": Path,
    "max_concurrent_tasks": _between(1, 256),
    "input_roots": _folders,
    "allow_unauthenticated": _flag,
    "task_table": str,
    "output_bucket": str,
    "output_prefix": lambda text: text.strip("/"),
    "job_queue": str,
    "job_definition": str,
    "cpu_job_queue": str,
    "cpu_job_definition": str,
    "event_bus": str,
}


def _spelled(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
