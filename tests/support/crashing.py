"""The service, a worker, the Lambda function and a sweep as they are, but for this: they kill themselves at a point.

Run as a program, with the part to play as its argument, the name of a point in CRASH_AT, and in CRASH_FOLDER where to
note that it was reached: each point is reached once. The points are calls of the ports, seen by a proxy around them,
so that the product itself has none.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from core import aftermath, sweep, wiring
from core.cancel import cancel
from core.ports import Services
from core.settings import Settings
from core.task import Stage, Status, Task
from core.worker import process, sandbox
from support import lambda_process, processes

Matches = Callable[..., bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where to die: before or after a port's call, the first whose arguments match."""

    call: str
    after: bool = True
    matches: Matches = lambda *_, **__: True
    waits: Callable[[], bool] = lambda: True  # for this, before dying
    by: signal.Signals = signal.SIGKILL


def _from(*before: Status, to: Status) -> Matches:
    return lambda new, previous: previous.status in before and new.status is to


def _downloaded(new: Task, previous: Task) -> bool:
    """The first that is said of a later stage, which need not be the next one."""
    return previous.stage is Stage.DOWNLOADING and new.stage is not Stage.DOWNLOADING


def _tried(new: Task, previous: Task) -> bool:
    return any(now.tries > then.tries for now, then in zip(new.notices, previous.notices, strict=True))


def _ffmpeg_runs() -> bool:
    return any(processes.read(pid, "comm").startswith("ffmpeg") for pid in processes.children(os.getpid()))


POINTS: Mapping[str, Point] = {
    "registered": Point(call="store.create"),
    "queued": Point(call="store.replace", matches=_from(Status.PENDING, to=Status.QUEUED)),
    "submitted": Point(call="dispatcher.submit"),
    "before the claim": Point(
        call="store.replace", after=False, matches=_from(Status.QUEUED, Status.RUNNING, to=Status.RUNNING)
    ),
    "claimed": Point(call="store.replace", matches=_from(Status.QUEUED, to=Status.RUNNING)),
    "downloaded": Point(call="store.replace", after=False, matches=_downloaded),
    # From the claim on, and not from the report of the stage: a short transcode may be over before that.
    "transcoding": Point(call="store.replace", matches=_from(Status.QUEUED, to=Status.RUNNING), waits=_ffmpeg_runs),
    "transcoded": Point(call="objects.put_file", after=False),
    "uploading": Point(call="objects.put_file"),
    # No crashes: it stands still, with what it has stored, until it is told to go on.
    "storing": Point(call="objects.put_file", by=signal.SIGSTOP),
    "completing": Point(
        call="store.replace", after=False, matches=_from(Status.RUNNING, to=Status.COMPLETED), by=signal.SIGSTOP
    ),
    "uploaded": Point(call="store.replace", after=False, matches=_from(Status.RUNNING, to=Status.COMPLETED)),
    "completed": Point(call="store.replace", matches=_from(Status.RUNNING, to=Status.COMPLETED)),
    "canceled": Point(call="store.replace", matches=_from(Status.QUEUED, Status.RUNNING, to=Status.CANCELED)),
    "lost": Point(call="store.replace", matches=_from(Status.RUNNING, to=Status.QUEUED)),
    "noticing": Point(call="store.replace", matches=_tried),
}
INHERITED = ("CRASH_AT", "CRASH_FOLDER")


def reached(folder: Path) -> list[str]:
    """The points at which processes have died."""
    return sorted(path.name for path in folder.iterdir())


class _Watched:
    """A port that is seen through: every attribute is the port's own, every call may be the last."""

    def __init__(self, port: object, name: str) -> None:
        self._port = port
        self._name = name

    def __getattr__(self, method: str) -> Any:
        original = getattr(self._port, method)
        call = f"{self._name}.{method}"

        def called(*args: Any, **kwargs: Any) -> Any:
            _perhaps_die(call, args, kwargs, after=False)
            result = original(*args, **kwargs)
            _perhaps_die(call, args, kwargs, after=True)
            return result

        return called


def _perhaps_die(call: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, after: bool) -> None:
    for name in filter(None, os.environ["CRASH_AT"].split(",")):
        point = POINTS[name]
        if (point.call, point.after) == (call, after) and point.matches(*args, **kwargs) and _first(name):
            if not point.waits():
                threading.Thread(target=_die, args=(point,)).start()
            else:
                _die(point)


def _die(point: Point) -> None:
    while not point.waits():
        time.sleep(0.001)
    os.kill(os.getpid(), point.by)


def _first(name: str) -> bool:
    try:
        Path(os.environ["CRASH_FOLDER"], name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _watched_services(**ports: Any) -> Services:
    seen = Services(**ports)
    return replace(
        seen,
        store=_Watched(seen.store, "store"),
        objects=_Watched(seen.objects, "objects"),
        dispatcher=_Watched(seen.dispatcher, "dispatcher"),
    )


def _uncontained() -> None:
    """A shell script for an ffmpeg could not even start in the sandbox."""
    process.canary = lambda scratch: nullcontext(sandbox.Layers)  # type: ignore[assignment, return-value]


def _outlive(parent: int) -> None:
    """Whoever started us is about to die, and we are not to have done anything by then."""
    while os.getppid() == parent:
        time.sleep(0.01)


class Noting:
    """A channel that only notes that somebody was told."""

    def deliver(self, task: Task) -> None:
        Path(os.environ["CRASH_FOLDER"], "told").touch()


def _sweep(later: timedelta) -> None:
    services = replace(wiring.services(Settings.from_env(os.environ), os.environ), channels={"webhook": Noting()})
    now = datetime.now(UTC) + later
    sweep.sweep(services, now=now)
    aftermath.sweep(services, now=now)


def main(part: str, *arguments: str) -> int:
    os.environ.setdefault("CRASH_AT", "")
    replaced = {
        "Services": _watched_services,
        "WORKER": ("-m", "support.crashing", "worker"),
        "_INHERITED": (*wiring._INHERITED, *INHERITED),
    }
    for name, value in replaced.items():
        setattr(wiring, name, value)
    if os.environ.get("UNCONTAINED"):
        _uncontained()
    if part == "service":
        from handlers import local

        return local.main(os.environ)
    if part == "worker":
        from handlers import batch_worker

        if os.environ["CRASH_AT"] == "submitted" and "PARENT_PID" in os.environ:
            _outlive(int(os.environ["PARENT_PID"]))
        return batch_worker.main(os.environ)
    if part == "cancel":
        services = wiring.services(Settings.from_env(os.environ), os.environ)
        cancel(services, arguments[0], now=datetime.now(UTC))
    elif part == "function":
        lambda_process.main(os.fdopen(int(arguments[0]), "w"))
    else:
        _sweep(timedelta(seconds=float(arguments[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
