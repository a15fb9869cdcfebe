"""Folders of workers, living and killed: real processes, and SIGKILL."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from core.worker import sandbox, scratch
from core.worker.sandbox import Folder, Layers

SOURCES = str(Path(scratch.__file__).parents[2])

# Holds a folder as a worker does, with a child of its own, and says so.
HOLDER = """
import subprocess, sys, time
from pathlib import Path
from core.worker import scratch
folder = Path(sys.argv[1])
def make():
    folder.mkdir()
    (folder / "large.bin").write_bytes(b"x")
    return folder
with scratch.held(folder.parent, make):
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid, flush=True)
    time.sleep(600)
"""

# Makes folders, slowly, and looks whether they stay; or clears.
WORKER = """
import sys, time
from pathlib import Path
from uuid import uuid4
from core.worker import scratch
place = Path(sys.argv[1])
for _ in range(40):
    folder = place / f"{uuid4()}.1"
    def make():
        folder.mkdir()
        time.sleep(0.005)
        return folder
    with scratch.held(place, make):
        time.sleep(0.005)
        (folder / "file").write_bytes(b"x")
    assert not folder.exists()
"""
CLEARER = """
import sys
from pathlib import Path
from core.worker import scratch
for _ in range(400):
    scratch.clear(Path(sys.argv[1]))
"""


def started(code: str, argument: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, str(argument)], env={"PYTHONPATH": SOURCES}, stdout=subprocess.PIPE, text=True
    )


@contextmanager
def a_worker(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds `folder`; its child, whatever becomes of it, ends with the context."""
    with started(HOLDER, folder) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        try:
            yield process
        finally:
            os.kill(child, signal.SIGKILL)
            process.kill()


def a_task(place: Path) -> Path:
    return place / f"{uuid4()}.1"


def test_clear_takes_what_a_killed_worker_left_though_its_child_lives(tmp_path: Path) -> None:
    # given
    folder = a_task(tmp_path)
    with a_worker(folder) as worker:
        assert scratch.clear(tmp_path) == 0
        assert [path.name for path in folder.iterdir()] == ["large.bin"]

        # when
        worker.send_signal(signal.SIGKILL)
        worker.wait()

        # then
        assert scratch.clear(tmp_path) == 1
        assert list(tmp_path.iterdir()) == []


def test_clear_leaves_the_living_beside_the_killed(tmp_path: Path) -> None:
    living, killed = a_task(tmp_path), a_task(tmp_path)
    with a_worker(living), a_worker(killed) as worker:
        worker.send_signal(signal.SIGKILL)
        worker.wait()

        assert scratch.clear(tmp_path) == 1

        assert list(tmp_path.iterdir()) == [living]


def test_held_folder_is_gone_afterwards(tmp_path: Path) -> None:
    folder = Folder(a_task(tmp_path / "scratch"))

    def work() -> None:
        with scratch.held(folder.root.parent, lambda: sandbox.make(folder, Layers())) as held:
            assert held == folder.root
            (folder.outputs / "out.mp4").write_bytes(b"x")
            assert scratch.clear(folder.root.parent) == 0
            raise ValueError("something")

    with pytest.raises(ValueError, match="something"):
        work()
    assert list(folder.root.parent.iterdir()) == []


def test_clear_takes_nothing_that_workers_do_not_make(tmp_path: Path) -> None:
    # given a place where others have theirs too
    elsewhere, place = tmp_path / "elsewhere", tmp_path / "place"
    ours = [a_task(place), place / "canary.abc_12"]
    others = [place / "photos", place / f"{uuid4()}", place / f"{uuid4()}.old", place / "canary"]
    for folder in (elsewhere, *ours, *others):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
    link, file = a_task(place), a_task(place)
    link.symlink_to(elsewhere)
    file.write_bytes(b"x")

    # when
    assert scratch.clear(place) == 2

    # then
    assert sorted(place.iterdir()) == sorted([*others, link, file])
    assert [len(list(folder.iterdir())) for folder in (*others, elsewhere)] == [1, 1, 1, 1, 1]


def test_place_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    place = tmp_path / "scratch"
    place.symlink_to(tmp_path / "disk")
    with a_worker(a_task(place)) as worker:
        assert scratch.clear(place) == 0
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert scratch.clear(place) == 1


def test_clear_of_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    assert scratch.clear(tmp_path / "data" / "scratch") == 0


def test_clear_takes_more_than_files_may_be_open(tmp_path: Path) -> None:
    for _ in range(100):
        sandbox.make(Folder(a_task(tmp_path)), Layers())
    code = """
import resource, sys
from pathlib import Path
from core.worker import scratch
resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90))
while scratch.clear(Path(sys.argv[1])):
    pass
"""
    with started(code, tmp_path) as process:
        assert process.wait() == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another uid to make folders for")
def test_clear_takes_what_was_made_for_another_uid(tmp_path: Path) -> None:
    folder = Folder(a_task(tmp_path))
    sandbox.make(folder, Layers(uid=sandbox.UID))
    inner = folder.outputs / "made by ffmpeg"
    inner.mkdir()
    (inner / "out.ts").write_bytes(b"x")
    for path in (inner / "out.ts", inner):
        os.chown(path, sandbox.UID, sandbox.UID)
        path.chmod(0)

    assert scratch.clear(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_worker_loses_its_folder_to_those_who_clear(tmp_path: Path) -> None:
    processes = [started(code, tmp_path) for code in (WORKER, WORKER, WORKER, CLEARER, CLEARER)]
    try:
        ends = [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert ends == [0, 0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []
