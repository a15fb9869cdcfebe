"""What a worker runs for a task that has a recipe, and what it makes of a row that nobody should have written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import presets
from core.ffmpeg import recipe
from core.ffmpeg.probe import Probed
from core.task import FailureCode, Media, Stream, Task
from core.worker import planned
from core.worker.failed import TaskFailed
from support.builders import a_task

PICTURE = Stream(type="video", codec="h264", width=640, height=360, frame_rate=25.0)
SOUND = Stream(type="audio", codec="aac", channels=2)
FILM = Media(container="mp4", duration_seconds=9.5, streams=(PICTURE, SOUND))
SUMMARY = (
    "Integrated loudness:\n I: -20.0 LUFS\n Threshold: -30.0 LUFS\n Loudness range:\n LRA: 1.0 LU\n"
    " True peak:\n Peak: -9.0 dBFS\n"
).splitlines()


def a_task_of(name: str, output: str, **given: Any) -> Task:
    kept = recipe.of(presets.shelf(None)[name], given, gpu=False)
    inputs = {"in.mp4": "https://media.example/in.mp4"}
    return replace(a_task(), command="-i in.mp4 nothing.mp4", input_files=inputs, output_files=(output,), recipe=kept)


def made(task: Task, media: Media | None = FILM, said: Any = None) -> str:
    assert task.recipe
    return planned.made(task, task.recipe, {"in.mp4": media} if media else {}, said).text


def test_the_recipe_goes_before_the_command_of_an_attempt_before() -> None:
    task = a_task_of("hls-ladder", "m.m3u8")
    again = replace(task, command=made(task))
    assert "-var_stream_map" in again.command
    assert "-var_stream_map" not in planned.known(again).text
    assert made(again) == again.command


def test_a_task_without_a_recipe_runs_its_command() -> None:
    task = replace(a_task_of("gif", "o.mp4"), command="-i in.mp4 o.mp4", recipe=None)
    assert (task.recipe, planned.known(task).text) == (None, "-i in.mp4 o.mp4")


def test_a_source_that_cannot_be_probed_gets_the_command_for_any() -> None:
    task = a_task_of("hls-ladder", "m.m3u8")
    assert made(task, None) == planned.known(task).text


@pytest.mark.parametrize(
    ("container", "width", "seconds", "begin"),
    [
        ("image2", 640, 0.04, ""),
        ("png_pipe", 640, None, ""),
        ("webp_pipe", 640, None, ""),
        ("gif", 640, 0.04, ""),
        ("webp_pipe", None, None, "-ss 3 "),  # one that moves
        ("gif", 640, 4.0, "-ss 3 "),
        ("mp4", 640, 0.04, "-ss 3 "),
    ],
)
def test_one_picture_is_taken_from_its_beginning(
    container: str, width: int | None, seconds: float | None, begin: str
) -> None:
    shown = replace(PICTURE, width=width, height=width)
    media = Media(container=container, duration_seconds=seconds, streams=(shown,))
    command = made(a_task_of("gif", "o.gif", start=3, duration=2), media)
    assert command.startswith(f"{begin}-t 2 -i in.mp4 -vf ")


def test_what_the_measuring_run_said_is_corrected() -> None:
    task = a_task_of("loudness", "o.mp4")
    assert task.recipe
    measuring = planned.measuring(task, task.recipe)
    assert measuring
    assert measuring.text.endswith("ebur128=peak=true:framelog=quiet -c:a pcm_s16le -f crc o.mp4")
    assert ":measured_I=-20:measured_TP=-9:measured_LRA=1:" in made(task, said=SUMMARY)
    with pytest.raises(TaskFailed) as failed:
        made(task, said=["[info] nothing was heard"])
    assert failed.value.failure.message == "How loud in.mp4 is could not be measured."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "looks ="}, "The preset cannot be used: it is no TOML"),
        ({"text": "x = 1"}, "The preset cannot be used: the preset has the unknown field x"),
        ({"parameters": {"most_lines": 9000}}, "The preset cannot be used: parameters.most_lines must be"),
        ({"was": "-f hls", "now": "-report -f hls"}, "The command is not allowed: -report is not allowed"),
        ({"was": "-i {input}", "now": "-i /etc/passwd -i {input}"}, "The command is not allowed: "),
        ({"was": "{output}", "now": "x.mp4 {output}"}, "The command is not allowed: "),
    ],
)
def test_a_stored_recipe_is_judged_before_and_after_the_source_is_known(changes: Any, message: str) -> None:
    task = a_task_of("hls-ladder", "m.m3u8")
    assert task.recipe
    if "was" in changes:
        changes = {"text": task.recipe.text.replace(changes["was"], changes["now"])}
    bad = replace(task, recipe=replace(task.recipe, **changes))
    for run in (lambda: planned.known(bad), lambda: made(bad)):
        with pytest.raises(TaskFailed) as failed:
            run()
        assert failed.value.failure.code is FailureCode.TRANSCODE_FAILED
        assert failed.value.failure.message.startswith(message)


def test_a_measuring_run_of_a_stored_recipe_is_judged_too() -> None:
    task = a_task_of("loudness", "o.mp4")
    assert task.recipe
    bad = replace(task.recipe, text=task.recipe.text.replace("-f crc", "-report -f crc"))
    with pytest.raises(TaskFailed, match="-report is not allowed"):
        planned.measuring(task, bad)


def sprite(path: Path, name: str) -> Probed:
    return Probed(media=Media(container="image2", streams=(replace(PICTURE, width=320, height=90),)), packets=True)


def test_the_cues_are_written_beside_the_sprite(tmp_path: Path) -> None:
    (tmp_path / "s.jpg").write_bytes(b"x")
    planned.write_beside(a_task_of("sprite", "s.jpg"), tmp_path, {"in.mp4": FILM}, sprite)
    assert (tmp_path / "s.vtt").read_text() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:05.000\ns.jpg#xywh=0,0,160,90\n\n"
        "00:00:05.000 --> 00:00:09.500\ns.jpg#xywh=160,0,160,90\n"
    )


@pytest.mark.parametrize("name", ["gif", "hls-ladder"])
def test_nothing_is_written_beside_other_outputs(tmp_path: Path, name: str) -> None:
    output = f"o.{presets.shelf(None)[name].extensions[0]}"
    (tmp_path / output).write_bytes(b"x")
    planned.write_beside(a_task_of(name, output), tmp_path, {"in.mp4": FILM}, sprite)
    assert [path.name for path in tmp_path.iterdir()] == [output]


def test_nothing_is_written_beside_what_is_missing_or_through_a_link(tmp_path: Path) -> None:
    task, outside = a_task_of("sprite", "s.jpg"), tmp_path / "outside"
    folder = tmp_path / "o"
    folder.mkdir()
    planned.write_beside(task, folder, {"in.mp4": FILM}, sprite)
    assert list(folder.iterdir()) == []
    (folder / "s.jpg").write_bytes(b"x")
    (folder / "s.vtt").symlink_to(outside)
    with pytest.raises(FileExistsError):
        planned.write_beside(task, folder, {"in.mp4": FILM}, sprite)
    assert not outside.exists()
