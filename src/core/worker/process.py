"""Starts programs, follows them and ends them; the only place in the worker that does.

What their lines mean is for the callers. A program never outlives the call, or the worker: it runs in a process
group of its own, which is killed when the call ends, and the kernel kills it when the worker dies.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from core.worker import sandbox

TERM_GRACE_SECONDS = 5.0  # between the polite and the firm signal
TICK_SECONDS = 0.2  # how soon a request to stop is noticed
LOG_LINES = 200
LOG_LINE_BYTES = 2000
READ_BYTES = 65536
PROBER = (sys.executable, "-I", str(Path(__file__).with_name("prober.py")))


class NoUsableFfmpeg(Exception):
    """There is no ffmpeg that can be used; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended. `exit_code` is negative when a signal ended it; `log` is the end of what it said."""

    exit_code: int
    log: tuple[str, ...]
    timed_out: bool = False
    stopped: bool = False


@dataclass(slots=True)
class _Lines:
    """Splits what a pipe delivers into lines; an endless one is cut, so that memory stays bounded."""

    take: Callable[[str], None]
    rest: bytes = b""

    def feed(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in [*lines, *self._overlong()]:
            self.take(line[:LOG_LINE_BYTES].decode(errors="replace"))

    def close(self) -> None:
        self.feed(b"\n" if self.rest else b"")

    def _overlong(self) -> list[bytes]:
        if len(self.rest) <= LOG_LINE_BYTES:
            return []
        overlong, self.rest = self.rest, b""
        return [overlong]


@dataclass(slots=True)
class _Ladder:
    """Decides when a program must end, and how firmly it is told."""

    deadline: float
    stop: Event
    grace_seconds: float
    asked_at: float | None = None
    timed_out: bool = False
    stopped: bool = False

    def signal_due(self, now: float) -> signal.Signals | None:
        if self.asked_at is not None:
            return signal.SIGKILL if now >= self.asked_at + self.grace_seconds else None
        self.stopped = self.stop.is_set()
        self.timed_out = not self.stopped and now >= self.deadline
        if self.stopped or self.timed_out:
            self.asked_at = now
            return signal.SIGTERM
        return None


def run(
    arguments: Callable[[int], Sequence[str]],
    *,
    cwd: Path,
    env: Mapping[str, str],
    on_line: Callable[[str], None],
    stop: Event,
    timeout_seconds: float,
    grace_seconds: float = TERM_GRACE_SECONDS,
) -> Ended:
    """Run a program to its end. `arguments` makes its command line, given a descriptor to which it may write lines.

    Each such line goes to `on_line`; stderr is kept as the log. When `stop` is set or the time is over, the whole
    process group is told to end, and killed `grace_seconds` later. Raises OSError when it cannot be started.
    """
    log: deque[str] = deque(maxlen=LOG_LINES)
    ladder = _Ladder(deadline=time.monotonic() + timeout_seconds, stop=stop, grace_seconds=grace_seconds)
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as lines_pipe:
        try:
            process = _started(arguments(write_end), cwd=cwd, env=env, keep=(write_end,))
        finally:
            os.close(write_end)
        assert process.stderr is not None
        with _ended_at_last(process), process.stderr as log_pipe:
            readers = {lines_pipe.fileno(): _Lines(on_line), log_pipe.fileno(): _Lines(log.append)}
            _follow(process, readers, ladder)
            exit_code = process.wait()
    return Ended(exit_code=exit_code, log=tuple(log), timed_out=ladder.timed_out, stopped=ladder.stopped)


def _started(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], keep: tuple[int, ...] = ()
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - an argument list that build.py made; never a shell
        sandbox.wrapped(argv),
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=keep,
        start_new_session=True,
        bufsize=0,
    )


def _follow(process: "subprocess.Popen[bytes]", readers: Mapping[int, _Lines], ladder: _Ladder) -> None:
    with selectors.DefaultSelector() as selector:
        for descriptor in readers:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(TICK_SECONDS)
            if not ready and process.poll() is not None:
                break  # a pipe still open is held by something that it left behind
            for key, _ in ready:
                data = os.read(key.fd, READ_BYTES)
                if data:
                    readers[key.fd].feed(data)
                else:
                    selector.unregister(key.fd)
            due = ladder.signal_due(time.monotonic())
            if due:
                _signal_group(process, due)
    for lines in readers.values():
        lines.close()


@contextlib.contextmanager
def _ended_at_last(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@dataclass(slots=True)
class Conversation:
    """A program that answers each line it is sent with one line; started at once, so that it can get ready."""

    argv: Sequence[str]
    env: Mapping[str, str]
    process: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own module under our own interpreter
            sandbox.wrapped(self.argv),
            env=dict(self.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )

    def ask(self, line: str, *, timeout_seconds: float) -> str | None:
        """The answer; None when there is none in time or the program is gone, and then there never will be."""
        assert self.process.stdin is not None
        if self.process.stdin.closed:
            return None
        with contextlib.suppress(OSError):
            self.process.stdin.write(line.encode() + b"\n")
            answer = self._line_within(timeout_seconds)
            if answer is not None:
                return answer.decode(errors="replace")
        self.close()
        return None

    def close(self) -> None:
        _signal_group(self.process, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _line_within(self, seconds: float) -> bytes | None:
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        data = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not data.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                part = os.read(self.process.stdout.fileno(), READ_BYTES)
                if not part:
                    return None
                data += part
        return data


def find_ffmpeg(configured: str | None) -> str:
    """The path of ffmpeg: the configured one, else the static build of the imageio-ffmpeg wheel."""
    if configured:
        return configured
    try:
        from imageio_ffmpeg import binaries
    except ImportError:
        raise NoUsableFfmpeg("There is no ffmpeg: install imageio-ffmpeg, or set FFMPEG_PATH to one.") from None
    # Its own look-up runs the program once to see that it works; we only need to know where it is.
    found = sorted(Path(binaries.__path__[0]).glob("ffmpeg-*"))
    if not found:
        raise NoUsableFfmpeg("The imageio-ffmpeg package has no program for this machine; set FFMPEG_PATH to one.")
    return str(found[-1])


def ffmpeg_version(path: str) -> str:
    """What `ffmpeg -version` says of itself. Raises NoUsableFfmpeg."""
    advice = "set FFMPEG_PATH to an ffmpeg that runs on this machine"
    try:
        done = subprocess.run([path, "-version"], capture_output=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise NoUsableFfmpeg(f"{path} does not run ({error}); {advice}.") from error
    words = done.stdout.decode(errors="replace").split()
    if words[:2] != ["ffmpeg", "version"]:
        raise NoUsableFfmpeg(f"{path} does not answer as ffmpeg does; {advice}.")
    return words[2].removeprefix("n")
