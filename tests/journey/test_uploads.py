"""Uploads over real HTTP: what callers see, whose they are, and a real task on a file that was sent."""

import json
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import pytest

from core import uploads as verbs
from core.aws.record_store import DynamoRecordStore
from core.local.record_store import SqliteRecordStore
from core.ports import RecordStore
from core.settings import Settings
from core.upload import dumps, loads
from handlers.web.uploads import Pace, Upload
from support import api_server, lambda_process, moto_server, service, signed_in
from support.api_server import Api
from support.lambda_process import LambdaProcess
from support.leftovers import seconds_until
from support.moto_server import Moto
from support.service import Service
from support.signed_in import SignedIn
from support.source_server import MEDIA
from support.submitted import EVENTS, PLACEHOLDER, call, executed, job_of, run

CLIP = (MEDIA / "bigbuckbunny.mp4").read_bytes()
TRANSCODE = "-i in.mp4 -vf scale=-2:240 -c:v libx264 -preset ultrafast -c:a aac -ac 2 out.mp4"
MIB = 1024**2
MOST = 60.0  # seconds, for what a quiet machine does at once
ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    settings = Settings(upload_origins=(ORIGIN,))
    with api_server.running(tmp_path_factory.mktemp("api"), settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIn]:
    with signed_in.running(tmp_path_factory.mktemp("keys")) as running:
        yield running


def begun(http: httpx.Client, size_bytes: int = 10) -> dict[str, Any]:
    answer = http.post("/ffmpeg/uploads", json={"filename": "a.mp4", "size_bytes": size_bytes})
    assert answer.status_code == 201, answer.text
    Upload.model_validate_json(answer.text)
    return dict(answer.json())


def put(url: str, content: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    return httpx.put(url, content=content, headers=headers, trust_env=False, timeout=180)


def send(upload: dict[str, Any], content: bytes, *numbers: int) -> list[int]:
    """The parts, or those with the numbers, in the order given."""
    size = upload["part_size_bytes"]
    chosen = [upload["parts"][number - 1] for number in numbers] or upload["parts"]

    def sent(part: dict[str, Any]) -> int:
        start = (part["number"] - 1) * size
        body = content[start : start + part["size_bytes"]]
        return put(part["url"], body, **part["headers"]).status_code

    return [sent(part) for part in chosen]


def completed(http: httpx.Client, content: bytes) -> dict[str, Any]:
    upload = begun(http, len(content))
    assert set(send(upload, content)) == {200}
    answer = http.post(f"/ffmpeg/uploads/{upload['upload_id']}/complete", json={})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def drafts(api: Api, upload: dict[str, Any]) -> list[Path]:
    """What there is of parts that are on their way."""
    return list((api.data / "uploads" / upload["upload_id"]).rglob("*.draft"))


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_upload_in_parts_is_followed_and_completed(api: Api) -> None:
    content = random.Random(0).randbytes(130 * MIB)
    answer = api.http.post("/ffmpeg/uploads", json={"filename": "ü 1.mp4", "size_bytes": len(content)})
    upload = answer.json()
    place = f"/ffmpeg/uploads/{upload['upload_id']}"
    assert (answer.status_code, answer.headers["location"], answer.headers["cache-control"]) == (201, place, "no-store")
    known = {
        "upload_id": upload["upload_id"],
        "input": f"upload:{upload['upload_id']}",
        "status": "open",
        "filename": "ü 1.mp4",
        "size_bytes": 130 * MIB,
        "part_size_bytes": 64 * MIB,
        "expires_at": upload["expires_at"],
    }
    sizes = {1: 64 * MIB, 2: 64 * MIB, 3: 2 * MIB}
    assert {name: value for name, value in upload.items() if name != "parts"} == known
    assert [(part["number"], part["size_bytes"], part["received"], part["headers"]) for part in upload["parts"]] == [
        (number, size, False, {}) for number, size in sizes.items()
    ]

    assert send(upload, content, 3) == [200]
    shown = api.http.get(place).json()
    assert [(part["received"], part["url"] is None) for part in shown["parts"]] == [(False, False)] * 2 + [(True, True)]
    refused = api.http.post(f"{place}/complete", json={})
    assert error_of(refused) == (409, "UPLOAD_INCOMPLETE")
    assert refused.json()["error"]["details"] == {"upload_id": upload["upload_id"], "missing_parts": [1, 2]}
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda number: send(shown, content, number), (2, 1))) == [[200], [200]]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: api.http.post(f"{place}/complete", json={}), range(4)))

    whole: list[dict[str, Any]] = [
        {"number": n, "size_bytes": size, "received": True, "url": None, "headers": {}} for n, size in sizes.items()
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    done = {**known, "status": "complete", "parts": whole, "expires_at": answers[0].json()["expires_at"]}
    assert [answer.json() for answer in answers] == [done] * 4
    assert api.http.get(place).json() == done == api.http.post(f"{place}/complete").json()
    assert done["expires_at"] >= upload["expires_at"]
    assert send(upload, content, 3) == [404]
    store = api.services.uploads
    assert store
    assert store.get_file(upload["upload_id"], api.data / "got", max_bytes=10**9, on_piece=lambda: None)
    assert (api.data / "got").read_bytes() == content


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"filename": "a", "size_bytes": 0}, (400, "INVALID_ARGUMENT")),
        ({"filename": "a", "size_bytes": -1}, (400, "INVALID_ARGUMENT")),
        ({"filename": "a", "size_bytes": 1.5}, (400, "INVALID_ARGUMENT")),
        ({"filename": "a", "size_bytes": "1"}, (400, "INVALID_ARGUMENT")),
        ({"filename": "a"}, (400, "INVALID_ARGUMENT")),
        ({"filename": "", "size_bytes": 1}, (400, "INVALID_ARGUMENT")),
        ({"filename": "a" * 256, "size_bytes": 1}, (400, "INVALID_ARGUMENT")),
        ({"filename": "a", "size_bytes": 20 * 1024**3 + 1}, (413, "FILE_TOO_LARGE")),
        ({"filename": "a", "size_bytes": 10**40}, (413, "FILE_TOO_LARGE")),
    ],
)
def test_upload_that_cannot_be_is_refused(api: Api, body: dict[str, Any], expected: tuple[int, str]) -> None:
    assert error_of(api.http.post("/ffmpeg/uploads", json=body)) == expected


