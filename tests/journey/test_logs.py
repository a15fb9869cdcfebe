"""What a worker keeps of an attempt, and a task's own timeout: the real service, real ffmpeg, real footage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.service import Service, running
from support.source_server import SourceServer, serving

CLIP = "bigbuckbunny.mp4"
COPY = "-i in.mp4 -c copy out.mp4"
FOREVER = "-stream_loop 10000 -i in.mp4 -vf scale=-2:120 -c:v libx264 -preset ultrafast -an out.mp4"


@pytest.fixture(scope="module")
def source() -> Iterator[SourceServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service")) as started:
        yield started


def executed(service: Service, source: SourceServer, command: str, **more: Any) -> str:
    url = f"{source.url}/media/{CLIP}?X-Signature=s3cr3t"
    body = {"command": command, "input_files": {"in.mp4": url}, "output_filename": "out.mp4", **more}
    answer = service.http.post("/ffmpeg/register", json=body, params={"execute": True})
    assert answer.status_code == 201, answer.text
    task_id: str = answer.json()["task_id"]
    return task_id


def log_of(service: Service, task_id: str) -> str:
    answer = service.http.get(f"/ffmpeg/log/{task_id}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert answer.headers["x-correlation-id"]
    text = answer.text
    assert "s3cr3t" not in text
    assert str(service.data_dir) not in text
    return text


def stored(service: Service) -> set[str]:
    root = service.data_dir / "objects" / "files"
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_completed_task_has_its_log_until_it_is_deleted(service: Service, source: SourceServer) -> None:
    task_id = executed(service, source, COPY)
    assert service.ended(task_id)["status"] == "completed"
    assert log_of(service, task_id) == f"$ ffmpeg {COPY}\nffmpeg ended with exit code 0.\n"
    assert {f"outputs/{task_id}/1/out.mp4", f"outputs/logs/{task_id}/1.log"} <= stored(service)

    assert service.http.delete(f"/ffmpeg/tasks/{task_id}").status_code == 204

    gone = service.http.get(f"/ffmpeg/log/{task_id}")
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "RESULT_GONE")
    assert [name for name in stored(service) if task_id in name] == []


def test_a_failed_task_has_all_that_ffmpeg_said(service: Service, source: SourceServer) -> None:
    task_id = executed(service, source, "-i in.mp4 -vf crop=9000:9000 out.mp4")
    error = service.ended(task_id)["error"]
    command, *said, end = log_of(service, task_id).splitlines()
    assert command.startswith("$ ffmpeg -i in.mp4 -vf crop=")
    assert end == f"ffmpeg ended with exit code {error['details']['exit_code']}."
    assert said[-len(error["details"]["log"]) :] == error["details"]["log"]
    assert service.http.get(f"/ffmpeg/result/{task_id}").status_code == 422


def test_what_never_came_to_run_has_no_log(service: Service, source: SourceServer) -> None:
    task_id = executed(service, source, COPY, input_files={"in.mp4": f"{source.url}/status/404"})
    assert service.ended(task_id)["status"] == "failed"
    for unknown, code in ((task_id, "NOT_FOUND"), ("0b9c5c3e-0000-4000-8000-000000000000", "TASK_NOT_FOUND")):
        answer = service.http.get(f"/ffmpeg/log/{unknown}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)


def test_a_task_is_held_to_its_own_timeout(service: Service, source: SourceServer) -> None:
    task_id = executed(service, source, FOREVER, timeout_seconds=1, metadata={"order": "4711"})
    task = service.ended(task_id)
    assert (task["status"], task["error"]["code"], task["attempt"]) == ("failed", "TIMED_OUT", 1)
    assert task["error"]["message"] == "ffmpeg was ended after 1 s, the most that the task may take."
    assert log_of(service, task_id).splitlines()[-1].endswith(" (timed out).")
    (listed,) = [one for one in service.http.get("/ffmpeg/tasks").json()["items"] if one["task_id"] == task_id]
    assert listed["metadata"] == task["metadata"] == {"order": "4711"}


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a card")
def test_the_log_says_why_it_was_the_cpu(service: Service, source: SourceServer) -> None:
    task_id = executed(service, source, "-i in.mp4 -t 1 -c:v h264_nvenc -an out.mp4", gpu_fallback=True)
    assert service.ended(task_id)["status"] == "completed"
    why, command, *_ = log_of(service, task_id).splitlines()
    assert why == "On the CPU, because: The command needs an NVIDIA GPU, and this worker has none."
    assert command.startswith("$ ffmpeg -i in.mp4 -t 1 -c:v libx264")
