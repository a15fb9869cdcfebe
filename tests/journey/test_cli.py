"""The command line as a person uses it: on a terminal, with the real service, and with Ctrl-C in every stage.

Where there is no service yet is in test_cli_alone.py.
"""

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import client, footage, leftovers, source_server
from support import service as local_service
from support.client import Session
from support.footage import CLIP
from support.leftovers import seconds_until
from support.service import Service
from support.upload_front import UploadFront, before

MOST = 60.0  # seconds; a quiet machine needs two or three
LONG = "-f lavfi -i testsrc2=s=320x180:r=30:d=36000 -c:v libx264 -threads 1 o.mp4"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with local_service.running(tmp_path_factory.mktemp("service"), MAX_CONCURRENT_TASKS="2") as service:
        yield service


@dataclass
class Desk:
    """Somebody's folder, with a video in it, and the service as they reach it."""

    folder: Path
    front: UploadFront
    env: dict[str, str]
    service: Service

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def tasks(self) -> list[str]:
        return [task["task_id"] for task in self.service.http.get("/ffmpeg/tasks").json()["items"]]

    def newest(self) -> dict[str, Any]:
        return self.service.status(self.tasks()[0])

    def run(self, *arguments: str) -> Any:
        return client.on_terminal("run", *arguments, cwd=self.folder, env=self.env)

    def call(self, *arguments: str, **given: Any) -> "subprocess.CompletedProcess[str]":
        return client.called(*arguments, cwd=self.folder, env=self.env, **given)


@pytest.fixture
def desk(service: Service, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "talk.mp4").write_bytes(CLIP.read_bytes())
    with before(str(service.http.base_url), tmp_path / "front", part_size_bytes=300_000) as front:
        env = client.environment(tmp_path, FFMPEG_TASK_SERVER=front.url)
        yield Desk(folder, front, env, service)


SMALL = ("--video-codec", "libx264", "--video-preset", "ultrafast", "--scale", "-2:120", "--no-audio")


def test_run_sends_a_file_and_stores_the_result(desk: Desk) -> None:
    desk.front.faults.pace = 100_000

    with desk.run("-i", "talk.mp4", *SMALL, "--crf", "30", "--output", "o.mp4") as session:
        session.until("sending")
        desk.front.faults.pace = 0
        code = session.ended()

    assert code == 0, session.shown
    assert "o.mp4: " in session.shown
    task = desk.newest()
    assert hashlib.sha256((desk.folder / "o.mp4").read_bytes()).hexdigest() == task["outputs"][0]["sha256"]
    assert "-crf 30" in task["command"]
    assert desk.left() == ["o.mp4", "talk.mp4"]
    assert desk.front.uploads == {}  # what was sent for this call is deleted


def test_run_sends_a_file_by_the_uploads_of_the_service_itself(desk: Desk) -> None:
    url = str(desk.service.http.base_url)

    done = desk.call("run", "-i", "talk.mp4", *SMALL, "--output", "o.mp4", "--server", url, "--json")

    assert done.returncode == 0, done.stdout
    shown = client.answer(done)
    upload_id = shown["task"]["input_files"]["talk.mp4"].removeprefix("upload:")
    assert desk.service.http.get(f"/ffmpeg/uploads/{upload_id}").status_code == 404
    assert desk.left() == ["o.mp4", "talk.mp4"]


def test_run_without_a_terminal_writes_lines_and_json_is_one_document(desk: Desk) -> None:
    source = "-i", "talk.mp4", *SMALL

    plain = desk.call("run", *source, "--output", "o.mp4")
    shown = desk.call("run", *source, "--output", "p.mp4", "--json")

    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.startswith("o.mp4: ")
    assert "\x1b" not in plain.stderr
    assert plain.stderr.splitlines()[0].startswith("talk.mp4: sending")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert client.answer(shown)["files"][0]["path"] == "p.mp4"
    assert client.answer(shown)["task"]["status"] == "completed"


def test_run_with_several_inputs_and_outputs(desk: Desk) -> None:
    (desk.folder / "words.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nHello\n")
    command = (
        "-i talk.mp4 -t 1 -vf scale=160:90,subtitles=words.srt -an a.mp4 -frames:v 3 -vf scale=80:-2 thumb_%03d.jpg"
    )

    done = desk.call(
        "run",
        "-i",
        "talk.mp4",
        "-i",
        "words.srt",
        "--command",
        command,
        "--output",
        "a.mp4",
        "--output",
        "thumb_%03d.jpg",
    )

    assert done.returncode == 0, done.stderr
    assert desk.left() == ["a.mp4", "talk.mp4", "thumb_001.jpg", "thumb_002.jpg", "thumb_003.jpg", "words.srt"]