def test_largest_upload_has_an_answer_of_modest_size(api: Api) -> None:
    answer = api.http.post("/ffmpeg/uploads", json={"filename": "a", "size_bytes": 20 * 1024**3})
    assert (answer.status_code, len(answer.json()["parts"]), len(answer.content) < 100_000) == (201, 199, True)


def test_what_the_service_takes_of_an_input_is_what_it_takes_of_an_upload(tmp_path: Path) -> None:
    with api_server.running(tmp_path, settings=Settings(max_input_bytes=1000)) as api:
        refused = api.http.post("/ffmpeg/uploads", json={"filename": "a", "size_bytes": 1001})
        assert error_of(refused) == (413, "FILE_TOO_LARGE")
        assert refused.json()["error"]["details"] == {"size_bytes": 1001, "max_bytes": 1000}
        assert begun(api.http, 1000)


def test_deleted_upload_is_gone_and_what_is_on_its_way_does_not_arrive(api: Api) -> None:
    upload = begun(api.http, 5 * MIB)
    place = f"/ffmpeg/uploads/{upload['upload_id']}"
    deleted: list[int] = []

    def pieces() -> Iterator[bytes]:
        yield bytes(2 * MIB)
        seconds_until(lambda: drafts(api, upload), most=MOST)
        deleted.append(api.http.delete(place).status_code)
        yield bytes(3 * MIB)

    answer = put(upload["parts"][0]["url"], pieces(), **{"Content-Length": str(5 * MIB)})

    assert (deleted, error_of(answer)) == ([204], (404, "NOT_FOUND"))
    assert not list((api.data / "uploads").glob(f"{upload['upload_id']}*"))
    for method, path in (("GET", place), ("POST", f"{place}/complete"), ("DELETE", place)):
        assert error_of(api.http.request(method, path)) == (404, "UPLOAD_NOT_FOUND")


