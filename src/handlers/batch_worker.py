"""The container's main, and the local pool's: one task, named by TASK_ID, or a slice of a batch, then an exit code.

An outcome that was recorded in the task exits with 0, also a failed transcode: running it again would not help. What
exits otherwise is trouble of ours, for which AWS Batch's job definition and the local pool start another worker.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from types import FrameType

from core.batch import slice_job
from core.settings import Settings, SettingsInvalid
from core.worker import kernel, process, sandbox

log = logging.getLogger(__name__)

STOP_SECONDS = 20.0  # AWS Batch kills what is still there after 30

EXIT_RECORDED = 0
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL: another worker may well succeed
EXIT_MISCONFIGURED = 78  # EX_CONFIG: no worker with these settings ever will


class NothingAsked(Exception):
    """Neither TASK_ID nor BATCH_ID is set; one names the task to work on, the other the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What this worker is for: a task, or a slice of a batch, whose number AWS Batch tells by the child of the job."""

    task_id: str = ""
    batch_id: str | None = None
    slice: int = 0
    job_id: str | None = None

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Asked":
        job_id = env.get("AWS_BATCH_JOB_ID") or env.get("JOB_ID")
        if task_id := env.get("TASK_ID"):
            return cls(task_id=task_id, job_id=job_id)
        if batch_id := env.get("BATCH_ID"):
            number = int(env.get("AWS_BATCH_JOB_ARRAY_INDEX") or env.get("SLICE") or 0)
            return cls(batch_id=batch_id, slice=number, job_id=job_id and slice_job(job_id, number))
        raise NothingAsked(NothingAsked.__doc__)


def main(env: Mapping[str, str]) -> int:
    try:
        settings = Settings.from_env(env)
        asked = Asked.of(env)
        ffmpeg = process.find_ffmpeg(settings.ffmpeg_path)
    except (SettingsInvalid, NothingAsked, process.NoUsableFfmpeg) as fault:
        return _misconfigured(str(fault))
    stop = stopping(env)
    try:
        # Started before our own imports, which take as long as its own: they run side by side.
        with closing(process.start_prober()) as prober, _layers(settings, env) as layers:
            return _work(settings, env, asked=asked, ffmpeg=ffmpeg, prober=prober, layers=layers, stop=stop)
    except sandbox.NoSandbox as fault:
        return _misconfigured(str(fault))


def _layers(settings: Settings, env: Mapping[str, str]) -> AbstractContextManager[Callable[[], sandbox.Layers]]:
    """What contains ffmpeg here: as the local service has found, else as our own canary will."""
    known = env.get("SANDBOX_LAYERS")
    return nullcontext(lambda: sandbox.Layers.read(known)) if known else process.canary(settings.scratch)


def _work(
    settings: Settings,
    env: Mapping[str, str],
    *,
    asked: Asked,
    ffmpeg: str,
    prober: process.Conversation,
    layers: Callable[[], sandbox.Layers],
    stop: Event,
) -> int:
    # httpx brings its own command line along where rich is installed: a fifth of all that is imported here.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from core import wiring
    from core.worker import gpu, job, slices
    from core.worker.usage import Meter
    from handlers import logs

    keys = {"task_id": asked.task_id, "batch_id": asked.batch_id, "correlation_id": env.get("CORRELATION_ID")}
    handler = logs.configure(settings.log_level, **keys)
    services = wiring.services(settings, env)
    found = layers()
    containment = sandbox.admitted(found, settings.sandbox)
    log.log(logging.INFO if found.complete else logging.WARNING, containment, extra={"action": "sandbox"})
    exit_codes = {
        job.Outcome.RECORDED: EXIT_RECORDED,
        job.Outcome.NOT_OURS: EXIT_RECORDED,
        job.Outcome.GIVEN_UP: EXIT_TRY_AGAIN,
    }
    cards = gpu.cards()
    worker = job.Worker(
        services=services,
        settings=settings,
        ffmpeg=ffmpeg,
        prober=prober,
        layers=found,
        stop=stop,
        now=lambda: datetime.now(UTC),
        cards=cards,
        job_id=asked.job_id,
        report_every_seconds=5.0 if settings.backend == "aws" else 2.0,
        measure=Meter(lambda: gpu.use(process.nvidia_smi()) if cards else ()).read,
    )
    try:
        if asked.batch_id is None:
            return exit_codes[job.run(worker, asked.task_id)]

        def on_task(task_id: str) -> None:
            handler.setFormatter(logs.formatter(**{**keys, "task_id": task_id}))

        return exit_codes[slices.run(worker, asked.batch_id, asked.slice, on_task=on_task)]
    except Exception:
        log.exception("the task could not be worked on", extra={"action": "worker_failed"})
        return EXIT_TRY_AGAIN


def stopping(env: Mapping[str, str]) -> Event:
    """Set soon after SIGTERM or SIGINT, and after the end of the local service that started us."""
    stop = Event()
    told, teller = os.pipe()
    os.set_blocking(teller, False)
    # Of a signal a byte is written, at once and by whichever thread the kernel chose; a thread sets the event. A
    # handler in Python may not: it runs between two steps of the main thread, and can wait for what that one holds.
    signal.set_wakeup_fd(teller, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _heard)
    signal.signal(signal.SIGINT, _heard)
    threading.Thread(target=_end, args=(told, stop), daemon=True).start()
    if env.get("PARENT_PID"):
        kernel.die_with(int(env["PARENT_PID"]), with_signal=signal.SIGTERM)
    return stop


def _heard(number: int, frame: FrameType | None) -> None:
    """Takes the place of the signal's own effect."""


def _end(told: int, stop: Event) -> None:
    """Set `stop` when told, and leave at last, whatever we still wait for: the kernel ends our children, others clear
    the disk."""
    os.read(told, 1)
    stop.set()
    time.sleep(STOP_SECONDS)
    log.error("left without having finished", extra={"action": "left"})
    os._exit(EXIT_TRY_AGAIN)


def _misconfigured(fault: str) -> int:
    sys.stderr.write(f"The worker cannot start: {fault}\n")
    return EXIT_MISCONFIGURED


if __name__ == "__main__":
    sys.exit(main(os.environ))
