"""Cancel, on the real service: at once in the API, and within 25 s there is nothing left of the task.

No worker, no ffmpeg, no temporary folder, no object, no output shown; whatever the worker was busy with, whether or
not anybody could tell it, and with one winner where the task was just about to be completed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from core import wiring
from core.cancel import cancel
from core.execute import execute
from core.register import Registration, register
from core.settings import Settings
from core.task import Status
from support import crashing, footage, leftovers, processes
from support.crash_cases import crash
from support.leftovers import seconds_until
from support.recording import RecordingDispatcher
from support.service import PYTHONPATH, Service, running
from support.source_server import SourceServer, serving

# Seconds: the 25 on a machine that does little else, and as much again where others are at work. What is not told of a
# cancel, and does not ask, goes on for minutes, or for ever.
WITHIN = 60.0
CLIP = "clip.mp4"
COPY = "-i in.mp4 -c copy out.mp4"
ENDLESS = "-i in.mp4 -f lavfi -i testsrc2=d=36000:s=320x180 -map 1:v -c:v libx264 -threads 1 out.mp4"
UNCONTAINED = {"UNCONTAINED": "1", "SANDBOX": "degraded"}
SERVICE = ("-m", "support.crashing", "service")
# Answers as ffmpeg does, then works on its task for ever, and hears nothing.
STUBBORN = """#!/bin/sh
[ "$1" = -version ] && echo "ffmpeg version stubborn" && exit
trap '' TERM INT
while :; do sleep 1; done
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceServer]:
    folder = tmp_path_factory.mktemp("media")
    footage.run("-i", str(footage.CLIP), "-t", "1", "-an", "-vf", "scale=160:90", str(folder / CLIP))
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service")) as started:
        yield started


def cancel_at_once(service: Service, task_id: str) -> dict[str, Any]:
    """The task as the API shows it in its answer, and again when asked."""
    answer = service.cancel(task_id)
    assert (answer.status_code, answer.json()["status"]) == (202, "canceled"), answer.text
    task = service.status(task_id)
    assert (task["status"], task["outputs"], task["output_url"]) == ("canceled", [], None)
    return task


def workers(service: Service) -> dict[int, str]:
    """The processes of the service but for itself."""
    return {pid: name for pid, name in leftovers.processes(service.data_dir).items() if pid != service.process.pid}


def nothing_left(service: Service) -> bool:
    scratch, objects = leftovers.scratch(service.data_dir / "scratch"), leftovers.objects(service.data_dir)
    return not workers(service) and not scratch and not objects


