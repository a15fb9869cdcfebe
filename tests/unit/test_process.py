"""Programs are followed to their end and never outlive it; tried on small real programs."""

import os
import selectors
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from threading import Event
from types import FrameType

import pytest

from core.worker import process, sandbox
from core.worker.process import Cut
from support import processes
from support.service import PYTHONPATH

SHELL = "/bin/sh"


def run(
    script: str, folder: Path, *, timeout_seconds: float = 120, grace_seconds: float = 60
) -> tuple[process.Ended, list[str]]:
    """Run a shell script that may write lines to the descriptor $1. It is stopped once it says `ready`."""
    lines: list[str] = []
    stop = Event()

    def take(line: str) -> bool:
        lines.append(line)
        if line == "ready":
            stop.set()
        return True

    ended = process.run(
        lambda pipe: [SHELL, "-c", script, "sh", str(pipe)],
        rules=sandbox.alone(),
        cwd=folder,
        env=sandbox.environment(home=str(folder)),
        on_line=take,
        stop=stop,
        limits=process.Limits(seconds=timeout_seconds, grace_seconds=grace_seconds),
    )
    return ended, lines


def alive(pid: int) -> bool:
    """Whether the process still runs; a zombie that init has not collected yet does not."""
    shown = processes.read(pid, "stat")
    return bool(shown) and shown.rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid: int, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


def test_run_gives_lines_log_and_exit_code(tmp_path: Path) -> None:
    ended, lines = run("echo one >/dev/fd/$1; echo two >/dev/fd/$1; echo oops >&2; printf rest >&2; exit 3", tmp_path)

    assert lines == ["one", "two"]
    assert ended == process.Ended(exit_code=3, log=("oops", "rest"))


def test_run_keeps_the_end_of_a_long_log(tmp_path: Path) -> None:
    ended, _ = run("i=0; while [ $i -lt 1000 ]; do echo line $i >&2; i=$((i+1)); done", tmp_path)

    assert ended.log == tuple(f"line {number}" for number in range(800, 1000))


def test_run_bounds_a_line_without_end(tmp_path: Path) -> None:
    ended, _ = run("head -c 5000000 /dev/zero | tr '\\0' x >&2", tmp_path)

    assert len(ended.log) <= process.LOG_LINES
    assert {len(line) for line in ended.log} <= set(range(process.LOG_LINE_BYTES + 1))


def test_run_hears_what_a_program_says_at_its_very_end(tmp_path: Path) -> None:
    script = "echo $$ >pid; until [ -e go ]; do sleep 0.01; done; echo last words >&2; exit 1"
    pid = tmp_path / "pid"

    # when it speaks and ends right after we have looked, and found that it said nothing
    def on_call(frame: FrameType, event: str, argument: object) -> None:
        looked = event == "return" and frame.f_code is selectors.DefaultSelector.select.__code__
        if looked and argument == [] and pid.exists() and pid.read_text():
            sys.setprofile(None)
            (tmp_path / "go").touch()
            wait_until_gone(int(pid.read_text()))

    sys.setprofile(on_call)
    try:
        ended, _ = run(script, tmp_path)
    finally:
        sys.setprofile(None)

    assert (tmp_path / "go").exists()
    assert ended == process.Ended(exit_code=1, log=("last words",))


def test_run_gives_the_program_an_exact_environment(tmp_path: Path) -> None:
    os.environ["SECRET_OF_OURS"] = "x"
    try:
        ended, lines = run("env >/dev/fd/$1", tmp_path)
    finally:
        del os.environ["SECRET_OF_OURS"]

    names = {line.partition("=")[0] for line in lines}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LANG", "HOME", "TMPDIR"}
    assert ended.exit_code == 0


def test_run_ends_a_program_in_time(tmp_path: Path) -> None:
    ended, _ = run("exec sleep 120", tmp_path, timeout_seconds=0.5)

    assert ended == process.Ended(exit_code=-signal.SIGTERM, log=(), cut=Cut.TIMED_OUT)


