"""The service as the client has it: there or not, ours or not, busy, away for a while, and refusing."""

import hashlib
import hmac
import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from handlers.client import sign, watch
from handlers.client.api import Api, Patience, retry_after
from handlers.client.faults import Interrupted, Refused, Unreachable, Usage
from support import api_server, client, signed_in
from support.answering import OK, Answer, answering
from support.api_server import ONE_OUTPUT
from support.upload_front import before


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
        front.faults.away = 2

        assert listed(api) == []

    assert said == [f"The service at {front.url} cannot be reached. Trying again for 120 s."]
    assert len(front.asked) == 1 + 2 + 1


def test_connection_that_was_idle_is_not_used_again(tmp_path: Path) -> None:
    with answering(OK) as (url, _), before(url, tmp_path) as front, client.api(front.url) as (api, _):
        listed(api)
        time.sleep(2.1)  # a service closes it after five, perhaps just when it is asked
        listed(api)

    assert len(front.connections) == 2


def test_stop_ends_the_waiting(tmp_path: Path) -> None:
    with answering(OK) as (url, _), before(url, tmp_path) as front, client.api(front.url) as (api, _):
        listed(api)
        front.faults.away = math.inf
        stopping = threading.Timer(0.3, api.stop.set)
        stopping.start()

        with pytest.raises(Interrupted):
            listed(api)
        stopping.join()


def test_too_many_requests_are_made_when_the_service_says() -> None:
    busy: Answer = (429, {"Retry-After": "1"}, error("TOO_MANY_REQUESTS", "Wait a little."))

    with answering(busy, busy, OK) as (url, got), client.api(url) as (api, said):
        assert listed(api) == []

    assert (len(got), said) == (3, ["Wait a little. Trying again."])


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
        ((502, {}, "<html>"), "UNREACHABLE", "answers with status 502: check --server, or try again later"),
        ((429, {}, '{"message": "Too Many Requests"}'), "UNREACHABLE", "answers with status 429"),
        ((200, {"Content-Encoding": "gzip"}, "{}"), "NOT_THE_SERVICE", "its answer cannot be read"),
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


def test_log_that_is_no_text_is_none_of_the_service() -> None:
    with (
        answering((200, {"Content-Type": "text/html"}, "<html>")) as (url, _),
        client.api(url) as (api, _),
        pytest.raises(Unreachable, match="not as this service does"),
    ):
        api.log("t-1")


@pytest.mark.parametrize("task_id", ["", "..", "a/b", "a b"])
def test_what_is_no_id_is_not_asked_for(task_id: str) -> None:
    with answering(OK) as (url, got), client.api(url) as (api, _):
        with pytest.raises(Usage, match="is no id of a task"):
            api.cancel(task_id)
        assert got == []


def test_proxy_of_the_environment_is_used_for_what_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(OK) as (url, got):
        monkeypatch.setenv("HTTP_PROXY", url)
        with client.api("http://service.invalid") as (api, _):
            assert listed(api) == []
        with client.api(url) as (api, _):
            assert listed(api) == []
        monkeypatch.setenv("NO_PROXY", "service.invalid")
        with client.api("http://service.invalid") as (api, _), pytest.raises(Unreachable) as fault:
            listed(api)

    path = "/ffmpeg/tasks?limit=1"
    assert [one[":path"] for one in got] == [f"http://service.invalid{path}", path]
    assert "proxy" not in fault.value.message


def test_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    with client.api("http://service.invalid") as (api, _), pytest.raises(Unreachable, match="the environment's proxy"):
        listed(api)


@pytest.mark.parametrize(
    ("name", "proxy", "words"),
    [("ALL_PROXY", "socks5://127.0.0.1:1", "SOCKS"), ("HTTP_PROXY", "nonsense://127.0.0.1:1", "is no proxy's URL")],
)
def test_proxy_that_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, words: str) -> None:
    monkeypatch.setenv(name, proxy)

    with pytest.raises(Usage, match=words), client.api("http://service.invalid"):
        pass
    with client.api("http://127.0.0.1:1") as (api, _), pytest.raises(Unreachable):
        listed(api)


def test_start_is_without_the_command_line_of_httpx() -> None:
    code = "import sys, handlers.client.api; print(sorted({'rich', 'pygments'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-P", "-c", code], env=client.environment(Path()), capture_output=True)

    assert (done.stdout, done.stderr) == (b"[]\n", b"")


def test_patience_ends_after_both_so_many_tries_and_so_long() -> None:
    now = time.monotonic()
    patience = Patience(tries=2, seconds=60)

    assert [patience.is_over(tries, since=since) for tries, since in ((2, now), (1, now - 61), (2, now - 61))] == [
        False,
        False,
        True,
    ]


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
