"""The service as the client has it: there or not, ours or not, busy, away for a while, and refusing."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from handlers.client import sign, watch
from handlers.client.api import Api, retry_after
from handlers.client.faults import Interrupted, Refused, Unreachable
from support import api_server, client, signed_in
from support.api_server import ONE_OUTPUT
from support.upload_front import before

Answer = tuple[int, dict[str, str], str]
OK: Answer = (200, {}, json.dumps({"items": [], "next_cursor": None}))


@contextmanager
def answering(*answers: Answer) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that gives these answers, the last one again and again; and the headers that it got."""
    left, got = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            got.append({**headers, ":method": self.command, ":path": self.path, ":body": body.decode()})
            status, headers, text = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


def error(code: str, message: str = "No.", **details: Any) -> str:
    return json.dumps({"error": {"code": code, "message": message, "details": details}})


def listed(api: Api) -> Any:
    return api.tasks(status=None, limit=1, cursor=None)["items"]


def test_service_that_never_answered_is_not_waited_for() -> None:
    with client.api("http://127.0.0.1:1") as (api, said), pytest.raises(Unreachable) as fault:
        listed(api)

    assert fault.value.message == "The service at http://127.0.0.1:1 cannot be reached."
    assert said == []


def test_service_that_goes_away_is_asked_again_and_that_is_said_once(tmp_path: Path) -> None:
    with answering(OK) as (url, _), before(url, tmp_path) as front, client.api(front.url) as (api, said):
        listed(api)
        front.faults.away = True
        back = threading.Timer(1.5, lambda: setattr(front.faults, "away", False))
        back.start()

        assert listed(api) == []
        back.join()

    assert said == [f"The service at {front.url} cannot be reached. Trying again for 120 s."]
    assert len(front.asked) >= 4


def test_stop_ends_the_waiting(tmp_path: Path) -> None:
    with answering(OK) as (url, _), before(url, tmp_path) as front, client.api(front.url) as (api, _):
        listed(api)
        front.faults.away = True
        stopping = threading.Timer(0.3, api.stop.set)
        stopping.start()

        with pytest.raises(Interrupted):
            listed(api)
        stopping.join()


def test_too_many_requests_are_made_when_the_service_says() -> None:
    busy: Answer = (429, {"Retry-After": "1"}, error("TOO_MANY_REQUESTS", "Wait a little."))

    with answering(busy, busy, OK) as (url, got), client.api(url) as (api, said):
        assert listed(api) == []

    assert (len(got), said) == (3, ["Wait a little. Trying again for 120 s."])


def test_gateway_that_does_not_know_its_service_is_waited_for_once_there_was_one() -> None:
    with answering(OK, (502, {}, "<html>"), OK) as (url, _), client.api(url) as (api, _):
        listed(api)
        assert listed(api) == []

    with answering((502, {}, "<html>"), OK) as (url, _), client.api(url) as (api, _), pytest.raises(Unreachable):
        listed(api)


def test_leaving_asks_once() -> None:
    busy: Answer = (503, {"Retry-After": "1"}, error("SERVICE_UNAVAILABLE"))

    with answering(busy) as (url, got), client.api(url) as (api, _), api.leaving() as leaving, pytest.raises(Refused):
        listed(leaving)

    assert len(got) == 1


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ((200, {}, "<html>hello</html>"), "NOT_THE_SERVICE", "answers, but not as this service does (status 200)"),
        ((404, {}, "no such page"), "NOT_THE_SERVICE", "(status 404): check --server"),
        ((403, {}, '{"message": "Forbidden"}'), "NOT_THE_SERVICE", "credentials are missing"),
        ((200, {}, '{"other": 1}'), "NOT_THE_SERVICE", "not as this service does"),
        ((301, {"Location": "https://x.example/"}, ""), "NOT_THE_SERVICE", "sends us on to another address"),
        ((404, {}, error("NOT_FOUND")), "NOT_FOUND", "The service has no tasks: it is older than this command"),
        ((400, {}, error("INVALID_ARGUMENT", "limit is wrong.")), "INVALID_ARGUMENT", "limit is wrong."),
        ((401, {}, error("UNAUTHENTICATED")), "UNAUTHENTICATED", "wants a key: set FFMPEG_TASK_KEY"),
    ],
)
def test_what_is_no_success_is_said_in_words(answer: Answer, code: str, words: str) -> None:
    with answering(answer) as (url, _), client.api(url) as (api, _), pytest.raises((Refused, Unreachable)) as fault:
        listed(api)

    assert (fault.value.code, words in fault.value.message) == (code, True), fault.value.message


