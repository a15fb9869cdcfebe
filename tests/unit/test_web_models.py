"""The crossings between the wire and the domain."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from core import moves, presets, register
from core import task as domain
from core.destination import Destination
from core.errors import InvalidArgument
from core.ffmpeg import form
from core.task import (
    Attempt,
    Ending,
    Failure,
    FailureCode,
    Media,
    Notice,
    NoticeStatus,
    Progress,
    Status,
    Stream,
    Timings,
)
from handlers.web import models, registration, wire
from handlers.web import options as wire_options
from handlers.web.routes import poll_seconds
from support.builders import NOW, an_output, task_in

BODY: dict[str, Any] = {"command": "-i a.mp4 b.mp4", "input_files": {"a.mp4": "https://media.example.com/a"}}


DAY = timedelta(days=1)


def link(key: str) -> str:
    return f"link:{key}"


def no_uri(_: str) -> None:
    return None


def shown(task: domain.Task) -> models.Task:
    return models.shown_task(task, link=link, uri=no_uri)


def test_registration_with_one_output_becomes_the_domains() -> None:
    body = registration.Registration.model_validate({**BODY, "output_filename": "b.mp4"})
    assert body.to_domain() == register.Registration(
        command="-i a.mp4 b.mp4", input_files={"a.mp4": "https://media.example.com/a"}, output_files=("b.mp4",)
    )


def test_registration_keeps_the_order_of_its_outputs() -> None:
    body = registration.Registration.model_validate({**BODY, "output_files": ["z.mp4", "a.mp4", "m.mp4"]})
    assert body.to_domain().output_files == ("z.mp4", "a.mp4", "m.mp4")


@pytest.mark.parametrize(
    ("outputs", "field"),
    [
        ({}, "output_filename"),
        ({"output_filename": "b.mp4", "output_files": ["b.mp4"]}, "output_filename"),
        ({"output_filename": None, "output_files": None}, "output_filename"),
        ({"output_files": ["b.mp4", "b.mp4"]}, "output_files"),
    ],
)
def test_registration_wants_outputs_in_one_way(outputs: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        registration.Registration.model_validate({**BODY, **outputs}).to_domain()
    assert refused.value.details == {"field": field}


@pytest.mark.parametrize("name", ["batch_id"])
def test_registration_takes_no_field_that_is_not_there_yet(name: str) -> None:
    with pytest.raises(ValidationError):
        registration.Registration.model_validate({**BODY, "output_filename": "b.mp4", name: None})


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ({"bucket": "media-out", "prefix": "shows/42"}, Destination(bucket="media-out", prefix="shows/42")),
        ({"bucket": "media-out"}, Destination(bucket="media-out")),
        (None, None),
    ],
)
def test_registration_takes_a_destination(wanted: Any, meant: Destination | None) -> None:
    body = registration.Registration.model_validate({**BODY, "output_filename": "b.mp4", "destination": wanted})
    assert body.to_domain().destination == meant
    made = shown(replace(task_in(Status.PENDING), destination=meant)).model_dump()["destination"]
    assert made == (wanted and {"prefix": "", **wanted})


@pytest.mark.parametrize("status", list(Status))
def test_only_a_completed_task_has_links(status: Status) -> None:
    task = task_in(status)
    made = shown(replace(task, outputs=(an_output(task.task_id),)))
    assert bool(made.outputs) == bool(made.output_url) == (status is Status.COMPLETED)


def test_output_url_is_the_first_outputs() -> None:
    task = task_in(Status.COMPLETED)
    outputs = (an_output(task.task_id, filename="b.mp4", key="k/b.mp4"), an_output(task.task_id, key="k/a.mp4"))
    made = shown(replace(task, outputs=outputs, output_count=2))
    assert made.output_url == made.outputs[0].url == "link:k/b.mp4"


def test_outputs_that_were_deleted_are_counted_but_not_linked() -> None:
    task = replace(task_in(Status.COMPLETED), expires_at=NOW + DAY)
    assert (len(shown(task).outputs), shown(task).expires_at, shown(task).purged_at) == (1, NOW + DAY, None)
    made = shown(moves.purged(task, now=NOW + 2 * DAY))
    assert (made.outputs, made.output_url, made.output_count) == ((), None, 1)
    assert (made.status, made.expires_at, made.purged_at) == (Status.COMPLETED, NOW + DAY, NOW + 2 * DAY)


def test_s3_uri_is_the_object_stores() -> None:
    made = models.shown_task(task_in(Status.COMPLETED), link=link, uri=lambda key: f"s3://bucket/{key}")
    assert made.outputs[0].s3_uri == f"s3://bucket/outputs/{made.task_id}/1/output.mp4"


def test_nothing_of_a_url_is_shown_that_may_be_secret() -> None:
    url = "https://user:pass@media.example.com:8443/a%20b.mp4?X-Amz-Signature=abc#frag"
    made = shown(replace(task_in(Status.PENDING), input_files={"a.mp4": url}))
    assert made.input_files == {"a.mp4": "https://media.example.com:8443/a%20b.mp4?..."}


def test_callback_url_is_shown_without_its_query() -> None:
    made = shown(replace(task_in(Status.PENDING), callback_url="https://hooks.example.com/ended?token=s3cr3t"))
    assert made.callback_url == "https://hooks.example.com/ended?..."
    assert shown(task_in(Status.PENDING)).callback_url is None


def test_notices_are_shown_as_they_stand() -> None:
    tried = Notice(channel="webhook", tries=1, due_at=NOW, error="The receiver answered 500.")
    told = Notice(channel="event", status=NoticeStatus.DELIVERED, tries=1, delivered_at=NOW)
    assert shown(replace(task_in(Status.COMPLETED), notices=(tried, told))).model_dump()["notices"] == (
        {
            "channel": "webhook",
            "status": "pending",
            "tries": 1,
            "due_at": NOW,
            "delivered_at": None,
            "error": "The receiver answered 500.",
        },
        {
            "channel": "event",
            "status": "delivered",
            "tries": 1,
            "due_at": None,
            "delivered_at": NOW,
            "error": None,
        },
    )


def test_registration_takes_a_callback_url() -> None:
    body = registration.Registration.model_validate(
        {**BODY, "output_filename": "b.mp4", "callback_url": "https://a.b/c"}
    )
    assert body.to_domain().callback_url == "https://a.b/c"


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (models.Notice, Notice(channel="webhook", tries=3)),
        (models.Progress, Progress(percent=1.5, frame=2, fps=3.0, speed=4.0, out_time_seconds=5.0, eta_seconds=6.0)),
        (models.Stream, Stream(type="video", codec="h264", width=2, height=4, frame_rate=25.0)),
        (models.Media, Media(container="mp4", duration_seconds=1.0, streams=(Stream(type="audio", codec="aac"),))),
    ],
)
def test_nothing_that_is_known_is_left_out(model: type[wire.Wire], value: Any) -> None:
    assert set(model.model_fields) == {field.name for field in fields(value)}
    made = model.model_validate(value)
    assert all(
        getattr(made, field.name) == getattr(value, field.name) for field in fields(value) if field.name != "streams"
    )


def test_timings_tell_how_long_the_task_was_queued() -> None:
    task = replace(
        task_in(Status.RUNNING),
        queued_at=NOW,
        started_at=NOW + timedelta(seconds=1.23456),
        timings=Timings(download_seconds=2.0, transcode_seconds=3.0, upload_seconds=4.0),
    )
    assert shown(task).timings == models.Timings(
        queued_seconds=1.235, download_seconds=2.0, transcode_seconds=3.0, upload_seconds=4.0
    )
    assert shown(task_in(Status.QUEUED)).timings.queued_seconds is None


def test_timings_tell_how_long_the_newest_attempt_was_waited_for() -> None:
    lost = moves.lose(task_in(Status.RUNNING), now=NOW + timedelta(seconds=5), fence=1, gone=True)
    assert shown(lost).timings.queued_seconds == 0.0
    again = moves.claim(lost, now=NOW + timedelta(seconds=12), owner="worker-2")
    assert shown(again).timings.queued_seconds == 7.0


def test_attempts_show_all_but_the_machines() -> None:
    internal = {"owner", "job_id"}
    assert set(models.Attempt.model_fields) == {field.name for field in fields(Attempt)} - internal
    running = moves.claim(task_in(Status.QUEUED), now=NOW, owner="machine-1:17", job_id="job-17")
    made = shown(failed(running))
    assert made.attempts == (
        models.Attempt(
            number=1,
            started_at=NOW,
            finished_at=NOW,
            ending=Ending.FAILED,
            code=FailureCode.DOWNLOAD_FAILED,
            message="The source is away.",
            note=None,
        ),
    )
    assert (made.status, made.error) == (Status.QUEUED, None)
    assert "17" not in made.model_dump_json(exclude={"task_id"})


def failed(task: domain.Task) -> domain.Task:
    """Back in the queue, for another try in 20 s."""
    error = Failure.of(FailureCode.DOWNLOAD_FAILED, "The source is away.")
    return moves.fail(task, now=NOW, fence=1, error=error, timings=Timings(), retry_after=timedelta(seconds=20))


def put_off(seconds: float) -> domain.Task:
    return moves.unsubmitted(task_in(Status.QUEUED), now=NOW, delay=timedelta(seconds=seconds), reason="Too busy.")


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (task_in(Status.PENDING), 5),
        (task_in(Status.QUEUED), 5),  # about to be handed over by whoever executed it
        (moves.submitted(task_in(Status.QUEUED), now=NOW, job_id="job-1"), 5),
        (task_in(Status.RUNNING), 5),
        (moves.lose(task_in(Status.RUNNING), now=NOW, fence=1, gone=True), 5),  # due at once
        (failed(task_in(Status.RUNNING)), 20),
        (put_off(12.3), 13),
        (put_off(3), 5),
        (put_off(-60), 5),
        (put_off(3600), 30),
        (moves.submitted(failed(task_in(Status.RUNNING)), now=NOW, job_id="job-2"), 5),
    ],
)
def test_it_is_worth_asking_again_as_usual_or_after_the_next_try(task: domain.Task, expected: int) -> None:
    assert poll_seconds(task, now=NOW, usual=5) == expected


def test_queue_reason_is_shown_as_it_is() -> None:
    assert shown(put_off(10)).queue_reason == "Too busy."
    assert shown(task_in(Status.QUEUED)).queue_reason is None


def test_attempt_counts_the_claims() -> None:
    assert (shown(task_in(Status.QUEUED)).attempt, shown(task_in(Status.RUNNING)).attempt) == (0, 1)


def test_times_are_written_in_utc() -> None:
    task = replace(task_in(Status.PENDING), created_at=datetime(2026, 1, 15, 9, 30, 0, 5, tzinfo=UTC))
    assert '"created_at":"2026-01-15T09:30:00.000005Z"' in shown(task).model_dump_json()
    elsewhere = replace(task, created_at=datetime(2026, 1, 15, 11, 30, tzinfo=timezone(timedelta(hours=2))))
    assert '"created_at":"2026-01-15T09:30:00Z"' in shown(elsewhere).model_dump_json()


ONE = {"input_files": BODY["input_files"], "output_filename": "b.mp4"}


def test_options_become_the_domains() -> None:
    video = {"codec": "h264", "crf": 20, "fps": "25", "scale": {"width": 640}, "preset": 5, "bitrate": None}
    body = registration.Registration.model_validate(
        {**ONE, "options": {"video": video, "audio": None, "trim": {"start": 1.5}, "extra_args": ["-shortest"]}}
    )
    assert body.to_domain().options == form.Options(
        video=form.Video(codec="h264", crf=20, fps="25", scale=form.Size(width=640), preset=5),
        audio=None,
        trim=form.Trim(start=1.5),
        extra_args=("-shortest",),
    )


@pytest.mark.parametrize("options", [{}, {"video": {}, "audio": {}, "trim": None, "container": None}])
def test_options_that_are_left_out_are_those_of_the_domain(options: dict[str, Any]) -> None:
    body = registration.Registration.model_validate({**ONE, "options": options})
    assert body.to_domain() == register.Registration(
        options=form.Options(), input_files=BODY["input_files"], output_files=("b.mp4",)
    )


@pytest.mark.parametrize("model", [(wire_options.Video, form.Video), (wire_options.Audio, form.Audio),
                                   (wire_options.Trim, form.Trim), (wire_options.Size, form.Size),
                                   (wire_options.Options, form.Options)])  # fmt: skip
def test_each_wish_has_its_field_on_the_wire(model: tuple[type[wire.Wire], type[Any]]) -> None:
    assert set(model[0].model_fields) == {field.name for field in fields(model[1])}


@pytest.mark.parametrize(
    ("ways", "field"),
    [
        ({"command": "-i a.mp4 b.mp4", "options": {}}, "command"),
        ({"command": "-i a.mp4 b.mp4", "preset": "gif"}, "command"),
        ({"options": {}, "preset": "gif"}, "command"),
        ({"options": {}, "parameters": {}}, "parameters"),
        ({"command": "-i a.mp4 b.mp4", "parameters": {"width": 5}}, "parameters"),
    ],
)
def test_a_task_is_written_in_one_way(ways: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        registration.Registration.model_validate({**ONE, **ways}).to_domain()
    assert refused.value.details == {"field": field}


def test_every_parameter_of_a_preset_is_shown() -> None:
    shown = wire_options.shown_presets(presets.shelf(None)).model_dump()["presets"]
    assert [one["name"] for one in shown] == list(presets.shelf(None))
    assert next(one for one in shown if one["name"] == "editing-proxy") == {
        "name": "editing-proxy",
        "summary": "A light copy to edit with: ProRes Proxy and PCM in MOV. Never scaled up.",
        "extensions": ("mov",),
        "gpu": False,
        "looks": None,
        "parameters": (
            {
                "name": "height",
                "type": "integer",
                "description": "The most lines that it has.",
                "default": 540,
                "least": 144,
                "most": 2160,
                "allowed": (),
            },
        ),
    }


def test_what_a_preset_looks_for_in_the_source_is_shown() -> None:
    shown = wire_options.shown_presets(presets.shelf(None)).presets
    assert {preset.name: preset.looks for preset in shown if preset.looks} == {
        "dash-ladder": "ladder",
        "hls-ladder": "ladder",
        "loudness": "loudness",
        "sprite": "sprite",
        "web-mp4-own-rate": "bitrate",
    }
