"""Starts programs, follows them and ends them; the only place in the worker that does.

What their lines mean is for the callers. A program never outlives the call, or the worker: it runs in a process
group of its own, which is killed when the call ends, and the kernel kills it when the worker dies.
"""

import contextlib
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from threading import Event
from typing import IO

from core.ffmpeg import encoders
from core.worker import gpu, sandbox, scratch
from core.worker.watch import Watch

TERM_GRACE_SECONDS = 5.0  # between the polite and the firm signal
TICK_SECONDS = 0.2  # how soon a request to stop is noticed
LOG_LINES = 200
LOG_LINE_BYTES = 2000
READ_BYTES = 65536
CANARY_SECONDS = 20.0
_ADVICE = "set FFMPEG_PATH to an ffmpeg that runs on this machine"


class NoUsableFfmpeg(Exception):
    """There is no ffmpeg that can be used; the message says what to do."""


class NotStarted(Exception):
    """The program was not started: it is not there, or a layer of its sandbox could not be had."""


class Cut(Enum):
    """Why a program was ended before it ended by itself."""

    STOPPED = "stopped"  # the worker is to end
    TIMED_OUT = "timed_out"
    STALLED = "stalled"
    OUT_OF_MEMORY = "out_of_memory"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use. `folders` are those whose files together may have `folder_bytes`."""

    seconds: float
    stall_seconds: float = math.inf  # without a line that says something new, and without reading anything
    memory_bytes: float = math.inf  # resident, of all processes in its group
    folder_bytes: float = math.inf
    folders: Sequence[Path] = ()
    grace_seconds: float = TERM_GRACE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended. `exit_code` is negative when a signal ended it; `log` is the end of what it said."""

    exit_code: int
    log: tuple[str, ...]
    cut: Cut | None = None


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

    watch: Watch
    stop: Event
    limits: Limits
    deadline: float
    asked_at: float | None = None
    cut: Cut | None = None

    def signal_due(self, now: float) -> signal.Signals | None:
        if self.asked_at is not None:
            return signal.SIGKILL if now >= self.asked_at + self.limits.grace_seconds else None
        self.cut = self._cut(now)
        if self.cut is None:
            return None
        self.asked_at = now
        # What eats memory goes on doing so while it is asked to end.
        return signal.SIGKILL if self.cut is Cut.OUT_OF_MEMORY else signal.SIGTERM

    def _cut(self, now: float) -> Cut | None:
        if self.stop.is_set():
            return Cut.STOPPED
        if now >= self.deadline:
            return Cut.TIMED_OUT
        if self.watch.memory_bytes(now) > self.limits.memory_bytes:
            return Cut.OUT_OF_MEMORY
        if self.watch.folder_bytes(now) > self.limits.folder_bytes:
            return Cut.TOO_LARGE
        if self.watch.idle_seconds(now) >= self.limits.stall_seconds:
            return Cut.STALLED
        return None


def run(
    arguments: Callable[[int], Sequence[str]],
    *,
    rules: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    on_line: Callable[[str], bool],
    stop: Event,
    limits: Limits,
) -> Ended:
    """Run a program under the sandbox's `rules` to its end.

    `arguments` makes its command line, given a descriptor to which it may write lines. Each such line goes to
    `on_line`, which answers whether it tells of an advance; stderr is kept as the log. When `stop` is set or a limit
    is reached, the whole process group is told to end, and killed `grace_seconds` later. Raises NotStarted, and
    OSError where not even the launcher could be.
    """
    log: deque[str] = deque(maxlen=LOG_LINES)
    faults: list[str] = []
    with _pipe() as (lines_pipe, lines_end), _pipe() as (fault_pipe, fault_end):
        argv = sandbox.wrapped(arguments(lines_end.fileno()), rules, fault=fault_end.fileno())
        process = _started(argv, cwd=cwd, env=env, keep=(lines_end.fileno(), fault_end.fileno()))
        lines_end.close()
        fault_end.close()
        assert process.stderr is not None
        began = time.monotonic()
        watch = Watch(process.pid, limits.folders, active_at=began)
        ladder = _Ladder(watch, stop, limits, deadline=began + limits.seconds)

        def take(line: str) -> None:
            if on_line(line):
                watch.active_at = time.monotonic()

        with _ended_at_last(process), process.stderr as log_pipe:
            readers = {
                lines_pipe.fileno(): _Lines(take),
                fault_pipe.fileno(): _Lines(faults.append),
                log_pipe.fileno(): _Lines(log.append),
            }
            _follow(process, readers, ladder)
            exit_code = process.wait()
    if faults:
        raise NotStarted("; ".join(faults))
    return Ended(exit_code=exit_code, log=tuple(log), cut=ladder.cut)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as reading, os.fdopen(write_end, "wb", buffering=0) as writing:
        yield reading, writing


