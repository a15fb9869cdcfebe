"""A command for NVENC on a machine without a card: refused at once, or run in its CPU form where that is allowed."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from core import moves, wiring
from core.register import Registration, register
from core.settings import Settings
from core.task import Status
from core.worker import job, process
from support import footage
from support.service import Service, running
from support.source_server import SourceServer, serving

CLIP = "bigbuckbunny.mp4"
NVENC = "-i in.mp4 -t 1 -vf scale=-2:120 -c:v h264_nvenc -preset p2 -cq 30 -c:a copy out.mp4"
CPU = "-i in.mp4 -t 1 -vf scale=w=-2:h=120 -c:v libx264 -preset faster -crf 30 -c:a copy out.mp4"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceServer]:
    with serving(footage.made(tmp_path_factory.mktemp("media"))) as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a card")
    with running(tmp_path_factory.mktemp("service")) as started:
        yield started


def registered(service: Service, source: SourceServer, **more: Any) -> dict[str, Any]:
    body = {"command": NVENC, "input_files": {"in.mp4": f"{source.url}/media/{CLIP}"}, "output_filename": "out.mp4"}
    answer = service.http.post("/ffmpeg/register", json={**body, **more}, params={"execute": True})
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


def test_command_for_a_gpu_fails_at_once_where_there_is_none(service: Service, source: SourceServer) -> None:
    asked = registered(service, source)

    task = service.ended(asked["task_id"])

    assert (asked["compute"], task["status"], task["error"]["code"]) == ("gpu", "failed", "GPU_UNAVAILABLE")
    assert task["error"]["message"] == (
        "The command needs an NVIDIA GPU, and this worker has none. Use libx264, libx265 or libsvtav1, or allow "
        "gpu_fallback."
    )
    assert len(task["attempts"]) == 1  # this machine will have no other


@pytest.mark.parametrize("compute", ["auto", "cpu"])
def test_command_for_a_gpu_runs_on_the_cpu_where_that_is_allowed(
    service: Service, source: SourceServer, compute: str
) -> None:
    asked = registered(service, source, compute=compute, gpu_fallback=True)

    task = service.ended(asked["task_id"])

    assert task["status"] == "completed", task["error"]
    (attempt,) = task["attempts"]
    assert attempt["note"] == f"Ran on the CPU, as {CPU} - The command needs an NVIDIA GPU, and this worker has none."
    video = task["outputs"][0]["media"]["streams"][0]
    assert (video["codec"], video["height"]) == ("h264", 120)


def test_card_that_refuses_is_replaced_in_the_same_attempt(source: SourceServer, tmp_path: Path) -> None:
    settings = Settings.from_env({"DATA_DIR": str(tmp_path), "ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8"})
    services = wiring.services(settings, {})
    wanted = Registration(
        command=NVENC,
        input_files={"in.mp4": f"{source.url}/media/{CLIP}"},
        output_files=("out.mp4",),
        gpu_fallback=True,
    )
    now = datetime.now(UTC)
    task, _ = register(services.store, wanted, settings=settings, task_id="t-1", correlation_id="c", now=now)
    services.store.replace(moves.execute(task, now=now), task)

    with closing(process.start_prober()) as prober, process.canary(settings.scratch) as found:
        worker = job.Worker(
            services=services,
            settings=settings,
            ffmpeg=process.find_ffmpeg(None),
            prober=prober,
            layers=found(),
            stop=Event(),
            now=lambda: datetime.now(UTC),
            cards=("",),  # one that looks as if it could, so that only ffmpeg finds out
        )
        outcome = job.run(worker, "t-1")

    ended = services.store.get("t-1")
    assert (outcome, ended.status, ended.error) == (job.Outcome.RECORDED, Status.COMPLETED, None)
    assert len(ended.attempts) == 1
    assert (ended.attempts[0].note or "").startswith(f"Ran on the CPU, as {CPU} - ")
    assert list(settings.scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "field", "message"),
    [
        ({"compute": "cpu"}, "compute", "The command names NVENC or CUDA: set compute to gpu or auto, or gpu_fallback"),
        (
            {"gpu_fallback": True, "command": "-i in.mp4 -c:v hevc_nvenc -tune lossless out.mp4"},
            "gpu_fallback",
            "gpu_fallback cannot be had, the command has no form for the CPU: libx265 has no lossless mode",
        ),
        ({"compute": "tpu"}, "compute", "compute "),
    ],
)
def test_what_cannot_run_as_wanted_is_refused_at_register(
    service: Service, more: dict[str, Any], field: str, message: str
) -> None:
    body = {"command": NVENC, "input_files": {"in.mp4": "https://media.example/a.mp4"}, "output_filename": "out.mp4"}

    answer = service.http.post("/ffmpeg/register", json={**body, **more})

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["details"]["field"]) == ("INVALID_ARGUMENT", field)
    assert error["message"].startswith(message)


def test_validate_shows_the_cpu_form(service: Service) -> None:
    body = {"command": NVENC, "input_files": {"in.mp4": "https://media.example/a.mp4"}, "output_filename": "out.mp4"}

    with_it = service.http.post("/ffmpeg/validate", json={**body, "gpu_fallback": True}).json()
    without = service.http.post("/ffmpeg/validate", json=body).json()

    assert (with_it["compute"], with_it["cpu_command"]) == ("gpu", CPU)
    assert (without["compute"], without["cpu_command"]) == ("gpu", None)
