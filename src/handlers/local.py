"""The service on one machine: the API, the links to outputs and the pool of workers, in one process tree.

`python -m handlers.local`, with settings from the environment and from `.env` where there is one. One service at a
time may use a data folder: it is what makes sure, at start, that a task marked as running has no worker.
"""

import fcntl
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import IO

import uvicorn
from dotenv import dotenv_values

from core import aftermath, presets, sweep, sweep_batches, uploads, wiring, workers
from core.ffmpeg.preset import PresetInvalid
from core.live_settings import LiveSettings
from core.local.dispatcher import LocalDispatcher
from core.ports import Services
from core.settings import Settings, SettingsInvalid
from core.worker import process, sandbox, scratch
from handlers import logs
from handlers.notifying import with_channels
from handlers.web.app import create_app
from handlers.web.log_keys import LogKeys
from handlers.web.metrics import Metrics

log = logging.getLogger(__name__)

LISTEN_BACKLOG = 2048
SWEEP_SECONDS = 10.0
AFTERMATH_SECONDS = 1.0
FOLLOW_SECONDS = 1.0


class CannotStart(Exception):
    """The service cannot start; the message says what to do."""


def main(env: Mapping[str, str]) -> int:
    try:
        _serve(env)
    except (SettingsInvalid, PresetInvalid, process.NoUsableFfmpeg, sandbox.NoSandbox, CannotStart) as fault:
        sys.stderr.write(f"The service cannot start: {fault}\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _serve(env: Mapping[str, str]) -> None:
    settings = Settings.from_env(env)
    if settings.backend != "local":
        raise CannotStart("this is the service for one machine; unset BACKEND, or set it to local.")
    if settings.lets_strangers_in:
        raise CannotStart(
            f"HOST={settings.host!r}: anybody who reaches this address could use the service; set API_KEYS, listen on "
            "127.0.0.1, or set ALLOW_UNAUTHENTICATED=true."
        )
    _check_presets(settings)
    ffmpeg = process.find_ffmpeg(settings.ffmpeg_path)
    with process.canary(settings.scratch) as found:
        version = process.ffmpeg_version(ffmpeg)
        layers = found()
    containment = sandbox.admitted(layers, settings.sandbox)
    logs.configure(settings.log_level).addFilter(LogKeys())
    log.log(logging.INFO if layers.complete else logging.WARNING, containment, extra={"action": "sandbox"})
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with _alone(settings), closing(_listening(settings)) as listener:
        port = listener.getsockname()[1]
        settings = replace(wiring.signing(settings), port=port, ffmpeg_path=ffmpeg)
        env = {**env, "SANDBOX_LAYERS": layers.spelled()}
        _run(settings, env, listener, ffmpeg_version=version, containment=containment)


def _check_presets(settings: Settings) -> None:
    """Raise PresetInvalid, or CannotStart, where those of the settings cannot be used."""
    there, default = presets.shelf(settings.presets_folder), settings.default_preset
    if default and default not in there:
        raise CannotStart(f"DEFAULT_PRESET={default!r}: there is no such preset; set one of {', '.join(there)}.")


def _run(
    settings: Settings, env: Mapping[str, str], listener: socket.socket, *, ffmpeg_version: str, containment: str
) -> None:
    services, pool, open_link, machine, take_part, lists = wiring.local(settings, env)
    live = LiveSettings(services.records, settings)
    app = create_app(
        services,
        settings,
        ffmpeg_version=ffmpeg_version,
        sandbox=containment,
        open_link=open_link,
        live=live,
        machine=machine,
        metrics=Metrics(services, machine=machine, clock=lambda: datetime.now(UTC)),
        take_part=take_part,
    )
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    scratch.clear(settings.scratch)
    sweep.reconcile(services, now=datetime.now(UTC))
    sweep_batches.reconcile_batches(services, now=datetime.now(UTC))
    sweep_batches.clear_lists(services, lists())  # as long as nobody can register another one
    signal.signal(signal.SIGTERM, _interrupt)
    _follow(pool, live)
    closing_down = threading.Event()
    threads: list[threading.Thread] = []
    try:
        pool.start()
        noticing = with_channels(services, settings)
        threads = _looking_after(noticing, settings, closing_down, follow=partial(_follow, pool, live))
        _announce(settings)
        server.run([listener])
    finally:
        closing_down.set()
        pool.close()
        for thread in threads:
            thread.join()


def _follow(pool: LocalDispatcher, live: LiveSettings) -> None:
    """Let the pool have as many workers as the settings say now."""
    pool.resize(live.current(now=datetime.now(UTC)).max_concurrent_tasks)


def _looking_after(
    services: Services, settings: Settings, closing_down: threading.Event, *, follow: Callable[[], None]
) -> list[threading.Thread]:
    """See to it that tasks go on, and to what is left to do for those that have ended: in a thread each, so that a
    slow receiver of notices holds up no recovery."""

    def recover() -> None:
        sweep_batches.sweep_batches(services, now=datetime.now(UTC))
        sweep.sweep(services, now=datetime.now(UTC))
        workers.sweep(services.records, now=datetime.now(UTC))
        scratch.clear(settings.scratch)

    def follow_up() -> None:
        aftermath.sweep(services, now=datetime.now(UTC), stopped=closing_down.is_set)

    def clear_uploads() -> None:
        uploads.sweep(services, now=datetime.now(UTC), stopped=closing_down.is_set)

    threads = [
        threading.Thread(target=_repeat, args=(act, seconds, closing_down), name=name)
        for name, act, seconds in (
            ("recover", recover, SWEEP_SECONDS),
            ("follow_up", follow_up, AFTERMATH_SECONDS),
            ("follow", follow, FOLLOW_SECONDS),
            ("clear_uploads", clear_uploads, SWEEP_SECONDS),
        )
    ]
    for thread in threads:
        thread.start()
    return threads


def _repeat(act: Callable[[], None], seconds: float, closing_down: threading.Event) -> None:
    while not closing_down.wait(seconds):
        try:
            act()
        except Exception:
            log.exception("not looked after", extra={"action": "sweep_failed"})


def _alone(settings: Settings) -> IO[bytes]:
    """Hold the data folder, as a context, for as long as this process lives. Raises CannotStart."""
    lock = (settings.data_dir / "service.lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise CannotStart(
            f"another service uses the folder {settings.data_dir}; stop it, or set DATA_DIR to another folder."
        ) from None
    return lock


def _listening(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named as TCP, or asyncio would not switch off Nagle's delay, which costs each answer 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotStart(
            f"it cannot listen on {settings.host}:{settings.port} ({error.strerror}); set PORT, or HOST, to another."
        ) from error
    return listener


def _announce(settings: Settings) -> None:
    base = settings.base_url
    sys.stdout.write(f"Serving on {base} - docs at {base}/docs - Ctrl-C ends it\n")
    sys.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    dotenv = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    sys.exit(main({**dotenv, **os.environ}))