def test_part_that_is_cut_is_not_there_and_the_next_try_is(api: Api) -> None:
    upload = begun(api.http, 3 * MIB)
    place, link = f"/ffmpeg/uploads/{upload['upload_id']}", urlsplit(upload["parts"][0]["url"])
    with socket.create_connection(api.address, timeout=MOST) as connection:
        head = f"PUT {link.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {3 * MIB}\r\n\r\n"
        connection.sendall(head.encode() + bytes(2 * MIB))
        seconds_until(lambda: drafts(api, upload), most=MOST)
    seconds_until(lambda: not drafts(api, upload), most=MOST)

    assert error_of(api.http.post(f"{place}/complete")) == (409, "UPLOAD_INCOMPLETE")
    assert send(api.http.get(place).json(), bytes(3 * MIB)) == [200]
    assert api.http.post(f"{place}/complete").json()["status"] == "complete"


@pytest.mark.parametrize(
    "pace", [Pace(least_bytes_per_second=50, window_seconds=0.5), Pace(idle_seconds=0.5)], ids=["trickle", "silence"]
)
def test_part_that_comes_too_slowly_is_let_go_and_the_next_try_taken(tmp_path: Path, pace: Pace) -> None:
    with api_server.running(tmp_path, pace=pace) as api:
        upload = begun(api.http, MIB)
        place, link = f"/ffmpeg/uploads/{upload['upload_id']}", urlsplit(upload["parts"][0]["url"])
        with socket.create_connection(api.address, timeout=60) as connection:
            head = f"PUT {link.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB}\r\n\r\n"
            connection.sendall(head.encode() + b"0")
            said = b"".join(said_to(connection, trickling=pace.idle_seconds > 1))

        answer = said.decode()
        assert answer.startswith("HTTP/1.1 408 ")
        error = json.loads(answer.partition("\r\n\r\n")[2])["error"]
        assert (error["code"], "send it again" in error["message"]) == ("REQUEST_TIMEOUT", True)
        assert not list((api.data / "uploads" / upload["upload_id"]).rglob("*.draft"))
        deadline = time.monotonic() + 60
        while send(api.http.get(place).json(), bytes(MIB)) != [200]:  # on a machine that stutters, too slowly again
            assert time.monotonic() < deadline
        assert api.http.post(f"{place}/complete").json()["status"] == "complete"


def said_to(connection: socket.socket, *, trickling: bool) -> Iterator[bytes]:
    """All that the service says until it hangs up, to somebody who sends a byte now and then, or nothing."""
    deadline = time.monotonic() + 60
    with suppress(ConnectionError):  # it hangs up on what is still on its way
        while time.monotonic() < deadline:
            if not select.select([connection], [], [], 0.1)[0]:
                if trickling:
                    connection.sendall(b"0")
            elif said := connection.recv(65536):
                yield said
            else:
                return
        raise AssertionError("it holds the connection for ever")


def test_many_cuts_leave_nothing_open(api: Api) -> None:
    before = threading.active_count()
    upload = begun(api.http, MIB)
    link = urlsplit(upload["parts"][0]["url"])
    for size in range(0, 40_000, 1000):
        with socket.create_connection(api.address, timeout=MOST) as connection:
            head = f"PUT {link.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB}\r\n\r\n"
            connection.sendall(head.encode() + bytes(size))
    assert send(upload, bytes(MIB)) == [200]
    assert threading.active_count() - before < 45  # those of the pool that the API runs in


@pytest.mark.parametrize(("size", "code"), [(9, 400), (11, 400), (0, 400), (10, 200)])
def test_body_of_a_part_has_its_size(api: Api, size: int, code: int) -> None:
    upload = begun(api.http)
    answer = put(upload["parts"][0]["url"], bytes(size))
    assert answer.status_code == code
    if code == 400:
        message = f"This part has 10 bytes, and {size} were sent: cut the file as `parts` say."
        assert answer.json()["error"]["message"] == message


def test_fault_of_ours_while_a_part_is_taken_is_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    upload = begun(api.http)
    folder = api.data / "uploads" / upload["upload_id"] / "open"
    folder.rmdir()
    folder.write_text("no folder")
    answer = put(upload["parts"][0]["url"], b"0123456789")
    assert error_of(answer) == (500, "INTERNAL_ERROR")
    (told,) = [record for record in caplog.records if record.message == "request failed"]
    assert told.exc_info
    assert "The part could not be stored." in str(told.exc_info[1])


