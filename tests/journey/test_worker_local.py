"""Whole paths on one machine: the real service, real workers, real ffmpeg, real footage from a real server.

What goes in is a request; what is checked is what the caller sees, the bytes behind the link, and what is left behind.
"""

import hashlib
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.moves import LEASE
from core.task import Ending
from support import footage, processes
from support.leftovers import seconds_until
from support.service import Service, ServiceFailed, running
from support.source_server import SourceServer, serving

CLIP = "bigbuckbunny.mp4"
TRANSCODE = "-i in.mp4 -vf scale=-2:240 -c:v libx264 -preset ultrafast -c:a aac -ac 2 out.mp4"
# Of the source that its first reader gets without an end, and of the clip that others get at once.
STRETCH = "-i in.mp4 -vf scale=-2:90,fps=240 -c:v libx264 -preset ultrafast -threads 1 out.mp4"
TURNS = f"turns/endless.mp4/{CLIP}"


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = footage.made(tmp_path_factory.mktemp("media"))
    footage.endless(folder / "endless.mp4")
    footage.run("-i", str(folder / "endless.mp4"), "-c", "copy", "-f", "h264", str(folder / "endless.h264"))
    return folder


@pytest.fixture(scope="module")
def source(media: Path) -> Iterator[SourceServer]:
    with serving(media) as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    # What is to be tried again is not before the last test is over.
    with running(tmp_path_factory.mktemp("service"), RETRY_DELAY_SECONDS="3600") as started:
        yield started


def streams(output: dict[str, Any]) -> list[tuple[str, str]]:
    return [(stream["type"], stream["codec"]) for stream in output["media"]["streams"]]


def scratch(service: Service) -> list[Path]:
    folder = service.data_dir / "scratch"
    return list(folder.iterdir()) if folder.exists() else []


