"""The cases of a crash, on one machine and on AWS: what a task is to be after each point, and after what mends it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core import aftermath, moves
from core.ports import Services, TaskStore
from core.register import Registration
from core.task import Ending, Notice, NoticeStatus, Status, Task
from support import crashing, footage, leftovers, service
from support.builders import task_in
from support.source_server import SourceServer, serving

AT_ONCE = 3
CLIP = "clip.mp4"
COMMAND = "-i in.mp4 -map 0:v -c:v libx264 a.mp4 -map 0:v -c copy b.mkv"
# Of the source that its first reader gets without an end.
STRETCH = "-i in.mp4 -map 0:v -vf fps=240 -c:v libx264 -preset ultrafast a.mp4 -map 0:v -c copy b.mkv"
# The second output is so large that S3 gets it in parts.
LARGE = "-i in.mp4 -map 0:v -c copy a.mp4 -map 0:v -vf scale=1280:720 -c:v rawvideo -pix_fmt yuv420p b.mkv"
OUTPUTS = ("a.mp4", "b.mkv")
SOON = timedelta(minutes=2)  # when leases are over, and what was not handed over is due
EVER = datetime.max.replace(tzinfo=UTC)
MUCH_LATER = timedelta(hours=1)  # when what was not published is deleted
BY_THE_API = ("registered", "queued", "submitted")
BY_THE_WORKER = (
    "before the claim",
    "claimed",
    "downloading",
    "downloaded",
    "transcoding",
    "transcoded",
    "uploading",
    "uploaded",
    "completed",
)
POINTS = (*BY_THE_API, *BY_THE_WORKER, "canceled", "lost")
# What became of each claim, after the crash and what mended it.
ENDINGS: Mapping[str, tuple[Ending, ...]] = {
    **dict.fromkeys(BY_THE_API, (Ending.COMPLETED,)),
    **dict.fromkeys(BY_THE_WORKER, (Ending.LOST, Ending.COMPLETED)),
    "sending a part": (Ending.LOST, Ending.COMPLETED),
    "before the claim": (Ending.COMPLETED,),
    "completed": (Ending.COMPLETED,),
    "canceled": (Ending.CANCELED,),
    "lost": (Ending.LOST, Ending.COMPLETED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What there is after the crash, and after everything that is to mend it."""

    reached: list[str]
    task: Task
    later: Task  # after another round of all sweeps
    objects: list[str]
    processes: dict[int, str]
    scratch: list[str]
    uploads: list[str] = field(default_factory=list)  # multipart, unfinished
    logs: list[str] | None = None  # None: not looked for


def check(result: Result, point: str) -> None:
    task = result.task
    by_themselves = {"lost": ["claimed", "lost"], "downloading": [], "sending a part": []}
    assert result.reached == by_themselves.get(point, [point])
    assert tuple(attempt.ending for attempt in task.attempts) == ENDINGS[point], task.attempts
    wanted = Status.CANCELED if point == "canceled" else Status.COMPLETED
    assert task.status is wanted, task.error
    published = [f"outputs/{task.task_id}/{task.fence}/{name}" for name in OUTPUTS]
    assert [output.key for output in task.outputs] == (published if wanted is Status.COMPLETED else [])
    assert result.objects == [output.key for output in task.outputs]
    if result.logs is not None and wanted is Status.COMPLETED:
        assert f"outputs/logs/{task.task_id}/{task.fence}.log" in result.logs
    assert replace(result.later, version=task.version, tidy_due_at=task.tidy_due_at) == task
    assert (result.processes, result.scratch, result.uploads) == ({}, [], [])


def check_notice(told: list[str], before: Task, after: Task) -> None:
    """Marked as tried, never sent; then sent once."""
    (marked,), (notice,) = before.notices, after.notices
    assert (marked.status, marked.tries) == (NoticeStatus.PENDING, 1)
    assert (notice.status, notice.tries, told) == (NoticeStatus.DELIVERED, 2, [after.task_id])


class Told(list[str]):
    """A channel that remembers whom it told."""

    def deliver(self, task: Task) -> None:
        self.append(task.task_id)


@contextlib.contextmanager
def serving_a_clip(folder: Path) -> Iterator[SourceServer]:
    """A source with a clip that takes no time to transcode."""
    footage.run("-i", str(footage.CLIP), "-t", "1", "-an", "-vf", "scale=160:90", str(folder / CLIP))
    footage.endless(folder / "endless.mp4")
    with serving(folder) as server:
        yield server


def registration(source: SourceServer, point: str) -> Registration:
    """What is to be met on its way stays there for the first who comes to it."""
    sources = {"downloading": f"held/{CLIP}", "canceled": f"held/{CLIP}", "transcoding": f"turns/endless.mp4/{CLIP}"}
    path = f"{sources.get(point, f'media/{CLIP}')}?{point.replace(' ', '-')}"
    command = {"sending a part": LARGE, "transcoding": STRETCH}.get(point, COMMAND)
    return Registration(command=command, input_files={"in.mp4": f"{source.url}/{path}"}, output_files=OUTPUTS)


def crash(folder: Path, points: Sequence[str]) -> dict[str, str]:
    (folder / "reached").mkdir(parents=True, exist_ok=True)
    known = [point for point in points if point in crashing.POINTS]
    return {"CRASH_AT": ",".join(known), "CRASH_FOLDER": str(folder / "reached"), "PYTHONPATH": service.PYTHONPATH}


def wait_until_downloading(store: TaskStore, source: SourceServer, task_id: str, url: str) -> int:
    """The id of the worker that holds the task and has begun to fetch its input."""
    path = url.removeprefix(source.url)
    leftovers.seconds_until(lambda: source.asked[path] and store.get(task_id).owner, most=60)
    return int(str(store.get(task_id).owner).rpartition(":")[2])


def noticed(services: Services, env: Mapping[str, str], folder: Path) -> tuple[list[str], Task, Task]:
    """Whom the second sweep told of an ended task, after a first one that died before it did; the task in between,
    and then."""
    ended = moves.cancel(task_in(Status.QUEUED, notices=(Notice(channel="webhook"),)), now=datetime.now(UTC))
    task = services.store.create(ended)
    program = [sys.executable, "-m", "support.crashing", "sweep", "1"]
    died = subprocess.run(program, env={**os.environ, **env, **crash(folder, ["noticing"])}, timeout=120, check=False)
    assert (died.returncode, crashing.reached(folder / "reached")) == (-signal.SIGKILL, ["noticing"])
    told = Told()
    told_services = replace(services, channels={"webhook": told})
    before = services.store.get(task.task_id)
    aftermath.sweep(told_services, now=datetime.now(UTC) + MUCH_LATER)
    return told, before, services.store.get(task.task_id)