def test_pages_of_the_named_origins_may_send_parts(api: Api) -> None:
    url = begun(api.http)["parts"][0]["url"]
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None)):
        asked = api.http.options(url, headers={"Origin": origin, "Access-Control-Request-Method": "PUT"})
        sent = put(url, bytes(10), Origin=origin)
        wrong = put(url, bytes(9), Origin=origin)
        assert [answer.headers.get("access-control-allow-origin") for answer in (asked, sent, wrong)] == [allowed] * 3
        assert (asked.status_code, sent.status_code, wrong.status_code) == (204, 200, 400)
        assert asked.headers.get("access-control-allow-methods") == (allowed and "PUT")
    assert "access-control-allow-origin" not in api.http.get("/ffmpeg/health", headers={"Origin": ORIGIN}).headers


def test_upload_is_its_keys_own(keys: SignedIn) -> None:
    upload = completed(keys.alice, b"0123456789")
    place = f"/ffmpeg/uploads/{upload['upload_id']}"
    body = {**api_server.ONE_OUTPUT, "input_files": {"input.mp4": upload["input"]}}
    for method, path in (("GET", place), ("POST", f"{place}/complete"), ("DELETE", place)):
        strange = keys.bob.request(method, path)
        unknown = keys.bob.request(method, path.replace(upload["upload_id"], "none"))
        assert error_of(strange) == error_of(unknown) == (404, "UPLOAD_NOT_FOUND")
        assert strange.text.replace(upload["upload_id"], "none") == unknown.text
        assert error_of(keys.nobody.request(method, path)) == (401, "UNAUTHENTICATED")
    assert error_of(keys.nobody.post("/ffmpeg/uploads", json={})) == (401, "UNAUTHENTICATED")

    refused = keys.bob.post("/ffmpeg/register", json=body)
    assert error_of(refused) == (400, "INVALID_ARGUMENT")
    assert refused.json()["error"]["details"] == {"field": "input_files.input.mp4"}
    assert keys.bob.post("/ffmpeg/validate", json=body).json()["valid"] is False
    assert keys.alice.post("/ffmpeg/validate", json=body).json()["valid"] is True
    registered = keys.alice.post("/ffmpeg/register", json=body)
    assert (registered.status_code, registered.json()["input_files"]) == (201, {"input.mp4": upload["input"]})
    assert keys.root.get(place).json()["status"] == "complete"
    assert keys.alice.delete(place).status_code == 204


def test_a_key_has_so_many_uploads_open_and_is_told_which(tmp_path: Path) -> None:
    with signed_in.running(tmp_path, max_open_uploads_per_key=2) as keys:
        first, second = (begun(keys.alice)["upload_id"] for _ in range(2))
        answer = keys.alice.post("/ffmpeg/uploads", json={"filename": "a", "size_bytes": 1})
        assert error_of(answer) == (429, "TOO_MANY_REQUESTS")
        assert answer.json()["error"]["details"]["upload_ids"] == [first, second]
        assert answer.headers["retry-after"] == "10"
        begun(keys.bob)
        assert keys.alice.delete(f"/ffmpeg/uploads/{first}").status_code == 204
        begun(keys.alice)


def test_expired_upload_is_gone_for_callers_and_then_from_the_disk(tmp_path: Path) -> None:
    with signed_in.running(tmp_path, upload_ttl_hours=1) as keys:
        upload = completed(keys.alice, b"0123456789")
        keys.clock.pass_by(3600)
        place = f"/ffmpeg/uploads/{upload['upload_id']}"
        assert error_of(keys.alice.get(place)) == (404, "UPLOAD_NOT_FOUND")
        body = {**api_server.ONE_OUTPUT, "input_files": {"input.mp4": upload["input"]}}
        assert error_of(keys.alice.post("/ffmpeg/register", json=body)) == (400, "INVALID_ARGUMENT")
        assert verbs.sweep(keys.api.services, now=keys.clock()) == 1
        assert list((tmp_path / "uploads").iterdir()) == []


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service.running(tmp_path_factory.mktemp("service")) as started:
        yield started


def test_task_runs_on_an_upload_on_one_machine(machine: Service) -> None:
    upload = completed(machine.http, CLIP)

    task = machine.ended(machine.register(TRANSCODE, {"in.mp4": upload["input"]}, "out.mp4"))

    assert task["status"] == "completed", task["error"]
    assert task["input_files"] == {"in.mp4": upload["input"]}
    video, _ = task["outputs"][0]["media"]["streams"]
    assert (video["codec"], video["width"], video["height"]) == ("h264", 426, 240)
    (kept,) = (machine.data_dir / "uploads" / upload["upload_id"] / "whole").iterdir()
    assert kept.read_bytes() == CLIP
    assert kept.stat().st_nlink == 1


