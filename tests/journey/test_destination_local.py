"""A destination on one machine, from the request over HTTP to the file in its folder: real workers, real ffmpeg."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import leftovers, service
from support.service import Service
from support.source_server import SourceServer, serving

LISTED = {"DESTINATIONS": "media-out,partner-bucket/incoming"}
SHOW = {"bucket": "media-out", "prefix": "shows/42 ünï"}
TRANSCODE = "-i in.mp4 -t 1 -vf scale=-2:120 -c:v libx264 -preset ultrafast -an out.mp4"
SEGMENTS = "-i in.mp4 -t 3 -vf scale=-2:120 -c:v libx264 -preset ultrafast -g 25 -an -f hls -hls_time 1 out.m3u8"


@pytest.fixture(scope="module")
def source() -> Iterator[SourceServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service.running(tmp_path_factory.mktemp("service"), **LISTED, RETRY_DELAY_SECONDS="0") as started:
        yield started


def body(source: SourceServer, destination: Any, command: str = TRANSCODE, output: str = "out.mp4") -> dict[str, Any]:
    inputs = {"in.mp4": f"{source.url}/media/bigbuckbunny.mp4"}
    return {"command": command, "input_files": inputs, "output_filename": output, "destination": destination}


def executed(running: Service, wanted: dict[str, Any]) -> str:
    answer = running.http.post("/ffmpeg/register?execute=true", json=wanted)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["task_id"])


def files(data_dir: Path, bucket: str) -> set[str]:
    folder = data_dir / "destinations" / bucket / "files"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_outputs_are_delivered_and_deleted_where_the_caller_wants_them(running: Service, source: SourceServer) -> None:
    task_id = executed(running, body(source, SHOW))
    task = running.ended(task_id)

    # delivered, and shown with a link that works
    assert (task["status"], task["error"], task["expires_at"]) == ("completed", None, None)
    assert task["destination"] == SHOW
    key = f"{SHOW['prefix']}/{task_id}/1/out.mp4"
    assert key in files(running.data_dir, "media-out")
    content = running.http.get(task["output_url"]).content
    assert hashlib.sha256(content).hexdigest() == task["outputs"][0]["sha256"]
    redirect = running.http.get(f"/ffmpeg/result/{task_id}")
    assert (redirect.status_code, running.http.get(redirect.headers["location"]).content) == (307, content)
    # while our own bucket has the log and nothing else
    assert [one for one in leftovers.objects(running.data_dir) if task_id in one] == []
    assert running.http.get(f"/ffmpeg/log/{task_id}").status_code == 200

    assert running.http.delete(f"/ffmpeg/tasks/{task_id}").status_code == 204

    assert key not in files(running.data_dir, "media-out")
    assert running.http.get(task["output_url"]).status_code == 404
    assert running.http.get(f"/ffmpeg/result/{task_id}").status_code == 410
    assert running.http.get(f"/ffmpeg/log/{task_id}").status_code == 410


def test_a_playlist_in_a_destination_plays_by_its_relative_names(running: Service, source: SourceServer) -> None:
    place = {"bucket": "partner-bucket", "prefix": "incoming/a/b"}
    task = running.ended(executed(running, body(source, place, SEGMENTS, "out.m3u8")))
    assert task["status"] == "completed", task["error"]
    link = httpx.URL(task["output_url"])
    segments = [line for line in running.http.get(link).text.splitlines() if not line.startswith("#")]
    assert len(segments) >= 2
    assert {running.http.get(link.join(name)).status_code for name in segments} == {200}
    (unlisted, *_) = segments
    assert running.http.get(f"/ffmpeg/result/{task['task_id']}/{unlisted}").status_code == 307


def test_an_attempt_that_fails_while_it_stores_leaves_nothing_there(running: Service, source: SourceServer) -> None:
    # given a playlist that cannot be stored by the first attempt, when its segments have been
    wanted = body(source, SHOW, SEGMENTS, "out.m3u8")
    task_id = running.http.post("/ffmpeg/register", json=wanted).json()["task_id"]
    about = running.data_dir / "destinations" / "media-out" / "about"
    (about / SHOW["prefix"] / task_id / "1" / "out.m3u8").mkdir(parents=True)

    running.execute(task_id)
    task = running.ended(task_id)

    assert (task["status"], [attempt["code"] for attempt in task["attempts"]]) == ("completed", ["UPLOAD_FAILED", None])
    folder = f"{SHOW['prefix']}/{task_id}"
    left = {one for one in files(running.data_dir, "media-out") if one.startswith(folder)}
    assert left == {f"{folder}/2/{output['filename']}" for output in task["outputs"]}


@pytest.mark.parametrize("operation", ["register", "validate"])
@pytest.mark.parametrize(
    ("destination", "field"),
    [
        ({"bucket": "somebody-elses"}, "destination.bucket"),
        ({"bucket": "partner-bucket", "prefix": "outgoing"}, "destination.prefix"),
        ({"bucket": "media-out", "prefix": "a/../b"}, "destination.prefix"),
        ({"prefix": "a"}, "destination.bucket"),
        ("media-out", "destination"),
    ],
)
def test_a_destination_that_may_not_be_is_refused_with_its_field(
    running: Service, source: SourceServer, operation: str, destination: Any, field: str
) -> None:
    answer = running.http.post(f"/ffmpeg/{operation}", json=body(source, destination))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["details"]["field"]) == (400, "INVALID_ARGUMENT", field)
    assert error["message"].startswith(f"{field} ")
    assert "media-out" not in error["message"]


def test_a_destination_that_may_be_is_valid(running: Service, source: SourceServer) -> None:
    answer = running.http.post("/ffmpeg/validate", json=body(source, SHOW))
    assert (answer.status_code, answer.json()["valid"]) == (200, True)


def test_a_destination_that_was_withdrawn_fails_the_task_at_once(source: SourceServer, tmp_path: Path) -> None:
    # given a task that was registered while its destination was listed
    with service.running(tmp_path, **LISTED) as before:
        answer = before.http.post("/ffmpeg/register", json=body(source, SHOW))
        task_id = answer.json()["task_id"]

    # when it is executed without it
    with service.running(tmp_path, DESTINATIONS="partner-bucket") as after:
        after.execute(task_id)
        task = after.ended(task_id)

    # then it has failed for good, before anything was fetched or stored
    message = "The outputs cannot be stored: destination.bucket is no bucket that this service stores to; its operator "
    assert (task["status"], task["attempt"], task["error"]) == (
        "failed",
        1,
        {
            "code": "UPLOAD_FAILED",
            "message": f"{message}lists those in DESTINATIONS.",
            "retryable": False,
            "details": {"field": "destination.bucket"},
        },
    )
    assert files(tmp_path, "media-out") == set()