def test_failure_shows_the_sentence_and_the_end_of_the_log(desk: Desk) -> None:
    command = "-i {input} -vf scale=100:100,crop=2000:2000 {output}"

    done = desk.call("run", "-i", "talk.mp4", "--command", command, "--output", "o.mp4")

    assert done.returncode == 1
    assert "ffmpeg-task: ffmpeg failed: Invalid too big or non positive size" in done.stderr
    assert "The end of ffmpeg's log:" in done.stderr
    assert desk.newest()["task_id"] in done.stderr
    assert desk.left() == ["talk.mp4"]
    assert desk.front.uploads == {}


def test_command_that_is_not_allowed_is_refused_before_anything_is_sent(desk: Desk) -> None:
    done = desk.call("run", "-i", "talk.mp4", "--command", "-i talk.mp4 -nope o.mp4", "--output", "o.mp4")

    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("ffmpeg-task: -nope is no option of ffmpeg")
    assert desk.front.asked == ["POST /ffmpeg/validate"]


def test_ctrl_c_while_sending_leaves_nothing_on_either_side(desk: Desk) -> None:
    desk.front.faults.pace = 2_000  # a part takes minutes
    with (desk.folder / "talk.mp4").open("ab") as file:
        file.write(bytes(5_000_000))  # more than the kernel takes from us at once
    tasks_before = desk.tasks()

    with desk.run("-i", "talk.mp4", *SMALL, "--output", "o.mp4") as session:
        session.until("B/s")
        began = time.monotonic()
        session.press_ctrl_c()
        code = session.ended()

    assert code == 130
    assert time.monotonic() - began < MOST
    assert desk.left() == ["talk.mp4"]
    assert desk.front.uploads == {}
    assert desk.tasks() == tasks_before


def interrupted(desk: Desk, session: Session) -> None:
    session.press_ctrl_c()
    code = session.ended()
    assert code == 130, session.shown
    task = desk.newest()
    assert task["status"] == "canceled"
    assert f"Canceled task {task['task_id']}." in session.shown
    assert desk.left() == ["talk.mp4"]
    assert desk.front.uploads == {}


def test_ctrl_c_in_the_queue_cancels_the_task(desk: Desk) -> None:
    others = [desk.service.register(LONG, {}, "o.mp4") for _ in range(2)]
    try:
        seconds_until(lambda: all(desk.service.status(one)["stage"] for one in others), most=MOST)
        with desk.run("-i", "talk.mp4", *SMALL, "--output", "o.mp4") as session:
            session.until("queued")
            interrupted(desk, session)
    finally:
        for one in others:
            desk.service.cancel(one)


def test_ctrl_c_while_encoding_cancels_the_task_and_ends_ffmpeg(desk: Desk) -> None:
    with desk.run("--command", LONG, "--output", "o.mp4") as session:
        session.until("transcoding")
        assert workers(desk, desk.newest()["task_id"])
        interrupted(desk, session)

    seconds_until(lambda: not workers(desk, desk.newest()["task_id"]), most=MOST)


def test_sigterm_cancels_as_ctrl_c_does(desk: Desk) -> None:
    with desk.run("--command", LONG, "--output", "o.mp4") as session:
        session.until("transcoding")
        session.process.terminate()
        code = session.ended()

    assert (code, desk.newest()["status"]) == (128 + signal.SIGTERM, "canceled")


def workers(desk: Desk, task_id: str) -> list[str]:
    return [name for name in leftovers.scratch(desk.service.data_dir / "scratch") if task_id in name]


def test_ctrl_c_while_fetching_leaves_no_file_and_the_result_can_be_had(desk: Desk) -> None:
    desk.front.faults.pace = 5_000  # it takes minutes
    command = "-f lavfi -i testsrc2=s=640x360:d=5 -c:v libx264 -preset ultrafast -crf 10 o.mp4"

    with desk.run("--command", command, "--output", "o.mp4") as session:
        session.until("fetching")
        session.press_ctrl_c()
        code = session.ended()

    task = desk.newest()
    assert (code, task["status"]) == (130, "completed")
    assert f"ffmpeg-task result {task['task_id']}" in session.shown
    assert desk.left() == ["talk.mp4"]
    desk.front.faults.pace = 0
    assert desk.call("result", task["task_id"]).returncode == 0
    assert desk.left() == ["o.mp4", "talk.mp4"]