def test_task_whose_upload_is_deleted_meanwhile_says_so(machine: Service) -> None:
    upload = completed(machine.http, CLIP)
    task_id = machine.register(TRANSCODE, {"in.mp4": upload["input"]}, "out.mp4", execute=False)
    assert machine.http.delete(f"/ffmpeg/uploads/{upload['upload_id']}").status_code == 204
    machine.execute(task_id)

    error = machine.ended(task_id)["error"]

    message = "The upload of in.mp4 has expired or was deleted: upload the file again, and register a new task."
    assert (error["code"], error["message"], error["retryable"]) == ("SOURCE_EXPIRED", message, False)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/uploads/token/one/1", "OPTIONS, PUT"),
        ("DELETE", "/uploads/token/one/1", "OPTIONS, PUT"),
        ("POST", "/files/token/a/b.mp4", "GET, HEAD"),
        ("POST", "/metrics", "GET"),
    ],
)
def test_another_method_on_what_only_one_machine_has_is_not_allowed(
    machine: Service, method: str, path: str, allowed: str
) -> None:
    answer = machine.http.request(method, path)
    assert (*error_of(answer), answer.headers.get("allow")) == (405, "METHOD_NOT_ALLOWED", allowed)


def test_service_takes_300_mb_in_little_memory(machine: Service) -> None:
    size, block = 300_000_000, bytes(MIB)
    upload = begun(machine.http, size)

    def pieces(left: int) -> Iterator[bytes]:
        while left:
            yield block[:left]
            left -= len(block[:left])

    def sent(part: dict[str, Any]) -> int:
        length = part["size_bytes"]
        return put(part["url"], pieces(length), **{"Content-Length": str(length)}).status_code

    before = peak_mib(machine)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(sent, random.Random(1).sample(upload["parts"], len(upload["parts"])))) == {200}
    done = machine.http.post(f"/ffmpeg/uploads/{upload['upload_id']}/complete")
    grown = peak_mib(machine) - before
    assert (done.status_code, done.json()["status"]) == (200, "complete")
    assert machine.http.delete(f"/ffmpeg/uploads/{upload['upload_id']}").status_code == 204
    print(f"{grown} MiB more at the peak")
    assert grown < 40


def test_service_clears_away_what_has_expired(machine: Service) -> None:
    upload = completed(machine.http, b"0123456789")
    with closing(SqliteRecordStore(machine.data_dir / "tasks.db")) as records:
        make_due(records, upload["upload_id"])
    folder = machine.data_dir / "uploads" / upload["upload_id"]
    seconds_until(lambda: not folder.exists(), most=2 * MOST)  # it looks every ten seconds
    assert error_of(machine.http.get(f"/ffmpeg/uploads/{upload['upload_id']}")) == (404, "UPLOAD_NOT_FOUND")


def make_due(records: RecordStore, upload_id: str) -> None:
    record = records.find("upload", upload_id)
    assert record
    now = datetime.now(UTC)
    body = dumps(replace(loads(record.body), expires_at=now))
    records.replace(replace(record, body=body, due_at=now), record)