def test_pending_task_is_canceled_and_cannot_be_executed(service: Service, source: SourceServer) -> None:
    task_id = service.register(COPY, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4", execute=False)

    cancel_at_once(service, task_id)

    refused = service.http.post(f"/ffmpeg/execute/{task_id}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "TASK_ENDED")
    assert service.cancel(task_id).status_code == 409
    assert nothing_left(service)


def test_queued_task_is_canceled_and_never_started(source: SourceServer, tmp_path: Path) -> None:
    with running(tmp_path / "service", MAX_CONCURRENT_TASKS="1") as service:
        first = service.register(COPY, {"in.mp4": f"{source.url}/silent?first"}, "out.mp4")
        waiting = service.register(COPY, {"in.mp4": f"{source.url}/media/{CLIP}?waiting"}, "out.mp4")
        seconds_until(lambda: source.asked["/silent?first"], most=WITHIN)

        cancel_at_once(service, waiting)

        health = service.http.get("/ffmpeg/health").json()
        assert "1 running, 0 waiting" in str(health)
        cancel_at_once(service, first)
        print(f"gone after {seconds_until(lambda: nothing_left(service), most=WITHIN):.1f} s")
        assert source.asked[f"/media/{CLIP}?waiting"] == 0
        assert service.status(waiting)["attempt"] == 0


@pytest.mark.parametrize(
    ("path", "command", "stage"),
    [
        pytest.param("silent", COPY, "downloading", id="waiting for an answer"),
        pytest.param(f"held/{CLIP}", COPY, "downloading", id="a source that stalls"),
        pytest.param("trickle", COPY, "downloading", id="a source that trickles"),
        pytest.param("endless", COPY, "downloading", id="a source without end"),
        pytest.param("away/10", COPY, "downloading", id="between two attempts"),
        pytest.param(f"media/{CLIP}", ENDLESS, "transcoding", id="encoding"),
    ],
)
def test_running_task_is_canceled(service: Service, source: SourceServer, path: str, command: str, stage: str) -> None:
    path = f"/{path}?{stage}"
    task_id = service.register(command, {"in.mp4": source.url + path}, "out.mp4")
    service.until(task_id, stage)
    seconds_until(lambda: source.asked[path], most=WITHIN)

    cancel_at_once(service, task_id)

    print(f"gone after {seconds_until(lambda: nothing_left(service), most=WITHIN):.1f} s")
    assert service.status(task_id)["status"] == "canceled"


def test_encoding_that_ignores_sigterm_is_canceled(source: SourceServer, tmp_path: Path) -> None:
    stubborn = tmp_path / "ffmpeg"
    stubborn.write_text(STUBBORN)
    stubborn.chmod(0o755)
    settings = {"FFMPEG_PATH": str(stubborn), **UNCONTAINED}
    with running(tmp_path / "service", program=SERVICE, **settings) as service:
        task_id = service.register(COPY, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4")
        service.until(task_id, "transcoding")
        seconds_until(lambda: any(str(stubborn) in name for name in workers(service).values()), most=WITHIN)

        cancel_at_once(service, task_id)

        print(f"gone after {seconds_until(lambda: nothing_left(service), most=WITHIN):.1f} s")


@pytest.mark.parametrize("point", ["storing", "completing"])
def test_storing_task_is_canceled(source: SourceServer, tmp_path: Path, point: str) -> None:
    stops = crash(tmp_path, [point])
    with running(tmp_path / "service", program=SERVICE, **stops) as service:
        # given a worker that stands still when it has stored one of its outputs, or all
        command = "-i in.mp4 -map 0:v -c:v ffv1 -f segment -segment_time 0.04 -reset_timestamps 1 o%03d.mkv"
        task_id = service.register(command, {"in.mp4": f"{source.url}/media/{CLIP}"}, "o%03d.mkv")
        seconds_until(lambda: crashing.reached(tmp_path / "reached"), most=WITHIN)
        worker = int(str(service.stored(task_id).owner).rpartition(":")[2])
        seconds_until(lambda: "T (stopped)" in processes.read(worker, "status"), most=WITHIN)
        assert leftovers.objects(service.data_dir)

        # when the task is canceled, and the worker goes on
        cancel_at_once(service, task_id)
        os.kill(worker, signal.SIGCONT)

        # then what it has stored goes with it
        print(f"gone after {seconds_until(lambda: nothing_left(service), most=WITHIN):.1f} s")


def test_cancel_and_completion_have_one_winner(source: SourceServer, tmp_path: Path) -> None:
    url, ends = f"{source.url}/media/{CLIP}", []
    with running(tmp_path / "service") as service:
        began = time.monotonic()
        service.ended(service.register(COPY, {"in.mp4": url}, "out.mp4"))
        whole = min(time.monotonic() - began, 1.0)
        for number in range(20):
            task_id = service.register(COPY, {"in.mp4": url}, "out.mp4")
            time.sleep(whole * (8 + number) / 24)  # from when it is about to begin until it is over
            answer = service.cancel(task_id)
            task = service.ended(task_id)
            ends.append((answer.status_code, task["status"], len(task["outputs"])))
        seconds_until(lambda: not workers(service), most=WITHIN)
        objects = leftovers.objects(service.data_dir)
    print(ends)
    assert set(ends) <= {(202, "canceled", 0), (409, "completed", 1)}
    assert len(objects) == 1 + sum(outputs for _, _, outputs in ends)


@pytest.mark.parametrize("stage", ["downloading", "transcoding"])
def test_worker_that_nobody_told_learns_from_its_heartbeat(source: SourceServer, tmp_path: Path, stage: str) -> None:
    # given a worker that nobody but the store can reach
    data_dir = tmp_path / "data"
    env = {"DATA_DIR": str(data_dir), "ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8"}
    settings = Settings.from_env(env)
    services = replace(wiring.services(settings, {}), dispatcher=RecordingDispatcher())
    path, command = ("/silent?untold", COPY) if stage == "downloading" else (f"/media/{CLIP}?untold", ENDLESS)
    wanted = Registration(command=command, input_files={"in.mp4": source.url + path}, output_files=("out.mp4",))
    now = datetime.now(UTC)
    task = register(services.store, wanted, settings=settings, task_id=str(uuid4()), correlation_id="c", now=now).task
    execute(services, task.task_id, now=now)
    own = {**os.environ, **env, "TASK_ID": task.task_id, "PYTHONPATH": PYTHONPATH}
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, "-m", "handlers.batch_worker"], env=own, stderr=log, stdout=log)
    try:
        seconds_until(lambda: str(services.store.get(task.task_id).stage) == stage and source.asked[path], most=WITHIN)

        # when the task is canceled
        canceled = cancel(services, task.task_id, now=datetime.now(UTC))
        began = time.monotonic()

        # then it ends by itself, and leaves nothing
        assert worker.wait(WITHIN) == 0
        print(f"gone after {time.monotonic() - began:.1f} s")
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert services.store.get(task.task_id) == canceled
    assert canceled.status is Status.CANCELED
    assert (leftovers.scratch(data_dir / "scratch"), leftovers.objects(data_dir)) == ([], [])
    seconds_until(lambda: not leftovers.processes(data_dir), most=WITHIN)
    services.store.close()  # type: ignore[attr-defined]
