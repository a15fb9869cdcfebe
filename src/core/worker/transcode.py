"""One run of ffmpeg for a task: started in its containment, followed, held to its limits, judged by how it ended."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event

from core.ffmpeg import build, failure, progress
from core.ffmpeg.command import Command
from core.settings import Settings
from core.task import FailureCode, Media, Progress
from core.worker import process, sandbox, watch
from core.worker.failed import Stopped, TaskFailed
from core.worker.journal import Journal
from core.worker.process import Cut
from core.worker.sandbox import Folder

log = logging.getLogger(__name__)

# What ffmpeg may still write behind an output that has come to its most bytes: an index, and what is in its queues.
MAX_INDEX_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcode:
    """A run of ffmpeg to be: `inputs` has the local name of each input, `media` what is known of them."""

    command: Command
    inputs: Mapping[str, str]
    media: Mapping[str, Media]
    folder: Folder
    ffmpeg: str
    layers: sandbox.Layers
    settings: Settings
    log_level: build.LogLevel = "warning"
    timeout_seconds: int | None = None  # what the task allows itself, within what the settings do

    @property
    def most_seconds(self) -> int:
        most = self.settings.task_timeout_seconds
        return min(self.timeout_seconds or most, most)


def run(
    wanted: Transcode, *, on_progress: Callable[[Progress], None], journal: Journal, stop: Event
) -> tuple[str, ...]:
    """Run ffmpeg to its end; gives what it said. Raises TaskFailed with why there is no result, or Stopped."""
    command, folder, settings = wanted.command, wanted.folder, wanted.settings
    paths = {name: f"../{folder.inputs.name}/{local}" for name, local in wanted.inputs.items()}
    meter = progress.Meter(progress.expected(command, wanted.media))
    furthest = Progress()

    def follow(line: str) -> bool:
        nonlocal furthest
        news = meter.feed(line)
        if news is None:
            return False
        on_progress(news)
        advanced = (news.frame, news.out_time_seconds) != (furthest.frame, furthest.out_time_seconds)
        furthest = news
        return advanced

    try:
        ended = process.run(
            lambda pipe: [wanted.ffmpeg, *_arguments(wanted, inputs=paths, pipe=pipe)],
            rules=sandbox.for_ffmpeg(
                wanted.layers, wanted.ffmpeg, folder, max_file_bytes=settings.max_output_bytes + MAX_INDEX_BYTES
            ),
            cwd=folder.outputs,
            env=sandbox.environment(home=str(folder.temporary)),
            on_line=follow,
            stop=stop,
            limits=_limits(wanted),
        )
    except process.NotStarted as fault:
        log.error("ffmpeg was not started: %s", fault, extra={"action": "not_started"})
        raise TaskFailed.of(
            FailureCode.INTERNAL_ERROR, "ffmpeg could not be started; the worker's log says why."
        ) from fault
    shown = {path: name for name, path in paths.items()}
    lines = (failure.scrub(line, shown) for line in ended.log)
    cut = f" ({ended.cut.value.replace('_', ' ')})" if ended.cut else ""
    journal.add(f"$ ffmpeg {command.text}", *lines, f"ffmpeg ended with exit code {ended.exit_code}{cut}.")
    if ended.cut is Cut.STOPPED:
        raise Stopped
    if ended.cut:
        raise _cut_short(ended.cut, wanted)
    if ended.exit_code != 0:
        raise TaskFailed(failure.explain(exit_code=ended.exit_code, log=ended.log, names=shown))
    _refuse_cut_off(folder, settings)
    return ended.log


def _arguments(wanted: Transcode, *, inputs: Mapping[str, str], pipe: int) -> tuple[str, ...]:
    most = wanted.settings.max_output_bytes
    return build.build(
        wanted.command, inputs=inputs, progress_fd=pipe, max_output_bytes=most, log_level=wanted.log_level
    )


def _refuse_cut_off(folder: Folder, settings: Settings) -> None:
    """At the most bytes of an output ffmpeg ends it and calls that a success; half a result is none."""
    for path in folder.outputs.rglob("*"):
        if path.lstat().st_size >= settings.max_output_bytes:
            raise TaskFailed.of(
                FailureCode.TRANSCODE_FAILED,
                f"{path.name} came to {settings.max_output_bytes} bytes, the most that an output may have, and was "
                "cut off there. Ask for a shorter or smaller output.",
                details={"output": path.name},
            )


def _limits(wanted: Transcode) -> process.Limits:
    settings, folder = wanted.settings, wanted.folder
    return process.Limits(
        seconds=wanted.most_seconds,
        stall_seconds=settings.stall_seconds,
        memory_bytes=_memory_bytes(settings),
        folder_bytes=settings.max_task_bytes,
        folders=(folder.outputs, folder.temporary),
    )


def _memory_bytes(settings: Settings) -> int:
    """Nine tenths of what there is, unless told otherwise: before the kernel ends somebody, we end ffmpeg."""
    return settings.max_memory_bytes or watch.machine_bytes() * 9 // 10


def _cut_short(cut: Cut, wanted: Transcode) -> TaskFailed:
    settings = wanted.settings
    code, message = {
        Cut.TIMED_OUT: (
            FailureCode.TIMED_OUT,
            f"ffmpeg was ended after {wanted.most_seconds} s, the most that the task may take.",
        ),
        Cut.STALLED: (
            FailureCode.TIMED_OUT,
            f"ffmpeg was ended because for {settings.stall_seconds} s it neither advanced nor read anything.",
        ),
        Cut.OUT_OF_MEMORY: (
            FailureCode.OUT_OF_MEMORY,
            f"ffmpeg was ended because it used more than {_memory_bytes(settings)} bytes of memory. Ask for smaller "
            "frames, fewer outputs at once, or a faster preset.",
        ),
        # Not DISK_FULL, which is about the machine and worth another try.
        Cut.TOO_LARGE: (
            FailureCode.TRANSCODE_FAILED,
            f"ffmpeg was ended because its files took more than {settings.max_task_bytes} bytes, the most that a "
            "task may write. Ask for a shorter or smaller output.",
        ),
    }[cut]
    return TaskFailed.of(code, message, retryable=False)
