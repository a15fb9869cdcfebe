"""Requests that are wrong, odd or hostile, over real HTTP: each gets its status, the one error body, and no more."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from handlers.web import models, options
from handlers.web.middleware import MAX_BODY_BYTES
from support import api_server
from support.api_server import ONE_OUTPUT, Api

JSON = {"Content-Type": "application/json"}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api_server.running(Path(tmp_path_factory.mktemp("api"))) as running:
        yield running


def error_of(answer: httpx.Response) -> tuple[int, str, Any]:
    body = models.Error.model_validate_json(answer.text)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-correlation-id"]
    return answer.status_code, body.error.code, body.error.details.get("field")


def with_(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**ONE_OUTPUT, **changes}.items() if value is not ...}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (with_(command=...), "command"),
        (with_(command=5), "command"),
        (with_(command=None), "command"),
        (with_(command=["-i", "a"]), "command"),
        (with_(command=""), "command"),
        (with_(input_files=...), "input_files"),
        (with_(input_files=None), "input_files"),
        (with_(input_files=["https://media.example.com/a.mp4"]), "input_files"),
        (with_(input_files={"input.mp4": 5}), "input_files.input.mp4"),
        (with_(input_files={"input.mp4": None}), "input_files.input.mp4"),
        (with_(input_files={f"{n}.mp4": "https://media.example.com/a" for n in range(65)}), "input_files"),
        (with_(output_filename=...), "output_filename"),
        (with_(output_filename=None), "output_filename"),
        (with_(output_filename=True), "output_filename"),
        (with_(output_files=["output.mp4"]), "output_filename"),
        (with_(output_filename=..., output_files=[]), "output_files"),
        (with_(output_filename=..., output_files="output.mp4"), "output_files"),
        (with_(output_filename=..., output_files=["output.mp4", 5]), "output_files.1"),
        (with_(output_filename=..., output_files=["output.mp4", "output.mp4"]), "output_files"),
        (with_(preset="web"), "command"),  # two ways at once
        (with_(Command="x"), "Command"),
        ([ONE_OUTPUT], "body"),
        ("text", "body"),
        (None, "body"),
    ],
)
def test_register_names_the_field_that_is_wrong(api: Api, body: Any, field: str) -> None:
    answer = api.http.post("/ffmpeg/register", content=json.dumps(body), headers=JSON)
    assert error_of(answer) == (400, "INVALID_ARGUMENT", field)
    assert field in answer.json()["error"]["message"]


def wishing(**options: Any) -> dict[str, Any]:
    return with_(command=..., options=options)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (with_(options={}), "command"),
        (with_(command=..., options=[]), "options"),
        (with_(command=..., options="fast"), "options"),
        (wishing(video="h264"), "video"),
        (wishing(vidio={}), "vidio"),
        (wishing(video={"codec": 5}), "video.codec"),
        (wishing(video={"codec": "h265x"}), "video.codec"),
        (wishing(video={"crf": "23"}), "video.crf"),
        (wishing(video={"crf": 99}), "video.crf"),
        (wishing(video={"bitrate": []}), "video.bitrate"),
        (wishing(video={"bitrate": True}), "video.bitrate"),
        (wishing(video={"bitrate": "much"}), "video.bitrate"),
        (wishing(video={"scale": 720}), "video.scale"),
        (wishing(video={"scale": {"width": "720"}}), "video.scale"),
        (wishing(video={"scale": {"depth": 720}}), "video.scale"),
        (wishing(video={"scale": "721x720"}), "video.scale"),
        (wishing(video={"fps": None, "preset": {}}), "video.preset"),
        (wishing(audio={"channels": 2.5}), "audio.channels"),
        (wishing(audio={"sample_rate": 1}), "audio.sample_rate"),
        (wishing(container="avi"), "container"),
        (wishing(trim={"start": -5}), "trim.start"),
        (wishing(trim={"from": 5}), "trim.from"),
        (wishing(extra_args="-y"), "extra_args"),
        (wishing(extra_args=[5]), "extra_args.0"),
        (wishing(extra_args=["-y"] * 201), "extra_args"),
        (with_(command=..., preset="nonsense"), "preset"),
        (with_(command=..., preset=5), "preset"),
        (with_(command=..., preset="gif"), "output_filename"),
        (with_(command=..., preset="web-mp4-480p", parameters=[]), "parameters"),
        (with_(command=..., preset="web-mp4-480p", parameters={"quality": "best"}), "parameters.quality"),
        (with_(command=..., preset="web-mp4-480p", parameters={"quality": None}), "parameters.quality"),
        (with_(command=..., preset="web-mp4-480p", parameters={"crf": 5}), "parameters.crf"),
        (with_(parameters={}), "parameters"),
    ],
)
@pytest.mark.parametrize("operation", ["register", "validate"])
def test_a_wish_that_cannot_be_names_its_field(api: Api, body: Any, field: str, operation: str) -> None:
    answer = api.http.post(f"/ffmpeg/{operation}", json=body)
    assert error_of(answer) == (400, "INVALID_ARGUMENT", field)


def test_an_unsupported_codec_is_answered_with_those_there_are(api: Api) -> None:
    error = api.http.post("/ffmpeg/register", json=wishing(video={"codec": "h265x"})).json()["error"]
    assert error["message"].startswith("Unsupported video codec: h265x; use one of h264, hevc, ")
    assert {"h264", "hevc", "av1", "libx264", "hevc_nvenc", "copy"} <= set(error["details"]["allowed"])


def test_numbers_that_are_none_are_refused_and_break_nothing(api: Api) -> None:
    for text in (b"NaN", b"Infinity", b"-1e999", b"9" * 4000, b"true", b'"\\ud800"'):
        for wish in (b'{"video": {"crf": %b}}', b'{"trim": {"start": %b}}', b'{"video": {"fps": %b}}'):
            rest = b'"input_files": {"a": "https://media.example.com/a"}, "output_filename": "o.mp4"'
            body = b'{"options": ' + wish % text + b", " + rest + b"}"
            answer = api.http.post("/ffmpeg/validate", content=body, headers=JSON)
            assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT"), (wish, text)


def test_options_and_presets_are_shown_as_the_command_that_they_became(api: Api) -> None:
    for way in ({"options": {"video": {"scale": "-2:240"}}}, {"preset": "web-mp4-480p"}):
        valid = api.http.post("/ffmpeg/validate", json=with_(command=..., **way)).json()
        task = api.http.post("/ffmpeg/register", json=with_(command=..., **way)).json()
        assert (valid["valid"], valid["warnings"]) == (True, [])
        assert task["command"] == valid["command"] == api.store.get(task["task_id"]).command
        assert task["command"].startswith("-i input.mp4 -vf ")


def test_presets_are_listed_with_what_they_leave_open(api: Api) -> None:
    answer = api.http.get("/ffmpeg/presets")
    body = options.Presets.model_validate_json(answer.text)
    assert answer.status_code == 200
    assert {"web-mp4-480p", "gif", "hls-720p"} <= {preset.name for preset in body.presets}
    for preset in body.presets:
        given = {one.name: one.default for one in preset.parameters}
        asked = with_(command=..., preset=preset.name, parameters=given, output_filename=f"o.{preset.extensions[0]}")
        assert api.http.post("/ffmpeg/validate", json=asked).json()["valid"], preset.name


def test_a_command_that_reads_no_file_needs_no_input_files(api: Api) -> None:
    body = with_(command="-f lavfi -i testsrc2=d=1 output.mp4", input_files={})
    assert api.http.post("/ffmpeg/register", json=body).status_code == 201


def test_no_input_files_for_a_command_that_reads_one_is_refused(api: Api) -> None:
    answer = api.http.post("/ffmpeg/register", json=with_(input_files={}))
    assert error_of(answer) == (400, "COMMAND_NOT_ALLOWED", None)


def test_validate_gives_the_arguments_and_stores_nothing(api: Api) -> None:
    answer = api.http.post("/ffmpeg/validate", json=with_(command="-i input.mp4 -vf scale=1280:-1 output.mp4"))
    body = models.Validation.model_validate_json(answer.text)
    assert answer.status_code == 200
    assert (body.valid, body.command, body.compute) == (True, "-i input.mp4 -vf scale=1280:-1 output.mp4", "cpu")
    assert body.arguments is not None
    assert body.arguments[-5:] == ("-vf", "scale=w=1280:h=-1", "-fs", str(50 * 2**30), "file:./output.mp4")
    assert body.warnings == (
        "output.mp4 is played only when it is loaded whole: add -movflags +faststart.",
        "scale=1280:-1 may give an odd size, which yuv420p cannot have: use even numbers, and -2.",
    )
    assert body.violations == ()


def test_validate_lists_all_that_is_wrong_and_is_no_error(api: Api) -> None:
    asked = with_(command="-i input.mp4 -vf movie=x -report output.mp4", input_files={"input.mp4": "ftp://host/a"})
    answer = api.http.post("/ffmpeg/validate", json=asked)
    body = models.Validation.model_validate_json(answer.text)
    assert (answer.status_code, body.valid, body.command, body.arguments) == (200, False, None, None)
    assert [(one.position, one.token) for one in body.violations] == [
        (4, "-report"),
        (3, "movie=x"),
        (None, "input.mp4"),
    ]


def test_validate_of_a_body_without_form_is_an_error(api: Api) -> None:
    assert error_of(api.http.post("/ffmpeg/validate", json=with_(command=...))) == (400, "INVALID_ARGUMENT", "command")
    assert error_of(api.http.post("/ffmpeg/validate", content=b"{}", headers={"Content-Type": "text/plain"}))[0] == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"command": "a",}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"command": ' + b"9" * 10_000 + b"}",
        b'{"command": "\\ud800", "\\udfff": 1}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_register_refuses_what_is_not_json(api: Api, body: bytes) -> None:
    answer = api.http.post("/ffmpeg/register", content=body, headers=JSON)
    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert len(answer.text) < 1000


def test_register_refuses_another_kind_of_body(api: Api) -> None:
    text = json.dumps(ONE_OUTPUT)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", "nonsense"):
        answer = api.http.post("/ffmpeg/register", content=text, headers={"Content-Type": kind})
        assert error_of(answer) == (415, "UNSUPPORTED_MEDIA_TYPE", None), kind
    assert error_of(api.http.post("/ffmpeg/register", content=text))[0] == 415
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.example+json"):
        assert api.http.post("/ffmpeg/register", content=text, headers={"Content-Type": kind}).status_code == 201, kind


def test_register_passes_on_why_a_command_is_not_allowed(api: Api) -> None:
    answer = api.http.post("/ffmpeg/register", json=with_(command="-i /etc/passwd output.mp4"))
    assert error_of(answer)[:2] == (400, "COMMAND_NOT_ALLOWED")
    for violation in answer.json()["error"]["details"]["violations"]:
        assert set(violation) == {"position", "token", "reason"}


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://media.example.com/a", "//a", "a", "https://u:p@a.example/"]
)
def test_register_passes_on_why_a_url_is_not_allowed(api: Api, url: str) -> None:
    answer = api.http.post("/ffmpeg/register", json=with_(input_files={"input.mp4": url}))
    assert error_of(answer) == (400, "URL_NOT_ALLOWED", "input_files.input.mp4")


def test_register_keeps_every_alphabet(api: Api) -> None:
    body = {
        "command": "-i 入力.mp4 -metadata title='Ünïcödé 🎬' вихід.mp4",
        "input_files": {"入力.mp4": "https://media.example.com/a"},
        "output_filename": "вихід.mp4",
    }
    answer = api.http.post("/ffmpeg/register", json=body)
    assert answer.status_code == 201, answer.text
    assert "Ünïcödé 🎬" in answer.json()["command"]
    assert answer.json()["output_files"] == ["вихід.mp4"]


def test_a_long_name_is_echoed_in_small_pieces(api: Api) -> None:
    answer = api.http.post("/ffmpeg/register", json=with_(**{"é" * 50_000: 1}))
    assert error_of(answer)[:2] == (400, "INVALID_ARGUMENT")
    assert len(answer.json()["error"]["details"]["field"].encode()) < 200
    assert len(answer.json()["error"]["message"].encode()) < 200


def test_many_wrong_fields_are_listed_in_part(api: Api) -> None:
    answer = api.http.post("/ffmpeg/register", json=with_(**{f"x{n}": 1 for n in range(5000)}))
    assert len(answer.json()["error"]["details"]["errors"]) == 5


def test_execute_flag_must_be_a_truth_value(api: Api) -> None:
    assert error_of(api.http.post("/ffmpeg/register?execute=perhaps", json=ONE_OUTPUT)) == (
        400,
        "INVALID_ARGUMENT",
        "execute",
    )


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(api: Api) -> None:
    fits = json.dumps(ONE_OUTPUT).encode().ljust(MAX_BODY_BYTES)
    assert api.http.post("/ffmpeg/register", content=fits, headers=JSON).status_code == 201
    answer = api.http.post("/ffmpeg/register", content=fits + b" ", headers=JSON)
    assert error_of(answer) == (413, "REQUEST_TOO_LARGE", None)


def talk(api: Api, *sent: bytes) -> bytes:
    """The beginning of the answer to raw bytes, of a request that need not be complete."""
    with socket.create_connection(api.address, timeout=api_server.PATIENCE) as connection:
        for part in sent:
            connection.sendall(part)
        return connection.recv(65536)


HEAD = b"POST /ffmpeg/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_a_body_declared_too_large_is_refused_before_it_comes(api: Api) -> None:
    answer = talk(api, HEAD, b"Content-Length: 99999999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"x-correlation-id" in answer


def test_a_body_without_a_declared_length_is_refused_when_too_much_has_come(api: Api) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = talk(api, HEAD, b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 5)  # and no end
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "task_id",
    [
        "00000000-0000-4000-8000-000000000000",
        "x",
        "%00",
        "%0a",
        "..%5c",
        "%F0%9F%8E%AC",
        "%27%20OR%201=1--",
        "%ff",
        "a" * 10_000,
    ],
    ids=lambda text: text[:20],
)
def test_an_id_that_nobody_was_given_is_not_found(api: Api, task_id: str) -> None:
    assert error_of(api.http.get(f"/ffmpeg/status/{task_id}"))[:2] == (404, "TASK_NOT_FOUND")
    for operation in ("execute", "cancel", "notify"):
        assert error_of(api.http.post(f"/ffmpeg/{operation}/{task_id}"))[:2] == (404, "TASK_NOT_FOUND"), operation


@pytest.mark.parametrize(
    "path", ["/", "/ffmpeg", "/ffmpeg/register/", "/ffmpeg/status/", "/ffmpeg/status/a%2Fb", "/redoc"]
)
def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    assert error_of(api.http.get(path)) == (404, "NOT_FOUND", None)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/ffmpeg/register", "POST"),
        ("PUT", "/ffmpeg/register", "POST"),
        ("GET", "/ffmpeg/execute/x", "POST"),
        ("GET", "/ffmpeg/cancel/x", "POST"),
        ("GET", "/ffmpeg/notify/x", "POST"),
        ("DELETE", "/ffmpeg/status/x", "GET"),
        ("POST", "/ffmpeg/health", "GET"),
        ("POST", "/ffmpeg/presets", "GET"),
    ],
)
def test_another_method_is_not_allowed(api: Api, method: str, path: str, allowed: str) -> None:
    answer = api.http.request(method, path)
    assert error_of(answer) == (405, "METHOD_NOT_ALLOWED", None)
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"X-Correlation-Id": "order-1"}, "order-1"),
        ({"Client-Correlation-Id": "A.b_c:d-9"}, "A.b_c:d-9"),
        ({"X-Correlation-Id": "first", "Client-Correlation-Id": "second"}, "first"),
        ({"X-Correlation-Id": "not this one", "Client-Correlation-Id": "second"}, "second"),
        ({"X-Correlation-Id": "x" * 128}, "x" * 128),
    ],
)
def test_a_fitting_correlation_id_is_kept_with_the_task(api: Api, sent: dict[str, str], kept: str) -> None:
    answer = api.http.post("/ffmpeg/register", json=ONE_OUTPUT, headers=sent)
    assert (answer.headers["x-correlation-id"], answer.json()["correlation_id"]) == (kept, kept)
    assert api.store.get(answer.json()["task_id"]).correlation_id == kept


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\tb", 'a"b', "é", "a,b", "${jndi:x}"])
def test_any_other_correlation_id_is_replaced(api: Api, given: str | None) -> None:
    headers = {} if given is None else {b"X-Correlation-Id": given.encode()}
    answers = [api.http.get("/ffmpeg/nothing", headers=headers) for _ in range(2)]
    ids = [answer.headers["x-correlation-id"] for answer in answers]
    assert all(UUID.fullmatch(text) for text in ids)
    assert ids[0] != ids[1]
