"""The demo as `make demo` runs it: to its end, and interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.service import ROOT


def started(folder: Path) -> "subprocess.Popen[str]":
    """The demo, in a process group of its own, with its data in `folder`."""
    env = {**os.environ, "DATA_DIR": str(folder), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "demo.py")],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        # What starts the tests in the background may have told us to ignore it, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def users_of(folder: Path) -> list[int]:
    """The processes that know of the folder, by their environment or arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in known and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def test_demo_shows_the_way_from_url_to_file(tmp_path: Path) -> None:
    demo = started(tmp_path)

    shown, _ = demo.communicate(timeout=120)

    assert demo.returncode == 0, shown
    for words in ("-> pending", "-> queued", "100.0 %  completed", "Timeline", "video: h264, 854x480, 25 fps"):
        assert words in shown
    assert Path(shown.rpartition("file:")[2].strip()).is_file()
    assert users_of(tmp_path) == []


def test_demo_interrupted_leaves_nothing_running(tmp_path: Path) -> None:
    demo = started(tmp_path)
    assert demo.stdout
    while "transcoding" not in demo.stdout.readline():
        pass
    assert len(users_of(tmp_path)) >= 4  # demo, service, worker, prober or ffmpeg

    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=30)

    assert demo.returncode == 130
    deadline = time.monotonic() + 5
    while users_of(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_demo_that_cannot_start_says_why(tmp_path: Path) -> None:
    os.environ["FFMPEG_PATH"] = "/bin/false"
    try:
        demo = started(tmp_path)
    finally:
        del os.environ["FFMPEG_PATH"]
    shown, _ = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "set FFMPEG_PATH to an ffmpeg that runs on this machine" in shown