def peak_mib(machine: Service) -> int:
    lines = Path(f"/proc/{machine.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024


@pytest.fixture
def function(aws: Moto, tmp_path: Path) -> Iterator[LambdaProcess]:
    with lambda_process.started({**aws.env, **moto_server.SETTINGS}, tmp_path) as started:
        yield started


def invoked(function: LambdaProcess, name: str, upload_id: str) -> tuple[int, dict[str, Any]]:
    answer = function.invoke(json.loads((EVENTS / f"{name}.json").read_text().replace(PLACEHOLDER, upload_id)))
    return answer["statusCode"], json.loads(answer["body"] or "{}")


def test_task_runs_on_an_upload_on_aws(aws: Moto, function: LambdaProcess, tmp_path: Path) -> None:
    # given a file that was sent to S3 by the links, and completed
    upload = call(function, "upload", body={"filename": "a.mp4", "size_bytes": len(CLIP)})
    upload_id = upload["upload_id"]
    status, refused = invoked(function, "complete_upload", upload_id)
    assert (status, refused["error"]["details"]["missing_parts"]) == (409, [1])
    assert send(upload, CLIP) == [200]
    shown = call(function, "show_upload", task_id=upload_id)
    assert [(part["received"], part["url"]) for part in shown["parts"]] == [(True, None)]
    done = call(function, "complete_upload", task_id=upload_id)
    assert done == call(function, "complete_upload", task_id=upload_id)
    assert (done["status"], done["input"]) == ("complete", f"upload:{upload_id}")

    # when a task on it is executed, and the job is run
    task_id = executed(function, TRANSCODE, {"in.mp4": done["input"]}, "out.mp4")
    assert run(job_of(task_id), aws, tmp_path) == 0

    # then it is completed
    task = call(function, "status", task_id=task_id)
    assert task["status"] == "completed", task["error"]
    assert task["outputs"][0]["media"]["streams"][0]["height"] == 240
    # and once it is deleted, nothing of it is left, and a task on it says so
    late = executed(function, TRANSCODE, {"in.mp4": done["input"]}, "out.mp4")
    assert invoked(function, "delete_upload", upload_id) == (204, {})
    assert invoked(function, "delete_upload", upload_id)[0] == 404
    listed = boto3.client("s3").list_objects_v2(Bucket=moto_server.BUCKET, Prefix="uploads/")
    assert listed["KeyCount"] == 0
    assert run(job_of(late), aws, tmp_path) == 0
    assert call(function, "status", task_id=late)["error"]["code"] == "SOURCE_EXPIRED"


def test_upload_in_parts_on_aws(aws: Moto, function: LambdaProcess) -> None:
    content = random.Random(0).randbytes(130 * MIB)
    upload = call(function, "upload", body={"filename": "a.mp4", "size_bytes": len(content)})
    assert send(upload, content, 3, 1) == [200, 200]
    status, refused = invoked(function, "complete_upload", upload["upload_id"])
    assert (status, refused["error"]["details"]["missing_parts"]) == (409, [2])
    # S3 takes no part of another size; moto does, and is found out
    assert put(upload["parts"][1]["url"], b"short").status_code == 200
    assert invoked(function, "complete_upload", upload["upload_id"])[0] == 409
    assert send(upload, content, 2) == [200]

    assert call(function, "complete_upload", task_id=upload["upload_id"])["status"] == "complete"

    head = boto3.client("s3").head_object(Bucket=moto_server.BUCKET, Key=f"uploads/{upload['upload_id']}/file")
    assert head["ContentLength"] == len(content)
    invoked(function, "delete_upload", upload["upload_id"])


def test_sweep_of_aws_clears_away_what_has_expired(aws: Moto, function: LambdaProcess, tmp_path: Path) -> None:
    upload = call(function, "upload", body={"filename": "a.mp4", "size_bytes": 10})
    other = call(function, "upload", body={"filename": "b.mp4", "size_bytes": 10})
    for one in (upload, other):
        assert send(one, bytes(10)) == [200]
        call(function, "complete_upload", task_id=one["upload_id"])
    records = DynamoRecordStore(moto_server.TABLE)
    make_due(records, upload["upload_id"])

    folder = tmp_path / "sweep"
    folder.mkdir()
    with lambda_process.started({**aws.env, **moto_server.SETTINGS}, folder, module="handlers.sweep") as sweep:
        sweep.invoke(json.loads((EVENTS / "sweep.json").read_text()))

    listed = boto3.client("s3").list_objects_v2(Bucket=moto_server.BUCKET, Prefix="uploads/")["Contents"]
    assert [entry["Key"] for entry in listed] == [f"uploads/{other['upload_id']}/file"]
    assert invoked(function, "show_upload", upload["upload_id"])[0] == 404
    assert invoked(function, "show_upload", other["upload_id"])[0] == 200


def test_open_upload_that_is_deleted_on_aws_is_aborted(aws: Moto, function: LambdaProcess) -> None:
    upload = call(function, "upload", body={"filename": "a.mp4", "size_bytes": 10})
    assert send(upload, bytes(10)) == [200]
    s3 = boto3.client("s3")
    assert len(s3.list_multipart_uploads(Bucket=moto_server.BUCKET)["Uploads"]) == 1
    assert invoked(function, "delete_upload", upload["upload_id"]) == (204, {})
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=moto_server.BUCKET)