def test_second_ctrl_c_leaves_at_once(desk: Desk) -> None:
    with desk.run("--command", LONG, "--output", "o.mp4") as session:
        session.until("transcoding")
        desk.front.faults.hung = True  # the cancel waits for its answer
        session.press_ctrl_c()
        seconds_until(lambda: "POST /ffmpeg/cancel/ID" in desk.front.asked, most=MOST)
        session.press_ctrl_c()
        code = session.ended()

    assert code == 130
    assert "Interrupted." not in session.shown  # as it would say at the end of the wait
    desk.service.cancel(desk.newest()["task_id"])


def test_run_survives_a_restart_of_the_service(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "desk"
    folder.mkdir()
    with source_server.serving() as source, before("http://127.0.0.1:1", tmp_path / "front") as front:
        wanted = "-i", f"{source.url}/held/{CLIP.name}", *SMALL, "--output", "o.mp4"
        env = client.environment(tmp_path, FFMPEG_TASK_SERVER=front.url)
        with local_service.running(data) as first:
            front.service = str(first.http.base_url)
            with client.on_terminal("run", *wanted, cwd=folder, env=env) as session:
                session.until("downloading")
                first.process.send_signal(signal.SIGTERM)
                first.process.wait(MOST)
                front.faults.away = True  # also when somebody else gets its port
                session.until("Trying again")
                with local_service.running(data, RETRY_DELAY_SECONDS="0") as again:
                    front.service = str(again.http.base_url)
                    front.faults.away = False
                    code = session.ended()

    assert code == 0, session.shown
    assert (folder / "o.mp4").stat().st_size > 0


def test_batch_goes_on_after_a_failure_and_sums_up(desk: Desk) -> None:
    (desk.folder / "web").mkdir()
    (desk.folder / "talk.mp4").rename(desk.folder / "a.mov")
    (desk.folder / "b.mov").write_bytes(b"no video at all" * 100)
    footage.run("-i", str(CLIP), "-t", "1", "-c", "copy", str(desk.folder / "c.mov"))

    done = desk.call("batch", "*.mov", "--output", "web/{stem}.mp4", *SMALL, "--jobs", "2")

    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert sorted(line.partition(":")[0] for line in lines[:3]) == [
        "failed  b.mov",
        "ok      web/a.mp4",
        "ok      web/c.mp4",
    ]
    assert lines[3] == "2 completed, 1 failed"
    assert lines[4].startswith("  b.mov: ")
    assert sorted(path.name for path in (desk.folder / "web").iterdir()) == ["a.mp4", "c.mp4"]
    again = desk.call("batch", "a.mov", "c.mov", "--output", "web/{stem}.mp4", *SMALL, "--skip-existing")
    assert (again.returncode, again.stdout) == (0, "2 skipped\n")


def test_ctrl_c_in_a_batch_cancels_all_that_is_under_way(desk: Desk) -> None:
    (desk.folder / "other.mp4").write_bytes(CLIP.read_bytes())
    endless = "-stream_loop 10000 -i {input} -vf scale=320:-2 -c:v libx264 -threads 1 {output}"

    with client.on_terminal(
        "batch",
        "talk.mp4",
        "other.mp4",
        "--output",
        "{stem}-o.mp4",
        "--command",
        endless,
        cwd=desk.folder,
        env=desk.env,
    ) as session:
        session.until(lambda shown: len(running_now(desk)) == 2)
        ids = running_now(desk)
        session.press_ctrl_c()
        code = session.ended()

    assert code == 130, session.shown
    assert [desk.service.status(one)["status"] for one in ids] == ["canceled", "canceled"]
    assert desk.left() == ["other.mp4", "talk.mp4"]
    assert desk.front.uploads == {}


def running_now(desk: Desk) -> list[str]:
    page = desk.service.http.get("/ffmpeg/tasks", params={"status": "running"}).json()
    return [task["task_id"] for task in page["items"] if task["stage"] == "transcoding"]


def test_answer_that_nobody_reads_ends_it_without_a_word(desk: Desk) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*client.COMMAND, "presets"],
            cwd=desk.folder,
            env=desk.env,
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=30,
        )
    finally:
        os.close(write)

    assert (done.returncode, done.stderr) == (1, b"")
