"""Health: is everything there that a task needs? Each part answers for itself; one that cannot makes us unhealthy."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.ports import Services

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    ready: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    ffmpeg_version: str
    parts: Mapping[str, Part]

    @property
    def healthy(self) -> bool:
        return all(part.ready for part in self.parts.values())


def examine(services: Services, *, ffmpeg_version: str, sandbox: str | None = None) -> Health:
    """Ask each part. `ffmpeg_version` is that of the build in use, or of the one that commands are checked against.

    `sandbox` says how ffmpeg is contained, where it runs on this machine.
    """
    checks = {
        "task_store": services.store.check,
        "object_store": services.objects.check,
        "dispatcher": services.dispatcher.check,
    }
    if sandbox:
        checks["sandbox"] = lambda: sandbox
    return Health(ffmpeg_version=ffmpeg_version, parts={name: _asked(name, check) for name, check in checks.items()})


def _asked(name: str, check: Callable[[], str]) -> Part:
    try:
        return Part(ready=True, detail=check())
    except Exception as error:
        # The reason may hold names of tables or folders: it is for our log, not for the caller.
        log.warning("not ready", extra={"action": "health", "part": name}, exc_info=error)
        return Part(ready=False, detail=f"The {name.replace('_', ' ')} cannot be used; the log says why.")