def test_transcode_gives_a_playable_file_and_a_true_record(service: Service, source: SourceServer) -> None:
    task_id = service.register(TRANSCODE, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4", execute=False)
    assert service.status(task_id)["status"] == "pending"
    assert service.http.post(f"/ffmpeg/execute/{task_id}").json()["status"] == "queued"

    seen = list(service.follow(task_id, every=0.01))

    task = seen[-1]
    assert task["status"] == "completed", task["error"]
    percents = [state["progress"]["percent"] or 0 for state in seen]
    assert percents == sorted(percents)
    assert all(percent < 100 for percent in percents[:-1] if seen[percents.index(percent)]["status"] != "completed")
    assert percents[-1] == 100
    (output,) = task["outputs"]
    assert (output["filename"], streams(output)) == ("out.mp4", [("video", "h264"), ("audio", "aac")])
    video, audio = output["media"]["streams"]
    assert (video["width"], video["height"], video["frame_rate"], audio["channels"]) == (426, 240, 25.0, 2)
    assert output["media"]["duration_seconds"] == pytest.approx(5.31, abs=0.1)
    body = httpx.get(task["output_url"], trust_env=False).content
    assert (len(body), hashlib.sha256(body).hexdigest()) == (output["size_bytes"], output["sha256"])
    assert all(task["timings"][f"{name}_seconds"] >= 0 for name in ("queued", "download", "transcode", "upload"))
    assert scratch(service) == []


def test_link_lets_a_player_seek(service: Service, source: SourceServer) -> None:
    task_id = service.register("-i in.mp4 -c copy out.mp4", {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4")
    task = service.ended(task_id)

    part = httpx.get(task["output_url"], headers={"Range": "bytes=100-199"}, trust_env=False)

    size = task["outputs"][0]["size_bytes"]
    assert (part.status_code, len(part.content)) == (206, 100)
    assert part.headers["content-range"] == f"bytes 100-199/{size}"


@pytest.mark.parametrize(
    ("command", "inputs", "outputs", "expected"),
    [
        pytest.param(
            "-i in.mp4 -map 0:v -c:v libx264 -preset ultrafast -s 320x180 small.mp4 -map 0:a -c:a libopus sound.opus",
            {"in.mp4": CLIP},
            ["small.mp4", "sound.opus"],
            {"small.mp4": [("video", "h264")], "sound.opus": [("audio", "opus")]},
            id="two outputs",
        ),
        pytest.param(
            "-i a.mp4 -i b.m4a -map 0:v -map 1:a -c copy out.mkv",
            {"a.mp4": CLIP, "b.m4a": "audio only.m4a"},
            ["out.mkv"],
            {"out.mkv": [("video", "h264"), ("audio", "aac")]},
            id="two inputs",
        ),
        pytest.param(
            "-i in.mp4 -c:v libx264 -preset ultrafast out.mp4",
            {"in.mp4": "no audio.mp4"},
            ["out.mp4"],
            {"out.mp4": [("video", "h264")]},
            id="a video without audio",
        ),
        pytest.param(
            "-i in.h264 -c:v libx264 -preset ultrafast out.mp4",
            {"in.h264": "raw.h264"},
            ["out.mp4"],
            {"out.mp4": [("video", "h264")]},
            id="a video of unknown duration",
        ),
        pytest.param(
            "-i in.m4a -c:a libmp3lame out.mp3",
            {"in.m4a": "audio only.m4a"},
            ["out.mp3"],
            {"out.mp3": [("audio", "mp3")]},
            id="audio only",
        ),
        pytest.param(
            "-i in.mp4 -vn -c:a flac out.flac",
            {"in.mp4": CLIP},
            ["out.flac"],
            {"out.flac": [("audio", "flac")]},
            id="5.1 audio",
        ),
        pytest.param(
            "-i in.mkv -c:v libx264 -preset ultrafast out.mp4",
            {"in.mkv": "not square.mkv"},
            ["out.mp4"],
            {"out.mp4": [("video", "h264")]},
            id="non-square pixels",
        ),
        pytest.param(
            "-i 'mein Übungsfilm 映画.mp4' -c copy 'резултат один.mp4'",
            {"mein Übungsfilm 映画.mp4": CLIP},
            ["резултат один.mp4"],
            {"резултат один.mp4": [("video", "h264"), ("audio", "aac")]},
            id="names with spaces and other letters",
        ),
        pytest.param(
            '-i "it\'s.mp4" -c copy "that\'s.mp4"',
            {"it's.mp4": CLIP},
            ["that's.mp4"],
            {"that's.mp4": [("video", "h264"), ("audio", "aac")]},
            id="names with quotes",
        ),
        pytest.param(
            "-i in.mp4 -vf fps=1 thumb_%03d.jpg",
            {"in.mp4": CLIP},
            ["thumb_%03d.jpg"],
            {f"thumb_{number:03d}.jpg": [("video", "mjpeg")] for number in range(1, 6)},
            id="an image sequence",
        ),
    ],
)
def test_transcode_of(
    service: Service,
    source: SourceServer,
    command: str,
    inputs: dict[str, str],
    outputs: list[str],
    expected: dict[str, list[tuple[str, str]]],
) -> None:
    urls = {name: f"{source.url}/media/{file}".replace(" ", "%20") for name, file in inputs.items()}

    task = service.ended(service.register(command, urls, *outputs))

    assert task["status"] == "completed", task["error"]
    found = {output["filename"]: streams(output) for output in task["outputs"]}
    assert list(found.items())[: len(expected)] == list(expected.items())


def test_many_outputs_are_all_stored_and_the_first_of_them_listed(service: Service, source: SourceServer) -> None:
    command = "-stream_loop 3 -i in.mp4 -vf scale=64:36 -c:v mjpeg -fps_mode passthrough f%d.jpg"
    task = service.ended(service.register(command, {"in.mp4": f"{source.url}/media/{CLIP}"}, "f%d.jpg"))

    assert task["status"] == "completed", task["error"]
    described = [output["media"] is not None for output in task["outputs"]]
    assert described == [True] * 100 + [False] * 300
    assert task["output_count"] == 528
    stored = list((service.data_dir / "objects" / "files").rglob(f"*/{task['task_id']}/*/*"))
    assert len(stored) == 528


def test_playlist_is_stored_with_its_segments_and_plays(service: Service, source: SourceServer, tmp_path: Path) -> None:
    command = (
        "-i in.mp4 -c:v libx264 -preset ultrafast -g 25 -c:a aac -ac 2 -f hls -hls_time 1 -hls_playlist_type vod "
        "-hls_segment_filename seg_%03d.ts out.m3u8"
    )
    task = service.ended(service.register(command, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.m3u8"))

    assert task["status"] == "completed", task["error"]
    names = [output["filename"] for output in task["outputs"]]
    assert names[0] == "out.m3u8"
    assert names[1:] == [f"seg_{number:03d}.ts" for number in range(len(names) - 1)]
    assert len(names) >= 5
    # a player resolves the segments' names against the playlist's link
    seconds = footage.played_seconds(task["output_url"])
    assert seconds == pytest.approx(5.3, abs=0.3)


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("status/404", "DOWNLOAD_FAILED", "The source of in.mp4 answered 404 (Not Found)."),
        ("status/403?X-Amz-Signature=secret", "SOURCE_EXPIRED", "its signed link has most likely expired"),
        ("html", "MEDIA_INVALID", "The input in.mp4 is not media: the source sent a web page."),
        ("json", "MEDIA_INVALID", "The input in.mp4 is not media: the source sent a JSON document."),
        ("empty", "MEDIA_INVALID", "The input in.mp4 is empty (0 bytes)."),
        ("media/truncated.mp4", "MEDIA_INVALID", "in.mp4"),
        ("media/noise.mp4", "MEDIA_INVALID", "in.mp4"),
    ],
)
def test_bad_source_fails_the_task_with_a_clear_word(
    service: Service, source: SourceServer, path: str, code: str, words: str
) -> None:
    task = service.ended(service.register(TRANSCODE, {"in.mp4": f"{source.url}/{path}"}, "out.mp4"))

    assert (task["status"], task["error"]["code"]) == ("failed", code)
    assert words in task["error"]["message"]
    assert task["outputs"] == []
    assert "secret" not in str(task)
    assert scratch(service) == []
    assert str(service.data_dir) not in str(task)


def test_first_bad_input_ends_the_download_of_the_others(service: Service, source: SourceServer) -> None:
    urls = {"a.mp4": f"{source.url}/endless", "b.mp4": f"{source.url}/status/404"}

    task = service.ended(service.register("-i a.mp4 -i b.mp4 -map 0:v -map 1:a out.mp4", urls, "out.mp4"))

    assert task["error"]["message"] == "The source of b.mp4 answered 404 (Not Found)."


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("-i in.mp4 -c:v nosuchcodec out.mp4", "TRANSCODE_FAILED", "nosuchcodec"),
        ("-i in.mp4 -ss 100 -c copy out.mp4", "OUTPUT_MISSING", "out.mp4"),
        ("-i in.mp4 -map 0:s out.mp4", "TRANSCODE_FAILED", ""),
    ],
)
def test_bad_command_fails_the_task_with_ffmpegs_own_words(
    service: Service, source: SourceServer, command: str, code: str, words: str
) -> None:
    task = service.ended(service.register(command, {"in.mp4": f"{source.url}/media/{CLIP}"}, "out.mp4"))

    assert (task["status"], task["error"]["code"]) == ("failed", code), task
    assert words in task["error"]["message"]
    if code != "OUTPUT_MISSING":
        assert task["error"]["details"]["log"]
    assert "/in/i0" not in str(task)
    assert str(service.data_dir) not in str(task)


def test_failure_that_may_pass_is_to_be_tried_again(service: Service, source: SourceServer) -> None:
    task_id = service.register(TRANSCODE, {"in.mp4": f"{source.url}/always-cut/{CLIP}"}, "out.mp4")

    assert any(task["status"] == "queued" and task["attempt"] for task in service.follow(task_id))
    task = service.stored(task_id)
    (attempt,) = task.attempts

    assert task.dispatch_due_at
    assert attempt.finished_at
    assert timedelta(minutes=30) <= task.dispatch_due_at - attempt.finished_at <= timedelta(minutes=90)
    assert (attempt.ending, attempt.code) == (Ending.FAILED, "DOWNLOAD_FAILED")
    assert "broke off before all of it had arrived" in str(attempt.message)
    assert scratch(service) == []


def test_source_of_unknown_duration_shows_frames_and_no_percent(service: Service, source: SourceServer) -> None:
    # given more frames than are encoded in minutes
    command = "-i in.h264 -vf scale=-2:720 -c:v libx264 -preset veryslow -threads 1 out.mp4"
    task_id = service.register(command, {"in.h264": f"{source.url}/media/endless.h264"}, "out.mp4")

    task = next(task for task in service.follow(task_id) if task["progress"]["frame"])

    assert (task["status"], task["progress"]["percent"]) == ("running", None)
    service.cancel(task_id)


def test_second_execute_does_nothing_and_an_ended_task_refuses(service: Service, source: SourceServer) -> None:
    path = f"/kept/{CLIP}?once"
    task_id = service.register(TRANSCODE, {"in.mp4": source.url + path}, "out.mp4")
    answers = [service.http.post(f"/ffmpeg/execute/{task_id}").status_code for _ in range(4)]
    service.until(task_id, "downloading")
    answers.append(service.http.post(f"/ffmpeg/execute/{task_id}").status_code)

    source.let_go(path)
    task = service.ended(task_id)
    again = service.http.post(f"/ffmpeg/execute/{task_id}")

    assert answers == [202] * 5
    assert (task["status"], task["attempt"], source.asked[path]) == ("completed", 1, 1)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "TASK_ENDED")


