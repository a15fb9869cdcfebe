"""One order from beginning to end: send its files, register it, follow it, fetch its results.

What was begun on the service is ended when it is interrupted: the task is canceled, the uploads are deleted. Where the
service is lost on the way, or a result cannot be stored here, the task's id is in the fault, and nothing is undone.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import Any, Protocol
from uuid import uuid4

from handlers.client import download, upload, watch
from handlers.client.api import Api, Json
from handlers.client.faults import Fault, Interrupted, Refused, TaskFailed, Unreachable, Usage
from handlers.client.request import NUMBER, Order


class Row(Protocol):
    """Where the progress of one order is shown."""

    def moved(self, what: str, done: int, total: int) -> None:
        """So many bytes of a file were moved."""

    def followed(self, task: Json) -> None:
        """This is how the task is."""


@dataclass(frozen=True, kw_only=True)
class Done:
    task: Json
    files: tuple[tuple[Path, Json], ...]  # where each output was stored

    def shown(self) -> dict[str, Any]:
        files = [
            {"path": str(path), **{name: output[name] for name in ("filename", "size_bytes", "sha256")}}
            for path, output in self.files
        ]
        return {"task": self.task, "files": files}


@dataclass
class _Begun:
    """What the service has of an order."""

    uploads: list[str] = field(default_factory=list)
    body: Json | None = None
    key: str = field(default_factory=lambda: str(uuid4()))
    task_id: str | None = None
    ended: bool = False

    def end(self, api: Api) -> None:
        with suppress(Fault), api.leaving() as leaving:
            if self.body and not self.task_id:  # the answer to register may have been on its way
                self.task_id = leaving.register(self.body, key=self.key, execute=False)["task_id"]
            if self.task_id and not self.ended:
                leaving.cancel(self.task_id)
                api.say(f"Canceled task {self.task_id}.")
        self.drop(api)

    def undo(self, api: Api, fault: Fault) -> None:
        """What was begun for nothing. Where the answer to register was lost, there may be a task."""
        if self.body and isinstance(fault, Unreachable):
            self.end(api)
        else:
            self.drop(api)

    def drop(self, api: Api) -> None:
        for url in self.uploads:
            upload.drop(api, url)


def carry_out(api: Api, order: Order, *, row: Row, force: bool) -> Done:
    """Raises Fault, with the task's id in its details if there is a task; Interrupted."""
    begun = _Begun()
    try:
        _begin(api, order, begun, row)
        task = _followed(api, str(begun.task_id), row)
        begun.ended = True
        begun.drop(api)
        check_completed(task)
        return collect(api, task, order.targets, row=row, force=force)
    except Interrupted:
        if begun.ended:
            api.say(f"The task has ended: ffmpeg-task result {begun.task_id} fetches what it made.")
        else:
            begun.end(api)
        raise
    except Fault as fault:
        if begun.task_id:
            fault.details.setdefault("task_id", begun.task_id)
        else:
            begun.undo(api, fault)
        raise


def begin(api: Api, order: Order, *, row: Row) -> Json:
    """Send and register, and leave it to the service. Raises Fault, Interrupted."""
    begun = _Begun()
    try:
        return _begin(api, order, begun, row)
    except Interrupted:
        begun.end(api)
        raise
    except Fault as fault:
        begun.undo(api, fault)
        raise


def _begin(api: Api, order: Order, begun: _Begun, row: Row) -> Json:
    check_allowed(api, order)
    urls = {}
    for source in order.sources:
        if isinstance(source.where, Path):
            begun.uploads.append(upload.send(api, source.where, seen=_seen(row, "sending")))
            urls[source.name] = begun.uploads[-1]
        else:
            urls[source.name] = source.where
    begun.body = order.registration(urls)
    task = api.register(begun.body, key=begun.key)
    begun.task_id = task["task_id"]
    return task


def check_allowed(api: Api, order: Order) -> None:
    """Where files are to be sent, see first that they would not be sent in vain. Raises Refused."""
    if any(source.is_file for source in order.sources):
        found = api.validate(order.registration(order.stand_ins()))
        if not found["valid"]:
            wrong = found["violations"]
            raise Refused(wrong[0]["reason"], code="COMMAND_NOT_ALLOWED", details={"violations": wrong})


def _followed(api: Api, task_id: str, row: Row) -> Json:
    for task in watch.follow(api, task_id):
        row.followed(task)
    return task