def _started(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], keep: tuple[int, ...]
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - an argument list that build.py made; never a shell
        argv,
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
            ended = process.poll() is not None  # asked before, so that what it said at its very end is there to be read
            ready = selector.select(TICK_SECONDS)
            if ended and not ready:
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
            self.argv,
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
        if self.closed:
            return None
        with contextlib.suppress(OSError):
            self.process.stdin.write(line.encode() + b"\n")
            answer = self._line_within(timeout_seconds)
            if answer is not None:
                return answer.decode(errors="replace")
        self.close()
        return None

    @property
    def closed(self) -> bool:
        assert self.process.stdin is not None
        return self.process.stdin.closed

    def close(self) -> None:
        if self.process.returncode is None:
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


def start_prober() -> Conversation:
    """The prober: for each folder that it is told of, a process of it takes on the sandbox."""
    argv = [sys.executable, "-I", str(Path(__file__).with_name("prober.py")), str(os.getpid())]
    return Conversation(argv, sandbox.environment(home="/"))


@contextlib.contextmanager
def canary(place: Path) -> Iterator[Callable[[], sandbox.Layers]]:
    """Start the canary, with a marker in a folder in `place`; the function given waits, once, for what it found.

    Raises NoSandbox.
    """
    with contextlib.ExitStack() as stack:
        try:
            made = scratch.held(place, lambda: Path(tempfile.mkdtemp(prefix="canary.", dir=place.absolute())))
            folder = stack.enter_context(made)
        except OSError as error:
            raise sandbox.NoSandbox(
                f"tasks cannot have their folders in {place} ({error.strerror}); let the uid {os.geteuid()} write "
                "there, or set SCRATCH_DIR to a folder where it may."
            ) from error
        marker = folder / "marker"
        marker.touch()
        # Open to everybody: what then keeps the canary out is the sandbox alone.
        marker.chmod(0o644)
        folder.chmod(0o777)
        talk = Conversation(sandbox.canary(marker), sandbox.environment(home="/"))
        stack.callback(talk.close)
        yield lambda: sandbox.Layers.read(_last_answer(talk))


def _last_answer(talk: Conversation) -> str | None:
    """What it answers; then it is ended and collected, since the worker goes on for as long as its task does."""
    with contextlib.closing(talk):
        return talk.ask("go", timeout_seconds=CANARY_SECONDS)


def find_ffmpeg(configured: str | None) -> str:
    """The path of ffmpeg: the configured one, else the static build of the imageio-ffmpeg wheel."""
    if configured:
        return shutil.which(configured) or configured
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
    words = _asked(path, "-version").split()
    if words[:2] != ["ffmpeg", "version"]:
        raise NoUsableFfmpeg(f"{path} does not answer as ffmpeg does; {_ADVICE}.")
    return words[2].removeprefix("n")


def ffmpeg_encoders(path: str) -> frozenset[str]:
    """The encoders that are compiled in. Raises NoUsableFfmpeg."""
    return encoders.listed(_asked(path, "-encoders"))


def _asked(path: str, question: str) -> str:
    try:
        done = subprocess.run([path, question], capture_output=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise NoUsableFfmpeg(f"{path} does not run ({error}); {_ADVICE}.") from error
    return done.stdout.decode(errors="replace")


def nvidia_smi() -> str:
    """What the driver's own program says of its cards, a line each, as gpu.use reads it; nothing where it does not."""
    argv = ["nvidia-smi", f"--query-gpu={','.join(gpu.ASKED)}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(argv, capture_output=True, timeout=10, check=True).stdout.decode(errors="replace")  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""


def cuda() -> str:
    """What NVIDIA's driver says; asked by a child, since it loads libraries that are not ours and may hang."""
    try:
        argv = [sys.executable, "-I", "-S", str(Path(__file__).with_name("cuda.py"))]
        return subprocess.run(argv, capture_output=True, timeout=30, check=True).stdout.decode().strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return "the driver does not answer"