def test_run_ends_a_program_politely(tmp_path: Path) -> None:
    script = "trap 'echo bye >/dev/fd/$1; exit 7' TERM; echo ready >/dev/fd/$1; while :; do sleep 0.05; done"
    ended, lines = run(script, tmp_path)

    assert (ended.exit_code, ended.cut) == (7, Cut.STOPPED)
    assert lines == ["ready", "bye"]


def test_run_kills_a_program_that_does_not_listen(tmp_path: Path) -> None:
    script = "trap '' TERM; echo ready >/dev/fd/$1; for i in $(seq 600); do sleep 0.05; done"
    ended, _ = run(script, tmp_path, grace_seconds=0.3)

    assert ended == process.Ended(exit_code=-signal.SIGKILL, log=(), cut=Cut.STOPPED)


def test_run_leaves_no_grandchild(tmp_path: Path) -> None:
    # given a program that leaves another one behind in its group
    ended, lines = run("sleep 60 >/dev/null 2>&1 & echo $! >/dev/fd/$1", tmp_path)

    assert ended.exit_code == 0
    wait_until_gone(int(lines[0]))


def test_run_says_when_there_is_no_such_program(tmp_path: Path) -> None:
    with pytest.raises(process.NotStarted, match="FileNotFoundError"):
        process.run(
            lambda pipe: [str(tmp_path / "missing")],
            rules=sandbox.alone(),
            cwd=tmp_path,
            env={},
            on_line=lambda line: True,
            stop=Event(),
            limits=process.Limits(seconds=5),
        )


def test_program_dies_with_a_killed_worker(tmp_path: Path) -> None:
    # given a worker that runs a long program
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), str(tmp_path)],
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=PYTHONPATH),
    )
    assert worker.stdout is not None
    child = int(worker.stdout.readline())

    # when the worker has no chance to clean up
    worker.kill()
    worker.wait()
    worker.stdout.close()

    # then its program is gone all the same
    wait_until_gone(child)


WORKER = """
    import sys
    from pathlib import Path
    from threading import Event
    from core.worker import process, sandbox
    process.run(
        lambda pipe: ["/bin/sh", "-c", f"echo $$ >/dev/fd/{pipe}; exec sleep 60"],
        rules=sandbox.alone(), cwd=Path(sys.argv[1]), env={}, on_line=lambda line: print(line, flush=True),
        stop=Event(), limits=process.Limits(seconds=60),
    )
"""


def test_conversation_answers_and_ends(tmp_path: Path) -> None:
    talk = process.Conversation([SHELL, "-c", "while read line; do echo got $line; done"], {})

    assert talk.ask("one", timeout_seconds=60) == "got one\n"
    assert talk.ask("two", timeout_seconds=60) == "got two\n"
    talk.close()
    wait_until_gone(talk.process.pid)


@pytest.mark.parametrize("script", ["sleep 60", "exit 0", "read line; echo half >/dev/null; exit 1"])
def test_conversation_with_a_silent_program_is_over(script: str) -> None:
    talk = process.Conversation([SHELL, "-c", script], {})

    assert talk.ask("hello", timeout_seconds=0.3) is None
    assert talk.ask("hello", timeout_seconds=0.3) is None
    wait_until_gone(talk.process.pid)


def test_ffmpeg_is_found_and_tells_its_version() -> None:
    assert process.ffmpeg_version(process.find_ffmpeg(None)).startswith("9.")


@pytest.mark.parametrize("program", ["/nonexistent/ffmpeg", "/bin/false", "/bin/echo"])
def test_unusable_ffmpeg_says_what_to_do(program: str) -> None:
    with pytest.raises(process.NoUsableFfmpeg, match="set FFMPEG_PATH to an ffmpeg that runs on this machine"):
        process.ffmpeg_version(program)
