"""What is tried again on the real service, and what is not: each attempt is listed with what became of it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.moves import LEASE
from core.task import Attempt, Ending, FailureCode, Status
from support import footage, leftovers
from support.leftovers import seconds_until
from support.service import Service, running
from support.source_server import SourceServer, serving

CLIP = "clip.mp4"
COPY = "-i in.mp4 -c copy out.mp4"
# Of the source that its first reader gets without an end, and of the clip that others get at once.
STRETCH = "-i in.mp4 -vf fps=240 -c:v libx264 -preset ultrafast -threads 1 out.mp4"
# Answers as ffmpeg does, and kills the worker that starts it for a task.
KILLER = """#!/bin/sh
[ "$1" = -version ] && echo "ffmpeg version killer" && exit
kill -9 $PPID
exec sleep 3600
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceServer]:
    folder = tmp_path_factory.mktemp("media")
    footage.run("-i", str(footage.CLIP), "-t", "1", "-an", "-vf", "scale=160:90", str(folder / CLIP))
    footage.endless(folder / "endless.mp4")
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"RETRY_DELAY_SECONDS": "1", "MAX_CONCURRENT_TASKS": "1"}
    with running(tmp_path_factory.mktemp("service"), **settings) as started:
        yield started


def seen(attempts: tuple[Attempt, ...]) -> list[tuple[int, Ending | None, FailureCode | None]]:
    return [(attempt.number, attempt.ending, attempt.code) for attempt in attempts]


def test_source_that_is_away_for_a_while_is_asked_again_later(service: Service, source: SourceServer) -> None:
    # given a source that is away for longer than a download waits for it, and others before and after it that hold the
    # one worker
    before, after = f"/kept/{CLIP}?before", f"/kept/{CLIP}?after"
    service.register(COPY, {"in.mp4": source.url + before}, "out.mp4")
    task_id = service.register(COPY, {"in.mp4": f"{source.url}/busy/4/{CLIP}"}, "out.mp4")
    other = service.register(COPY, {"in.mp4": source.url + after}, "out.mp4")
    source.let_go(before)
    service.until(other, "downloading")

    # then the task waits, and says since when and why
    waiting = service.stored(task_id)
    assert (waiting.status, waiting.error) == (Status.QUEUED, None)
    assert seen(waiting.attempts) == [(1, Ending.FAILED, FailureCode.DOWNLOAD_FAILED)]
    assert "answered 503" in str(waiting.attempts[0].message)

    # and is tried again
    source.let_go(after)
    assert service.ended(task_id)["status"] == "completed"
    task = service.stored(task_id)
    assert seen(task.attempts)[1:] == [(2, Ending.COMPLETED, None)]


def test_source_that_is_not_there_is_asked_once(service: Service, source: SourceServer) -> None:
    task_id = service.register(COPY, {"in.mp4": f"{source.url}/status/404?once"}, "out.mp4")

    task = service.ended(task_id)

    assert (task["status"], task["error"]["retryable"]) == ("failed", False)
    assert seen(service.stored(task_id).attempts) == [(1, Ending.FAILED, FailureCode.DOWNLOAD_FAILED)]
    assert source.asked["/status/404?once"] == 1


def test_task_that_kills_its_workers_fails_after_three(source: SourceServer, tmp_path: Path) -> None:
    killer = tmp_path / "ffmpeg"
    killer.write_text(KILLER)
    killer.chmod(0o755)
    settings = {"FFMPEG_PATH": str(killer), "UNCONTAINED": "1", "SANDBOX": "degraded"}
    with running(tmp_path / "service", program=("-m", "support.crashing", "service"), **settings) as service:
        task_id = service.register(COPY, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4")

        task = service.ended(task_id)

        assert (task["status"], task["error"]["code"]) == ("failed", "WORKER_LOST")
        assert seen(service.stored(task_id).attempts) == [(number, Ending.LOST, None) for number in (1, 2, 3)]
        seconds_until(lambda: set(leftovers.processes(tmp_path)) == {service.process.pid}, most=60)


def test_worker_that_is_told_to_stop_gives_its_task_back(service: Service, source: SourceServer) -> None:
    task_id = service.register(STRETCH, {"in.mp4": f"{source.url}/turns/endless.mp4/{CLIP}"}, "out.mp4")
    service.until(task_id, "transcoding")
    owner = service.stored(task_id).owner
    assert owner

    os.kill(int(owner.rpartition(":")[2]), signal.SIGTERM)

    assert service.ended(task_id)["status"] == "completed"
    first, second = service.stored(task_id).attempts
    assert seen((first, second)) == [(1, Ending.RELEASED, None), (2, Ending.COMPLETED, None)]
    assert first.finished_at
    assert second.started_at - first.finished_at < LEASE / 2
    assert '"exit_code":75' in service.log.read_text().replace(" ", "")
