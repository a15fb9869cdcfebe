"""Validate says what register would say: of a callback_url, and of each way in which a task is written."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import urls
from core.errors import InvalidArgument, UrlNotAllowed
from core.ffmpeg.form import Options, Trim, Video
from core.local.task_store import SqliteTaskStore
from core.preview import preview
from core.register import Defaults, Registration, register
from core.settings import Settings
from support.builders import NOW

SETTINGS = Settings(webhook_secret="whsec_" + "c2VjcmV0" * 4, input_buckets=("media",), backend="aws")


def asking(callback_url: str) -> Registration:
    command = "-f lavfi -i testsrc2=d=1 out.mp4"
    return Registration(command=command, input_files={}, output_files=("out.mp4",), callback_url=callback_url)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "s3://media/key", "ftp://hooks.example.com/", "hooks"])
def test_a_callback_url_is_refused_in_the_words_of_register(url: str, tmp_path: Path) -> None:
    with closing(SqliteTaskStore(tmp_path / "tasks.db")) as store, pytest.raises(UrlNotAllowed) as refused:
        register(store, asking(url), settings=SETTINGS, task_id="t", correlation_id="c", now=NOW)
    found = preview(asking(url), policy=SETTINGS.url_policy, max_output_bytes=1000, most_seconds=60)
    assert found.command is None
    assert found.violations == ({"position": None, "token": "callback_url", "reason": refused.value.message},)


def test_a_callback_url_on_the_public_internet_is_fine() -> None:
    found = preview(
        asking("https://hooks.example.com/ended"), policy=urls.PUBLIC, max_output_bytes=1000, most_seconds=60
    )
    assert (found.command is not None, found.violations) == (True, ())


def test_a_timeout_beyond_the_services_is_refused_in_the_words_of_register(tmp_path: Path) -> None:
    wanted = replace(asking("https://hooks.example.com/ended"), timeout_seconds=61)
    settings = replace(SETTINGS, task_timeout_seconds=60)
    with closing(SqliteTaskStore(tmp_path / "tasks.db")) as store, pytest.raises(InvalidArgument) as refused:
        register(store, wanted, settings=settings, task_id="t", correlation_id="c", now=NOW)
    with pytest.raises(InvalidArgument) as previewed:
        preview(wanted, policy=urls.PUBLIC, max_output_bytes=1000, most_seconds=60)
    assert previewed.value.message == refused.value.message
    assert refused.value.details == previewed.value.details == {"field": "timeout_seconds"}


def written(**wishes: Any) -> Registration:
    return Registration(input_files={"a.mov": "https://a.example.com/a"}, output_files=("out.mp4",), **wishes)


@pytest.mark.parametrize(
    "wanted",
    [
        written(options=Options(video=Video(codec="hevc"), trim=Trim(start=5)), compute="gpu", gpu_fallback=True),
        written(preset="web-mp4-720p", parameters={"quality": "high"}),
        written(command="-i a.mov -c:v libx264 out.mp4"),
    ],
)
def test_each_way_to_write_a_task_is_previewed_as_it_is_registered(wanted: Registration, tmp_path: Path) -> None:
    with closing(SqliteTaskStore(tmp_path / "tasks.db")) as store:
        task = register(store, wanted, settings=SETTINGS, task_id="t", correlation_id="c", now=NOW).task
    found = preview(wanted, policy=SETTINGS.url_policy, max_output_bytes=1000, most_seconds=60)
    assert (found.command, found.compute, found.violations) == (task.command, task.compute, ())
    assert found.arguments[-1] == "file:./out.mp4"
    assert ("libx265" in (found.cpu_command or "")) == wanted.gpu_fallback


def test_what_extra_args_may_not_say_is_a_violation() -> None:
    wanted = written(options=Options(extra_args=("-vf", "movie=/etc/passwd")))
    found = preview(wanted, policy=urls.PUBLIC, max_output_bytes=1000, most_seconds=60)
    assert found.command is None
    assert [one["token"] for one in found.violations] == ["movie=/etc/passwd"]


def test_what_the_worker_will_make_anew_is_said_to_be_so() -> None:
    found = preview(written(preset="loudness"), policy=urls.PUBLIC, max_output_bytes=1000, most_seconds=60)
    assert "loudnorm=I=-16:TP=-1.5:LRA=11" in (found.command or "")
    assert found.warnings == (
        "The preset loudness looks at the source: this is its command for one of which nothing is known, and the "
        "worker makes another when it has probed it; the task then shows that.",
    )
    by_default = preview(
        written(), policy=urls.PUBLIC, max_output_bytes=1000, most_seconds=60, default=Defaults("loudness")
    )
    assert by_default == found
    known_at_once = preview(written(preset="web-mp4-720p"), policy=urls.PUBLIC, max_output_bytes=1000, most_seconds=60)
    assert known_at_once.warnings == ()