def children(pid: int) -> set[int]:
    """All living descendants of a process."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = processes.children(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def encoding(pid: int) -> set[int]:
    """All living descendants of a process, of which one is ffmpeg."""
    seconds_until(lambda: any(processes.read(child, "comm").startswith("ffmpeg") for child in children(pid)), most=60)
    return children(pid)


def until_gone(pids: set[int]) -> None:
    seconds_until(lambda: not any(processes.read(pid, "cmdline") for pid in pids), most=60)


def test_tasks_beyond_the_limit_wait_in_order(source: SourceServer, tmp_path: Path) -> None:
    with running(tmp_path / "service", MAX_CONCURRENT_TASKS="1") as service:
        urls = {"in.mp4": f"{source.url}/media/{CLIP}"}
        ids = [service.register(TRANSCODE, urls, "out.mp4") for _ in range(4)]

        tasks = [service.ended(task_id) for task_id in ids]

    assert [task["status"] for task in tasks] == ["completed"] * 4
    times = [(task["started_at"], task["finished_at"]) for task in tasks]
    assert all(before[1] <= after[0] for before, after in pairwise(times))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_tasks_survive_the_service(source: SourceServer, tmp_path: Path, number: signal.Signals) -> None:
    urls = {"in.mp4": f"{source.url}/media/{CLIP}"}
    # given a service with one task running and one waiting
    with running(tmp_path / "service", MAX_CONCURRENT_TASKS="1") as service:
        ids = [
            service.register(STRETCH, {"in.mp4": f"{source.url}/{TURNS}?{number}"}, "out.mp4"),
            service.register(TRANSCODE, urls, "out.mp4"),
        ]
        service.until(ids[0], "transcoding")
        family = encoding(service.process.pid)

        # when it ends, politely or not
        service.process.send_signal(number)
        service.process.wait(30)

        # then nothing of it is left running, and nothing on its disk
        until_gone(family)

    # and when it is started again, both tasks are done
    with running(tmp_path / "service", MAX_CONCURRENT_TASKS="2") as service:
        tasks = [service.ended(task_id) for task_id in ids]
        assert [task["status"] for task in tasks] == ["completed"] * 2
        assert [task["attempt"] for task in tasks] == [2, 1]
        assert scratch(service) == []


def test_killed_worker_is_replaced(source: SourceServer, tmp_path: Path) -> None:
    with running(tmp_path / "service") as service:
        task_id = service.register(STRETCH, {"in.mp4": f"{source.url}/{TURNS}"}, "out.mp4")
        service.until(task_id, "transcoding")
        (worker,) = processes.children(service.process.pid)
        family = encoding(worker)

        killed_at = datetime.now(UTC)
        os.kill(worker, signal.SIGKILL)

        until_gone(family)
        task = service.ended(task_id)
        assert (task["status"], task["attempt"]) == ("completed", 2)
        first, second = service.stored(task_id).attempts
        assert (first.ending, second.ending) == (Ending.LOST, Ending.COMPLETED)
        assert second.started_at - killed_at < LEASE / 2  # and not when its lease is over
        # what the killed one left on the disk is gone too
        assert scratch(service) == []


def test_output_that_is_cut_off_at_its_most_bytes_is_no_success(source: SourceServer, tmp_path: Path) -> None:
    with running(tmp_path / "service", MAX_OUTPUT_BYTES="500000") as service:
        urls = {"in.mp4": f"{source.url}/media/{CLIP}"}
        task = service.ended(service.register("-i in.mp4 -c copy out.mkv", urls, "out.mkv"))

    assert (task["status"], task["error"]["code"]) == ("failed", "TRANSCODE_FAILED")
    assert task["error"]["message"].startswith("out.mkv came to 500000 bytes, the most that an output may have")


def test_validate_goes_by_the_settings_that_register_and_the_worker_go_by(tmp_path: Path) -> None:
    body = {"command": "-i a.mp4 b.mp4", "input_files": {"a.mp4": "http://127.0.0.1:9/a"}, "output_filename": "b.mp4"}
    with running(tmp_path / "service", MAX_OUTPUT_BYTES="500000") as service:
        found = service.http.post("/ffmpeg/validate", json=body).json()
        registered = service.http.post("/ffmpeg/register", json=body)
    with running(tmp_path / "service", ALLOW_PRIVATE_NETWORKS="") as strict:
        refused = strict.http.post("/ffmpeg/validate", json=body).json()
        not_registered = strict.http.post("/ffmpeg/register", json=body)

    assert (found["valid"], registered.status_code) == (True, 201)
    assert found["arguments"][-3:] == ["-fs", "500000", "file:./b.mp4"]
    assert (refused["valid"], not_registered.status_code) == (False, 400)
    assert [violation["token"] for violation in refused["violations"]] == ["a.mp4"]


def test_second_service_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(ServiceFailed, match="another service uses the folder")
    with running(tmp_path / "service"), refused, running(tmp_path / "service"):
        pass


def test_service_without_a_usable_ffmpeg_says_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(ServiceFailed, match="set FFMPEG_PATH to an ffmpeg"),
        running(tmp_path, FFMPEG_PATH="/bin/false"),
    ):
        pass


def test_service_names_all_bad_settings_at_once(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed) as caught, running(tmp_path, PORT="no", MAX_CONCURRENT_TASKS="0", SANDBOX="?"):
        pass

    assert all(name in str(caught.value) for name in ("PORT='no'", "MAX_CONCURRENT_TASKS='0'", "SANDBOX='?'"))


def test_service_takes_nothing_from_its_own_machine_unless_told_to(tmp_path: Path, source: SourceServer) -> None:
    with running(tmp_path / "service", ALLOW_PRIVATE_NETWORKS="") as service:
        for url, words in {
            f"{source.url}/media/{CLIP}": "has an address that is not on the public internet.",
            "s3://media/in.mp4": "is in a bucket that is not open to this service;",
        }.items():
            body = {"command": TRANSCODE, "input_files": {"in.mp4": url}, "output_files": ["out.mp4"]}
            answer = service.http.post("/ffmpeg/register", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "URL_NOT_ALLOWED")
            assert answer.json()["error"]["message"].startswith(f"The URL of input_files.in.mp4 {words}")