def check_completed(task: Json) -> None:
    """Raises TaskFailed."""
    if task["status"] == "canceled":
        raise TaskFailed("The task was canceled.", code="TASK_CANCELED", details={"task_id": task["task_id"]})
    if task["status"] == "failed":
        error = task["error"]
        again = " The same may succeed when it is run again." if error["retryable"] else ""
        details = {"task_id": task["task_id"], **error.get("details", {})}
        raise TaskFailed(error["message"] + again, code=error["code"], details=details)


def collect(api: Api, task: Json, targets: Mapping[str, Path], *, row: Row, force: bool) -> Done:
    """Store all outputs. Those without a place of their own go beside the first that has one."""
    if not task["outputs"]:
        raise TaskFailed("What the task made is deleted.", code="RESULT_GONE", details={"task_id": task["task_id"]})
    files = places(task["outputs"], targets)
    check_free([path for path, _ in files], force=force)
    for path, output in files:
        download.fetch(
            output,
            path,
            link=lambda name=output["filename"]: api.result_link(task["task_id"], name),  # type: ignore[misc]
            force=force,
            stop=api.stop,
            say=api.say,
            seen=_seen(row, f"fetching {path.name}"),
        )
    if (left_out := task["output_count"] - len(files)) > 0:
        api.say(f"{left_out} further files are stored with the service, which lists only these {len(files)}.")
    return Done(task=task, files=tuple(files))


def places(outputs: Sequence[Json], targets: Mapping[str, Path]) -> list[tuple[Path, Json]]:
    """Where each output goes. Raises Fault for a name that would lead elsewhere."""
    folder = next(iter(targets.values())).parent if targets else Path()
    made = []
    for output in outputs:
        name = output["filename"]
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or not inside.parts:
            raise Fault(f"The service calls an output {name!r}, which is no name for a file here.")
        made.append((_place(name, targets) or folder / inside, output))
    return made


def _place(name: str, targets: Mapping[str, Path]) -> Path | None:
    """Where the output was wanted, by its name or as one of many, such as thumb_007.jpg of thumb_%03d.jpg."""
    if name in targets:
        return targets[name]
    for pattern, target in targets.items():
        numbered = _numbered(pattern)
        if numbered and (found := numbered.fullmatch(name)):
            numbered_name = NUMBER.sub(found[1], target.name, count=1)
            return target.with_name(name if numbered_name == target.name else numbered_name)
    return None


def check_free(targets: Sequence[Path], *, force: bool) -> None:
    """Raises Usage where something would be overwritten, or cannot be written."""
    for target in targets:
        if target.is_dir():
            raise Usage(f"{target} is a folder; name the file.")
        if target.exists() and not target.is_file():
            raise Usage(f"{target} is no file that could be replaced; give another name.")
        if not force and (there := _there(target)):
            raise download.already_there(there[0])


def check_inputs(order: Order) -> None:
    """Raises Usage unless the files that are to be sent can be."""
    for source in order.sources:
        if isinstance(source.where, Path):
            upload.check(source.where)


def check_possible(orders: Sequence[Order], *, force: bool) -> None:
    """See, before any work, that the inputs are there and the outputs are not. Raises Usage."""
    for order in orders:
        check_inputs(order)
    inputs = {_identity(one.where) for order in orders for one in order.sources if isinstance(one.where, Path)}
    targets = [target for order in orders for target in order.targets.values()]
    for target in targets:
        if not target.parent.is_dir():
            raise Usage(f"The folder {target.parent} is not there: make it first.")
        if target.exists() and _identity(target) in inputs:
            raise Usage(f"{target} is an input; give --output another name.")
    for folder in {target.parent for target in targets}:
        _check_writable(folder)
    check_free(targets, force=force)


def _check_writable(folder: Path) -> None:
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Usage(f"The folder {folder} cannot be written to: {error.strerror}.") from error


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _numbered(name: str) -> re.Pattern[str] | None:
    """All names that one such as thumb_%03d.jpg stands for, and the number in each."""
    number = NUMBER.search(name)
    return number and re.compile(re.escape(name[: number.start()]) + r"(\d+)" + re.escape(name[number.end() :]))


def _there(target: Path) -> list[Path]:
    """The files that have the name, or one of its names."""
    numbered = _numbered(target.name)
    if not numbered:
        return [target] if target.exists() or target.is_symlink() else []
    return [path for path in target.parent.iterdir() if numbered.fullmatch(path.name)] if target.parent.is_dir() else []


def _seen(row: Row, what: str) -> upload.Seen:
    return lambda done, total: row.moved(what, done, total)
