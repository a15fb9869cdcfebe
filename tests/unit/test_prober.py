"""The prober, from one task's folder to the next: what looked into one task's files sees nothing of another's."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core.worker import collect, process, sandbox
from core.worker.process import Conversation
from core.worker.sandbox import Folder, Layers
from support import containment, footage

FOUND = containment.found()


@pytest.fixture
def prober() -> Iterator[Conversation]:
    with closing(process.start_prober()) as started:
        yield started


def a_folder(root: Path) -> Folder:
    folder = Folder(root)
    sandbox.make(folder, FOUND)
    made = folder.inputs / "i0.mkv"
    footage.run("-f", "lavfi", "-i", "testsrc=d=0.2:s=64x64", str(made))
    made.chmod(0o600)  # as under a strict umask
    sandbox.show(made, FOUND)
    return folder


def confined(prober: Conversation, folder: Folder, layers: Layers = FOUND) -> tuple[int, collect.Examine]:
    """The process that looks into the folder, and a function that asks it."""
    examine = collect.examiner(prober, folder.root, sandbox.for_prober(layers, folder))
    (child,) = containment.children(prober.process.pid)
    return child, examine


def test_each_folder_is_looked_into_by_a_process_of_its_own(prober: Conversation, tmp_path: Path) -> None:
    first, second = (a_folder(tmp_path / name) for name in "ab")

    with collect.released(prober):
        one, examine = confined(prober, first)
        assert examine(first.inputs / "i0.mkv", "in.mkv").packets
    assert not Path(f"/proc/{one}").exists()
    with collect.released(prober):
        other, examine = confined(prober, second)
        assert examine(second.inputs / "i0.mkv", "in.mkv").packets
        # and nothing outside of it, the first one's included
        error = prober.ask(json.dumps("../a/in/i0.mkv"), timeout_seconds=60)
    assert other != one
    assert error is not None
    assert "error" in json.loads(error)
    assert containment.children(prober.process.pid) == []


def test_one_that_a_file_has_killed_is_missed_by_its_own_task_only(prober: Conversation, tmp_path: Path) -> None:
    first, second = (a_folder(tmp_path / name) for name in "ab")
    with collect.released(prober):
        child, examine = confined(prober, first)
        os.kill(child, signal.SIGKILL)
        for _ in range(2):
            probed = examine(first.inputs / "i0.mkv", "in.mkv")
            assert (probed.media, probed.error) == (None, "the file could not be examined")

    with collect.released(prober):
        _, examine = confined(prober, second)
        assert examine(second.inputs / "i0.mkv", "in.mkv").packets


def test_without_a_folder_nothing_is_looked_into(prober: Conversation) -> None:
    assert prober.ask(json.dumps("/etc/passwd"), timeout_seconds=60) == "null\n"


def test_one_that_cannot_be_confined_is_shown_nothing(prober: Conversation, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "a")
    with pytest.raises(collect.NotConfined):
        collect.examiner(prober, tmp_path / "none", sandbox.for_prober(FOUND, folder))
