"""Register, on a real SQLite store: above all that one idempotency key is one task."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core import moves
from core.destination import Destination
from core.errors import CommandNotAllowed, IdempotencyConflict, InvalidArgument, TaskNotFound, UrlNotAllowed
from core.ffmpeg.form import Options, Video
from core.ports import Services, TaskStore
from core.register import MAX_KEY_LENGTH, Registered, Registration, register
from core.settings import Settings
from core.task import Notice, Status, Task
from support.builders import NOW

WANTED = Registration(
    command="-i in.mp4 -c:v libx264 out.mp4",
    input_files={"in.mp4": "https://media.example/in.mp4"},
    output_files=("out.mp4",),
)
SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
CALLBACK = "https://callbacks.example/ended"
SHOW = Destination(bucket="media-out", prefix="shows/42")


def registered(
    store: TaskStore, wanted: Registration = WANTED, *, key: str | None = None, settings: Settings | None = None,
    task_id: str = "given", **more: Any,
) -> Registered:  # fmt: skip
    arguments: dict[str, Any] = {"settings": settings or Settings(), "correlation_id": "corr", "now": NOW} | more
    return register(store, wanted, task_id=task_id, idempotency_key=key, **arguments)


def test_register_stores_a_pending_task(services: Services) -> None:
    result = registered(services.store)
    expected = Task(
        task_id="given",
        status=Status.PENDING,
        command=WANTED.command,
        input_files=WANTED.input_files,
        output_files=WANTED.output_files,
        correlation_id="corr",
        created_at=NOW,
        version=1,
        compute="cpu",
        result_ttl_seconds=24 * 3600,
    )
    assert result == Registered(expected, again=False)
    assert services.store.get("given") == expected


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (replace(WANTED, command="-i in.mp4 -f lavfi out.mp4 && rm"), CommandNotAllowed),
        (replace(WANTED, input_files={"in.mp4": "file:///etc/passwd"}), UrlNotAllowed),
        (replace(WANTED, callback_url=CALLBACK), InvalidArgument),  # nobody could tell that it is ours
        (replace(WANTED, destination=SHOW), InvalidArgument),  # none is listed
    ],
)
@pytest.mark.parametrize("key", [None, "key"])
def test_register_stores_nothing_of_what_it_refuses(
    services: Services, wanted: Registration, error: type[Exception], key: str | None
) -> None:
    with pytest.raises(error):
        registered(services.store, wanted, key=key)
    assert services.store.due(NOW + timedelta(days=365), limit=10, live=False) == []
    assert not registered(services.store, key=key).again


def test_a_callback_is_refused_without_a_secret_to_sign_with(services: Services) -> None:
    with pytest.raises(InvalidArgument) as caught:
        registered(services.store, replace(WANTED, callback_url=CALLBACK))
    assert "WEBHOOK_SECRET" in caught.value.message
    assert caught.value.details == {"field": "callback_url"}


def test_a_destination_is_kept_with_the_task_and_its_outputs_for_ever(services: Services) -> None:
    settings = Settings(destinations=(Destination(bucket="media-out", prefix="shows"),))
    task = registered(services.store, replace(WANTED, destination=SHOW), settings=settings).task
    assert services.store.get(task.task_id) == task
    assert (task.destination, task.result_ttl_seconds) == (SHOW, None)
    own = registered(services.store, settings=settings, task_id="other").task
    assert (own.destination, own.result_ttl_seconds) == (None, 24 * 3600)


@pytest.mark.parametrize("url", ["http://10.0.0.1/hook", "s3://bucket/hook", "ftp://callbacks.example/"])
def test_a_callback_is_judged_as_a_url_that_we_call(services: Services, url: str) -> None:
    settings = Settings(webhook_secret=SECRET)
    with pytest.raises(UrlNotAllowed) as caught:
        registered(services.store, replace(WANTED, callback_url=url), settings=settings)
    assert caught.value.details["field"] == "callback_url"


def test_a_task_knows_from_the_beginning_whom_to_tell(services: Services) -> None:
    wanted = replace(WANTED, callback_url=CALLBACK)
    settings = Settings(webhook_secret=SECRET, event_bus="bus")
    task = registered(services.store, wanted, settings=settings).task
    assert task.callback_url == CALLBACK
    assert task.notices == (Notice(channel="webhook"), Notice(channel="event"))
    assert registered(services.store, task_id="other").task.notices == ()


def test_the_same_key_with_the_same_request_gives_the_same_task(services: Services) -> None:
    first = registered(services.store, key="key")
    again = registered(services.store, key="key", task_id="another", now=NOW + timedelta(days=1))
    assert (first.again, again) == (False, Registered(first.task, again=True))
    assert first.task.task_id != "given"
    assert [task.task_id for task in _all(services.store)] == [first.task.task_id]


def test_the_same_key_gives_the_task_as_it_is_by_now(services: Services) -> None:
    first = registered(services.store, key="key").task
    canceled = services.store.replace(moves.cancel(first, now=NOW), first)
    assert registered(services.store, key="key") == Registered(canceled, again=True)


@pytest.mark.parametrize(
    "other",
    [
        replace(WANTED, command="-i in.mp4 -c:v libx265 out.mp4"),
        replace(WANTED, input_files={"in.mp4": "https://media.example/in.mp4?v=2"}),
        replace(WANTED, output_files=("out.mp4", "more.mp4")),
        replace(WANTED, callback_url=CALLBACK),
        replace(WANTED, destination=SHOW),
    ],
)
def test_the_same_key_with_another_request_is_a_conflict(services: Services, other: Registration) -> None:
    first = registered(services.store, key="key").task
    with pytest.raises(IdempotencyConflict) as caught:
        registered(services.store, other, key="key")
    assert caught.value.details == {"task_id": first.task_id}
    assert services.store.get(first.task_id) == first


def test_the_same_key_is_answered_alike_when_the_request_would_be_refused_by_now(services: Services) -> None:
    """The caller asks what became of the request that was accepted then."""
    wanted = replace(WANTED, callback_url=CALLBACK)
    first = registered(services.store, wanted, key="key", settings=Settings(webhook_secret=SECRET))
    assert registered(services.store, wanted, key="key") == Registered(first.task, again=True)


def test_names_in_another_order_are_the_same_request(services: Services) -> None:
    inputs = {"in.mp4": "https://media.example/in.mp4", "b.mp4": "https://media.example/b.mp4"}
    command = "-i in.mp4 -i b.mp4 -map 0:v -map 1:a out.mp4"
    one = replace(WANTED, command=command, input_files=inputs)
    other = replace(one, input_files=dict(reversed(inputs.items())))
    first = registered(services.store, one, key="key")
    assert registered(services.store, other, key="key") == Registered(first.task, again=True)


def test_different_keys_are_different_tasks(services: Services) -> None:
    ids = {registered(services.store, key=key).task.task_id for key in ("a", "A", "a ", "b" * MAX_KEY_LENGTH)}
    assert len(ids) == 4


@pytest.mark.parametrize("key", ["", "b" * (MAX_KEY_LENGTH + 1), "schlüssel", "a\nb", "a\x00"])
def test_a_key_that_no_header_can_hold_is_refused(services: Services, key: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        registered(services.store, key=key)
    assert caught.value.details == {"field": "Idempotency-Key"}


def test_a_key_is_free_again_when_its_task_is_forgotten(services: Services) -> None:
    first = registered(services.store, key="key").task
    services.store.forget(first)
    with pytest.raises(TaskNotFound):
        services.store.get(first.task_id)
    assert not registered(services.store, replace(WANTED, output_files=("out.mp4",)), key="key").again


def test_twenty_calls_at_once_with_one_key_give_one_task(services: Services) -> None:
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda n: registered(services.store, key="key", task_id=f"t{n}"), range(20)))
    assert len({result.task.task_id for result in results}) == 1
    assert sorted(result.again for result in results) == [False] + [True] * 19
    assert _all(services.store) == [results[0].task]


def _all(store: TaskStore) -> list[Task]:
    return list(store.due(NOW + timedelta(days=365), limit=100, live=False))


NVENC = replace(WANTED, command="-i in.mp4 -c:v h264_nvenc out.mp4")


@pytest.mark.parametrize(
    ("wanted", "compute"),
    [
        (WANTED, "cpu"),
        (replace(WANTED, compute="cpu"), "cpu"),
        (replace(WANTED, compute="gpu"), "gpu"),
        (NVENC, "gpu"),
        (replace(NVENC, compute="gpu"), "gpu"),
        (replace(NVENC, gpu_fallback=True), "gpu"),
        (replace(NVENC, gpu_fallback=True, compute="cpu"), "cpu"),
    ],
)
def test_a_task_goes_to_the_workers_that_it_needs_or_names(
    services: Services, wanted: Registration, compute: str
) -> None:
    assert registered(services.store, wanted).task.compute == compute


WITH_OPTIONS = replace(WANTED, command="", options=Options(video=Video(codec="h264"), audio=None))
WITH_PRESET = replace(WANTED, command="", preset="web-mp4-480p", parameters={"quality": "small"})


@pytest.mark.parametrize(
    ("wanted", "command", "place"),
    [
        (WITH_OPTIONS, "-c:v libx264 -crf 23 -pix_fmt yuv420p -an -movflags +faststart out.mp4", "cpu"),
        (
            replace(WITH_OPTIONS, compute="gpu"),
            "-c:v h264_nvenc -rc vbr -cq 24 -b:v 0 -pix_fmt yuv420p -an -movflags +faststart out.mp4",
            "gpu",
        ),
        (
            WITH_PRESET,
            "-c:v libx264 -crf 28 -pix_fmt yuv420p -c:a aac -b:a 128k -ac 2 -movflags +faststart out.mp4",
            "cpu",
        ),
        (
            replace(WITH_PRESET, compute="gpu", gpu_fallback=True),
            "-c:v h264_nvenc -rc vbr -cq 29 -b:v 0 -pix_fmt yuv420p -c:a aac -b:a 128k -ac 2 "
            "-movflags +faststart out.mp4",
            "gpu",
        ),
    ],
)
def test_a_task_shows_the_command_that_its_options_or_preset_became(
    services: Services, wanted: Registration, command: str, place: str
) -> None:
    task = registered(services.store, wanted).task
    assert task.command.startswith("-i in.mp4 -vf ")
    assert task.command.endswith(f" {command}")
    assert task.compute == place


@pytest.mark.parametrize("wanted", [WITH_OPTIONS, WITH_PRESET])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"input_files": {}}, "input_files"),
        ({"input_files": {"a.mp4": "https://media.example/a", "b.mp4": "https://media.example/b"}}, "input_files"),
        ({"output_files": ("a.mp4", "b.mp4")}, "output_files"),
        ({"output_files": ("out.txt",)}, "output_filename"),
    ],
)
def test_options_and_presets_are_for_one_input_and_one_output(
    services: Services, wanted: Registration, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        registered(services.store, replace(wanted, **change))
    assert caught.value.details["field"] == field


def test_names_cannot_say_anything_to_ffmpeg(services: Services) -> None:
    wanted = replace(WITH_OPTIONS, input_files={"-y": "https://media.example/a"})
    with pytest.raises(CommandNotAllowed):
        registered(services.store, wanted)


def test_a_preset_of_the_operators_own_is_found(services: Services, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(
        'summary = "Tiny."\nextensions = ["mp4"]\ncommand = "-i {input} -vf scale=64:-2 {output}"\n'
    )
    wanted = replace(WITH_PRESET, preset="tiny", parameters=None)
    task = registered(services.store, wanted, settings=Settings(presets_dir=tmp_path)).task
    assert task.command == "-i in.mp4 -vf scale=64:-2 out.mp4"
    with pytest.raises(InvalidArgument) as caught:
        registered(services.store, wanted)
    assert caught.value.details["field"] == "preset"


def test_a_key_belongs_to_the_wishes_and_not_to_what_they_become(services: Services) -> None:
    first = registered(services.store, WITH_PRESET, key="key").task
    assert registered(services.store, WITH_PRESET, key="key") == Registered(first, again=True)
    for other in (replace(WITH_PRESET, parameters={}), replace(WANTED, command=first.command)):
        with pytest.raises(IdempotencyConflict):
            registered(services.store, other, key="key")
