"""Batches on one machine: real workers with real files, killed, canceled and started again; each task ends once.

The pool is this process's own, save where the service itself is killed. A batch is registered as the API does it.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from core import wiring
from core.batch import Batch, batch_id_of, task_id
from core.batch_view import BatchView
from core.batches import create_batch, view_batch
from core.cancel import cancel
from core.cancel_batch import cancel_batch
from core.destination import Destination
from core.errors import TaskEnded
from core.find import find_task
from core.local.dispatcher import LocalDispatcher
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.ports import Record, RecordStore, Services
from core.register import Registration
from core.register_batch import BatchWanted, register_batch
from core.settings import Settings
from core.task import Ending, FailureCode, Stage, Status
from core.worker import process
from support import footage, leftovers, processes
from support.leftovers import seconds_until
from support.recording import RecordingDispatcher
from support.service import PYTHONPATH, running

# Quick with the clip, and without an end with the one that has none.
STRETCH = "-i {name} -vf fps=240 -c:v libx264 -preset ultrafast -threads 1 small-{stem}.mkv"
WITHIN = 90.0  # seconds; only a failing test waits that long


@dataclass(frozen=True)
class Place:
    """One machine: a folder with inputs, and the services that know it."""

    inputs: Path
    settings: Settings
    services: Services
    pool: LocalDispatcher

    def register(self, *, registration: Registration | None = None, **wishes: object) -> Batch:
        plain = Registration(command=STRETCH, input_files={}, output_files=("small-{stem}.mkv",))
        registration = registration or plain
        wanted = BatchWanted(registration=registration, folder=str(self.inputs), **wishes)  # type: ignore[arg-type]
        now = datetime.now(UTC)
        batch, again, _ = register_batch(
            self.services, wanted, settings=self.settings, batch_id=str(uuid4()), correlation_id="corr-1", now=now
        )
        assert not again
        return batch

    def view(self, batch: Batch) -> BatchView:
        return view_batch(self.services, batch.batch_id)

    def ended(self, batch: Batch) -> BatchView:
        seconds_until(lambda: self.view(batch).status.ended, most=WITHIN)
        return self.view(batch)

    def until_at_work(self, batch: Batch) -> None:
        """With ffmpeg on the first file, where it stays if that has no end."""
        first = task_id(batch.batch_id, 0)
        seconds_until(lambda: find_task(self.services, first).stage is Stage.TRANSCODING, most=WITHIN)

    @contextmanager
    def unattended(self) -> Iterator[None]:
        """No worker begins meanwhile."""
        self.pool.resize(0)
        yield
        self.pool.resize(self.settings.max_concurrent_tasks)

    def workers(self) -> list[int]:
        """Those that the pool of this process has started."""
        children = processes.children(os.getpid())
        return sorted(pid for pid in children if "batch_worker" in processes.read(pid, "cmdline"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    footage.run("-i", str(footage.CLIP), "-t", "1", "-an", "-vf", "scale=160:90", str(path))
    return path


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("endless") / "endless.mp4"
    footage.endless(path)
    return path


def filled(folder: Path, clip: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        shutil.copy(clip, folder / f"clip {number}.mp4")
    return folder


def settings_for(inputs: Path, data: Path) -> Settings:
    return Settings(data_dir=data, input_roots=(inputs.parent,), max_concurrent_tasks=2, retry_delay_seconds=1)


@contextmanager
def a_place(inputs: Path, data: Path, *, settings: Settings | None = None) -> Iterator[Place]:
    """With a pool that runs."""
    settings = settings or settings_for(inputs, data)
    with process.canary(settings.scratch) as found:
        layers = found()
    env = {**os.environ, "PYTHONPATH": PYTHONPATH, "SANDBOX_LAYERS": layers.spelled()}
    local = wiring.local(settings, env)
    with closing(local.pool):
        local.pool.start()
        yield Place(inputs, settings, local.services, local.pool)
    close(local.services)


def close(services: Services) -> None:
    for store in (services.store, services.records):
        assert isinstance(store, SqliteTaskStore | SqliteRecordStore)
        store.close()


@pytest.fixture
def place(clip: Path, tmp_path: Path) -> Iterator[Place]:
    with a_place(filled(tmp_path / "media" / "of today", clip, 5), tmp_path / "data") as made:
        yield made


@pytest.fixture
def held(place: Place, endless: Path) -> Place:
    """The worker that comes to the first file stays with it."""
    shutil.copy(endless, place.inputs / "clip 0.mp4")
    return place


def fences(place: Place, batch: Batch) -> list[int]:
    return [place.services.store.get(task_id(batch.batch_id, number)).fence for number in range(batch.count)]


def test_a_folder_becomes_outputs_and_each_file_is_taken_once(place: Place, clip: Path) -> None:
    # given a folder with media, and with what is none
    (place.inputs / "notes.txt").write_text("not media")
    (place.inputs / ".hidden.mp4").write_bytes(clip.read_bytes())

    # when it is registered
    with place.unattended():
        batch = place.register(delete_inputs=True)
        last = find_task(place.services, task_id(batch.batch_id, 4))

    # then the last of its tasks is there, though nobody has come to it
    assert (last.version, last.status, last.batch_id) == (0, Status.QUEUED, batch.batch_id)
    assert last.output_files == ("small-clip 4.mkv",)

    # and when it has ended, each has been done once, by slices of as many workers as there may be
    view = place.ended(batch)
    assert (view.status, view.percent) == (Status.COMPLETED, 100.0)
    assert [file.name for file in view.converted] == [f"clip {number}.mp4" for number in range(5)]
    assert fences(place, batch) == [1] * 5
    task = place.services.store.get(last.task_id)
    (output,) = task.outputs
    found = place.services.objects.head(output.key)
    assert found is not None
    assert (output.filename, found.sha256) == ("small-clip 4.mkv", output.sha256)
    # and of the folder only what was converted is gone, and nothing is left besides
    seconds_until(lambda: not place.workers(), most=WITHIN)
    assert sorted(path.name for path in place.inputs.iterdir()) == [".hidden.mp4", "notes.txt"]
    assert leftovers.scratch(place.settings.scratch) == []
    seconds_until(lambda: place.view(batch).batch.finished_at, most=WITHIN)
    assert place.view(batch).batch.counts == {"queued": 0, "running": 0, "completed": 5, "failed": 0, "canceled": 0}


def test_a_file_that_fails_says_why_and_is_not_deleted(place: Place) -> None:
    (place.inputs / "clip 1.mp4").write_bytes(b"<html>not media</html>")
    outside = place.inputs.parents[1] / "secret.mp4"
    shutil.copy(place.inputs / "clip 0.mp4", outside)
    with place.unattended():
        batch = place.register(delete_inputs=True, concurrency=1)
        # a file that leads out of the folder after it was listed
        (place.inputs / "clip 4.mp4").unlink()
        (place.inputs / "clip 4.mp4").symlink_to(outside)

    view = place.ended(batch)

    assert (view.status, view.counts[Status.COMPLETED], view.counts[Status.FAILED]) == (Status.FAILED, 3, 2)
    assert [(file.name, file.error) for file in view.failures] == [
        ("clip 1.mp4", "The input clip 1.mp4 is not media: the source sent a web page."),
        ("clip 4.mp4", "The source of clip 4.mp4 is a symbolic link, which is not followed."),
    ]
    seconds_until(lambda: not place.workers(), most=WITHIN)
    assert sorted(path.name for path in place.inputs.iterdir()) == ["clip 1.mp4", "clip 4.mp4"]
    assert outside.exists()


def test_a_killed_worker_is_followed_by_one_that_goes_on(held: Place, clip: Path) -> None:
    batch = held.register(concurrency=1)
    assert (batch.count, batch.per_slice) == (5, 5)
    held.until_at_work(batch)
    shutil.copy(clip, held.inputs / "clip 0.mp4")  # what the next one gets

    (worker,) = held.workers()
    os.kill(worker, signal.SIGKILL)

    view = held.ended(batch)
    assert view.counts[Status.COMPLETED] == batch.count
    attempts = [
        [attempt.ending for attempt in held.services.store.get(task_id(batch.batch_id, number)).attempts]
        for number in range(batch.count)
    ]
    # the task that was at work when the worker died has another attempt, at once; no other has
    assert attempts == [[Ending.LOST, Ending.COMPLETED], *[[Ending.COMPLETED]] * 4]


class Killed(Exception):
    """The end of a process, as far as what it leaves is concerned."""


@dataclass(frozen=True)
class Killing:
    """Records, at the first of which the process dies."""

    inner: RecordStore

    def create(self, record: Record) -> Record:
        raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_a_killed_service_goes_on_with_its_batches(clip: Path, endless: Path, tmp_path: Path) -> None:
    # given a batch of which nobody knows but the store
    inputs, data = filled(tmp_path / "media" / "of today", clip, 5), tmp_path / "data"
    shutil.copy(endless, inputs / "clip 0.mp4")
    settings = settings_for(inputs, data)
    local = wiring.local(settings, os.environ)
    services = replace(local.services, dispatcher=RecordingDispatcher())
    place = Place(inputs, settings, services, local.pool)
    batch = place.register()
    env = {"INPUT_ROOTS": str(inputs.parent)}
    # and the list of one that was never registered, for whoever was about to was killed
    unheard = replace(batch, batch_id=batch_id_of(str(uuid4())))
    with pytest.raises(Killed):
        create_batch(replace(services, records=Killing(services.records)), unheard, [])
    assert services.objects.head(services.manifest_key(unheard))

    # when a service is killed in the middle of it, and another one starts
    with running(data, **env) as service:
        place.until_at_work(batch)
        shutil.copy(clip, inputs / "clip 0.mp4")  # what the next worker gets
        service.process.kill()
        service.process.wait()
    with running(data, **env) as service:
        view = place.ended(batch)
        # of the first one's workers, each has left
        seconds_until(lambda: set(leftovers.processes(data)) == {service.process.pid}, most=30)

    # then each task has ended once, and that list is gone
    assert view.counts[Status.COMPLETED] == batch.count
    assert [path.name for path in data.glob("objects/*/batches/*")] == 2 * [batch.batch_id]
    for number in range(batch.count):
        endings = [one.ending for one in services.store.get(task_id(batch.batch_id, number)).attempts]
        assert endings.count(Ending.COMPLETED) == 1
    close(services)


def test_a_canceled_batch_ends_at_once_and_leaves_nobody_at_work(held: Place) -> None:
    batch = held.register(concurrency=1)
    held.until_at_work(batch)

    cancel_batch(held.services, batch.batch_id, now=datetime.now(UTC))

    view = held.view(batch)
    assert (view.status, view.counts[Status.RUNNING], view.counts[Status.QUEUED]) == (Status.CANCELED, 0, 0)
    assert sum(view.counts.values()) == batch.count
    last = find_task(held.services, task_id(batch.batch_id, 4))
    assert last.status is Status.CANCELED
    with pytest.raises(TaskEnded):
        cancel(held.services, last.task_id, now=datetime.now(UTC))
    seconds_until(lambda: not held.workers(), most=WITHIN)
    # and nobody gives a row to what had none, or begins anew
    assert held.view(batch).counts == view.counts
    assert leftovers.scratch(held.settings.scratch) == []


def test_one_task_is_canceled_and_the_others_go_on(held: Place) -> None:
    """Also one without a row, which a worker then passes over."""
    batch = held.register(concurrency=1)
    held.until_at_work(batch)
    assert [member.number for member in held.services.store.members(batch.batch_id)] == [0]

    for number in (2, 0):
        cancel(held.services, task_id(batch.batch_id, number), now=datetime.now(UTC))

    view = held.ended(batch)
    assert view.counts == {
        Status.QUEUED: 0,
        Status.RUNNING: 0,
        Status.COMPLETED: 3,
        Status.FAILED: 0,
        Status.CANCELED: 2,
    }


def test_a_batch_keeps_to_its_concurrency(place: Place) -> None:
    batch = place.register(concurrency=1)

    place.ended(batch)

    tasks = [place.services.store.get(task_id(batch.batch_id, number)) for number in range(batch.count)]
    times = sorted((task.started_at, task.finished_at) for task in tasks if task.started_at and task.finished_at)
    assert len(times) == batch.count
    assert all(before[1] <= after[0] for before, after in pairwise(times))


def test_a_source_that_has_gone_is_tried_no_more(place: Place) -> None:
    with place.unattended():
        batch = place.register()
        (place.inputs / "clip 4.mp4").unlink()

    view = place.ended(batch)

    task = place.services.store.get(task_id(batch.batch_id, 4))
    assert task.error is not None
    assert (task.error.code, task.error.retryable) == (FailureCode.DOWNLOAD_FAILED, False)
    assert view.counts[Status.COMPLETED] == 4


def test_a_batch_takes_what_a_task_takes(tmp_path: Path, clip: Path) -> None:
    # given a preset that looks at the source, and a bucket of the caller's
    inputs = filled(tmp_path / "media" / "in", clip, 2)
    settings = settings_for(inputs, tmp_path / "data")
    settings = replace(settings, destinations=(Destination(bucket="media-out", prefix="incoming"),))
    registration = Registration(
        preset="sprite",
        parameters={},
        input_files={},
        output_files=("{stem}.jpg",),
        destination=Destination(bucket="media-out", prefix="incoming/42"),
        metadata={"order": "4711"},
    )
    with a_place(inputs, tmp_path / "data", settings=settings) as place:
        batch = place.register(registration=registration)

        # when all of it has ended
        found = place.ended(batch)
        tasks = [find_task(place.services, task_id(batch.batch_id, number)) for number in range(2)]

    # then each task has what was asked for, and the command that the worker made for its source
    assert [(task.status, task.error) for task in tasks] == [(Status.COMPLETED, None)] * 2, found
    for number, task in enumerate(tasks):
        assert [output.filename for output in task.outputs] == [f"clip {number}.jpg", f"clip {number}.vtt"]
        assert task.outputs[0].key == f"incoming/42/{task.task_id}/1/clip {number}.jpg"
        assert "{" not in task.command
        assert (task.metadata, task.expires_at) == ({"order": "4711"}, None)
    stored = tmp_path / "data" / "destinations" / "media-out" / "files" / "incoming" / "42"
    assert len([path for path in stored.rglob("*") if path.is_file()]) >= 4
