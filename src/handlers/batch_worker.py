"""The container's main, and the local pool's: one task, named by TASK_ID, then an exit code.

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
from datetime import UTC, datetime
from threading import Event
from types import FrameType

from core.settings import Settings, SettingsInvalid
from core.worker import kernel, process, sandbox

log = logging.getLogger(__name__)

STOP_SECONDS = 20.0  # AWS Batch kills what is still there after 30

EXIT_RECORDED = 0
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL: another worker may well succeed
EXIT_MISCONFIGURED = 78  # EX_CONFIG: no worker with these settings ever will


def main(env: Mapping[str, str]) -> int:
    try:
        settings = Settings.from_env(env)
        task_id = env["TASK_ID"]
        ffmpeg = process.find_ffmpeg(settings.ffmpeg_path)
    except (SettingsInvalid, process.NoUsableFfmpeg) as fault:
        return _misconfigured(str(fault))
    except KeyError:
        return _misconfigured("TASK_ID is not set; it names the task to work on.")
    stop = _stopping(env)
    try:
        # Started before our own imports, which take as long as its own: they run side by side.
        with closing(process.start_prober()) as prober, _layers(settings, env) as layers:
            return _work(settings, env, task_id=task_id, ffmpeg=ffmpeg, prober=prober, layers=layers, stop=stop)
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
    task_id: str,
    ffmpeg: str,
    prober: process.Conversation,
    layers: Callable[[], sandbox.Layers],
    stop: Event,
) -> int:
    from core import wiring
    from core.worker import gpu, job
    from core.worker.usage import Meter
    from handlers import logs

    logs.configure(settings.log_level, task_id=task_id, correlation_id=env.get("CORRELATION_ID"))
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
        job_id=env.get("AWS_BATCH_JOB_ID") or env.get("JOB_ID"),
        report_every_seconds=5.0 if settings.backend == "aws" else 2.0,
        measure=Meter(lambda: gpu.use(process.nvidia_smi()) if cards else ()).read,
    )
    try:
        return exit_codes[job.run(worker, task_id)]
    except Exception:
        log.exception("the task could not be worked on", extra={"action": "worker_failed"})
        return EXIT_TRY_AGAIN


def _stopping(env: Mapping[str, str]) -> Event:
    """Set on SIGTERM and SIGINT, and on the end of the local service that started us."""
    stop = Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    threading.Thread(target=_leave_at_last, args=(stop,), daemon=True).start()
    if env.get("PARENT_PID"):
        kernel.die_with(int(env["PARENT_PID"]), with_signal=signal.SIGTERM)
    return stop


def _leave_at_last(stop: Event) -> None:
    """Leave, whatever it is that we still wait for: the kernel ends our children, others clear the disk."""
    stop.wait()
    time.sleep(STOP_SECONDS)
    log.error("left without having finished", extra={"action": "left"})
    os._exit(EXIT_TRY_AGAIN)


def _misconfigured(fault: str) -> int:
    sys.stderr.write(f"The worker cannot start: {fault}\n")
    return EXIT_MISCONFIGURED


if __name__ == "__main__":
    sys.exit(main(os.environ))