def test_wrong_key_is_told_from_none(tmp_path: Path) -> None:
    with signed_in.running(tmp_path) as scene:
        url = str(scene.nobody.base_url)
        with client.api(url, key="ffk_wrong") as (api, _), pytest.raises(Refused, match="does not know this key"):
            listed(api)
        with client.api(url, key=signed_in.KEYS["alice"]) as (api, _):
            assert listed(api) == []


def test_register_twice_with_a_key_is_one_task(tmp_path: Path) -> None:
    with api_server.running(tmp_path) as running, client.api(str(running.http.base_url)) as (api, _):
        first = api.register(ONE_OUTPUT, key="k1")
        again = api.register(ONE_OUTPUT, key="k1", execute=False)

        assert (first["status"], again["task_id"], len(listed(api))) == ("queued", first["task_id"], 1)


def test_unhealthy_is_an_answer() -> None:
    with (
        answering((503, {}, json.dumps({"status": "unhealthy", "checks": {}}))) as (url, _),
        client.api(url) as (api, _),
    ):
        assert api.health()["status"] == "unhealthy"


def test_request_to_aws_is_signed_for_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    made: Answer = (201, {}, json.dumps({"task_id": "t"}))

    with answering(made) as (url, got), client.api(url) as (plain, _):
        signed = Api(url, None, plain.say, plain.stop, auth=sign.auth(url, "eu-central-1"))
        with signed:
            signed.register(ONE_OUTPUT, key="k1")

    (headers,) = got
    assert (headers["x-amz-security-token"], headers["idempotency-key"]) == ("token", "k1")
    assert headers["authorization"] == expected_of_aws(headers, "AKIAEXAMPLE", b"secret", "eu-central-1")


def expected_of_aws(got: dict[str, str], access_key: str, secret: bytes, region: str) -> str:
    """The authorization that AWS reckons for the request as it arrived, as its Signature Version 4 describes."""
    signed = got["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    path, _, query = got[":path"].partition("?")
    lines = [got[":method"], path, "&".join(sorted(query.split("&")))]
    lines += [f"{name}:{got[name]}" for name in signed.split(";")]
    lines += ["", signed, hashlib.sha256(got[":body"].encode()).hexdigest()]
    day, scope = got["x-amz-date"][:8], f"{got['x-amz-date'][:8]}/{region}/execute-api/aws4_request"
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = b"AWS4" + secret
    for part in (day, region, "execute-api", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{got['x-amz-date']}\n{scope}\n{digest}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"


def test_region_is_read_from_the_address_of_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    assert sign.auth("https://abc123.execute-api.eu-west-1.amazonaws.com", None) is not None
    assert sign.auth("http://127.0.0.1:8000", None) is None


@pytest.mark.parametrize(
    ("ask_after", "quiet", "expected"), [(1, 0, 1), (None, 0, 1), (5, 10, 5), (1, 60, 3), (1, 900, 10), (30, 900, 30)]
)
def test_pause_follows_the_service_and_grows_with_the_quiet(
    ask_after: float | None, quiet: float, expected: float
) -> None:
    assert watch.pause(ask_after, quiet_seconds=quiet) == expected


def test_retry_after_that_is_no_number_is_none() -> None:
    import httpx

    assert retry_after(httpx.Response(503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})) is None
    assert retry_after(httpx.Response(503, headers={"Retry-After": "7"})) == 7
