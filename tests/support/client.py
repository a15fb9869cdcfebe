"""The command-line client, as tests call it: in this process, or as a process of its own, on a terminal if need be."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handlers.client.api import Api
from handlers.client.signals import Stop
from support.service import PYTHONPATH

COMMAND = (sys.executable, "-P", "-m", "handlers.cli")


class NoRow:
    """Progress that nobody sees, and tests count."""

    def __init__(self) -> None:
        self.moves: list[tuple[str, int, int]] = []

    def moved(self, what: str, done: int, total: int) -> None:
        self.moves.append((what, done, total))

    def followed(self, task: dict[str, Any]) -> None:
        pass


@contextlib.contextmanager
def api(server: str, *, key: str | None = None) -> Iterator[tuple[Api, list[str]]]:
    """The service as the client has it, and what it says to the person who waits."""
    said: list[str] = []
    with Api(server, key, said.append, Stop()) as made:
        yield made, said


def environment(home: Path, **env: str) -> dict[str, str]:
    """Of somebody who has configured nothing yet."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "FFMPEG_PATH", "SANDBOX") if name in os.environ}
    return {**kept, "HOME": str(home), "PYTHONPATH": PYTHONPATH, "TERM": "xterm", "COLUMNS": "100", **env}


@dataclass
class Session:
    """The client on a terminal."""

    process: "subprocess.Popen[bytes]"
    screen: int
    shown: str = ""
    deadline: float = field(default_factory=lambda: time.monotonic() + 180)

    def until(self, seen: Callable[[str], object] | str) -> None:
        """Read what it shows until that is there."""
        while not (seen in self.shown if isinstance(seen, str) else seen(self.shown)):
            assert time.monotonic() < self.deadline, self.shown[-2000:]
            if not self._read():
                raise AssertionError(f"ended with {self.process.wait()}: {self.shown[-2000:]}")

    def press_ctrl_c(self) -> None:
        os.write(self._keyboard, b"\x03")

    @property
    def _keyboard(self) -> int:
        return self.screen

    def ended(self) -> int:
        """Its exit code."""
        while self._read():
            assert time.monotonic() < self.deadline, self.shown[-2000:]
        return self.process.wait(30)

    def _read(self) -> bool:
        try:
            piece = os.read(self.screen, 65536)
        except OSError:  # nobody holds the other end any more
            return False
        self.shown += piece.decode(errors="replace")
        return bool(piece)


@contextlib.contextmanager
def on_terminal(*arguments: str, cwd: Path, env: Mapping[str, str]) -> Iterator[Session]:
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=cwd,
        env=dict(env),
        preexec_fn=_with_terminal,
    )
    os.close(terminal)
    try:
        yield Session(process, screen)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(screen)


def _with_terminal() -> None:
    """In the child: the terminal is its own, and Ctrl-C is heard."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def called(
    *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 180, text: str = ""
) -> "subprocess.CompletedProcess[str]":
    """The client without a terminal, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=dict(env), input=text, capture_output=True, text=True, timeout=timeout
    )


def answer(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """The one JSON document that it answered with."""
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown
