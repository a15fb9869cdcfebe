"""The demo as `make demo` runs it: to its end, and interrupted."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from core import moves
from core.local.task_store import SqliteTaskStore
from core.register import Registration, register
from core.settings import Settings
from support.leftovers import seconds_until
from support.service import ROOT

ENDLESS = "-f lavfi -i testsrc2=s=320x180:r=30:d=36000 -c:v libx264 -threads 1 o.mp4"
MOST = 60.0  # seconds; a quiet machine needs two or three


def started(folder: Path, **settings: str) -> "subprocess.Popen[str]":
    """The demo, in a process group of its own, with its data in `folder`."""
    env = {**os.environ, "DATA_DIR": str(folder), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", **settings}
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

    shown, _ = demo.communicate(timeout=3 * MOST)

    assert demo.returncode == 0, shown
    for words in ("-> pending", "-> queued", "100.0 %  completed", "Timeline", "video: h264, 854x480, 25 fps"):
        assert words in shown
    assert Path(shown.rpartition("file:")[2].strip()).is_file()
    seconds_until(lambda: not users_of(tmp_path), most=MOST)


def test_demo_interrupted_leaves_nothing_running(tmp_path: Path) -> None:
    # given a demo whose task waits, since the one worker has another one that never ends
    queue_an_endless_task(tmp_path)
    demo = started(tmp_path, MAX_CONCURRENT_TASKS="1")
    assert demo.stdout
    shown = iter(demo.stdout.readline, "")
    assert any(" queued" in line for line in shown)
    seconds_until(lambda: len(users_of(tmp_path)) >= 4, most=MOST)  # demo, service, worker, prober or ffmpeg

    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=MOST)

    assert demo.returncode == 130
    seconds_until(lambda: not users_of(tmp_path), most=MOST)


def queue_an_endless_task(folder: Path) -> None:
    wanted, now = Registration(command=ENDLESS, input_files={}, output_files=("o.mp4",)), datetime.now(UTC)
    with closing(SqliteTaskStore(folder / "tasks.db")) as store:
        task, _ = register(store, wanted, settings=Settings(), task_id="endless", correlation_id="c", now=now)
        store.replace(moves.execute(task, now=now), task)


def test_demo_that_cannot_start_says_why(tmp_path: Path) -> None:
    demo = started(tmp_path, FFMPEG_PATH="/bin/false")
    shown, _ = demo.communicate(timeout=MOST)

    assert demo.returncode == 1
    assert "set FFMPEG_PATH to an ffmpeg that runs on this machine" in shown
