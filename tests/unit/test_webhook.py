"""The webhook against real receivers on loopback, well-behaved and not: what they get, and what is made of it."""

import base64
import hashlib
import hmac
import socket
import time
from dataclasses import replace
from ipaddress import ip_network

import httpx
import pytest

from core import urls
from core.ports import NotDelivered
from core.task import Status, Task
from core.worker import guard, transport
from core.worker.webhook import Limits, WebhookChannel, signature
from support import receiver
from support.builders import task_in
from support.fake_internet import answering, said
from support.receiver import Answer, hang_up, receiving, sending, silence, statuses

OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
LOOPBACK = urls.Policy(private_networks=(ip_network("127.0.0.0/8"),))
PATIENT = Limits(connect_seconds=60, write_seconds=60, total_seconds=60)
# Short where a receiver is to be too slow, and only there: a machine that is busy is slow as well.
IMPATIENT = Limits(connect_seconds=60, write_seconds=0.5, total_seconds=1.2)
SOON = 15.0  # seconds, and what a busy machine adds; without a limit it would take longer, or for ever
BODY = '{"status":"completed","name":"d\u00e9j\u00e0 vu"}'
SENT_AT = 1_800_000_000.75


def channel(*secrets: str, policy: urls.Policy = LOOPBACK, body: str = BODY, **more: object) -> WebhookChannel:
    given: dict[str, object] = {"limits": PATIENT, "clock": lambda: SENT_AT, **more}
    return WebhookChannel(secrets or (NEW,), policy=policy, shown=lambda _: body, **given)  # type: ignore[arg-type]


def ended(url: str) -> Task:
    return replace(task_in(Status.COMPLETED), callback_url=url)


def refusal(url: str, *, sender: WebhookChannel | None = None) -> tuple[str, bool]:
    """What is said of a try that fails, and whether it is for good."""
    with pytest.raises(NotDelivered) as caught:
        (sender or channel()).deliver(ended(url))
    assert "127.0.0.1" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    return str(caught.value), caught.value.final


def test_signature_is_that_of_the_published_vector() -> None:
    """The one with which libraries for Standard Webhooks test themselves."""
    made = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_delivery_is_one_signed_post_of_the_body() -> None:
    with receiving(statuses(204)) as there:
        task = ended(there.url)
        channel().deliver(task)
        (call,) = there.calls
    expected = base64.b64encode(
        hmac.new(b"\x02" * 32, f"msg_{task.task_id}.1800000000.".encode() + BODY.encode(), hashlib.sha256).digest()
    )
    assert (call.method, call.path, call.body) == ("POST", "/hook?token=s3cr3t", BODY.encode())
    assert call.headers == {
        "host": f"127.0.0.1:{there.port}",
        "user-agent": "url-to-s3-transcoding",
        "content-type": "application/json",
        "content-length": str(len(BODY.encode())),
        "x-correlation-id": "corr-1",
        "webhook-id": f"msg_{task.task_id}",
        "webhook-timestamp": "1800000000",
        "webhook-signature": f"v1,{expected.decode()}",
    }


def test_two_secrets_both_sign() -> None:
    with receiving(statuses(200)) as there:
        task = ended(there.url)
        channel(NEW, OLD).deliver(task)
        (call,) = there.calls
    about = {"message_id": f"msg_{task.task_id}", "timestamp": 1_800_000_000, "body": BODY.encode()}
    expected = [signature(secret, **about) for secret in (NEW, OLD)]  # type: ignore[arg-type]
    assert call.headers["webhook-signature"].split(" ") == expected


def test_a_large_body_arrives_whole() -> None:
    body = "x" * 3_000_000
    with receiving(statuses(200)) as there:
        channel(body=body).deliver(ended(there.url))
        assert there.calls[0].body == body.encode()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_success_counts_as_delivered(status: int) -> None:
    with receiving(statuses(status)) as there:
        channel().deliver(ended(there.url))


REDIRECT = "callback_url must be the final address, redirects are not followed."
BROKEN = "The receiver broke off before it had answered."
SLOW = "The receiver did not answer in time."
UNREACHABLE = "The receiver cannot be reached, or shows no valid certificate."
FAULTS: dict[str, tuple[Answer, str, bool]] = {
    "gone": (statuses(410), "The receiver answered 410 (Gone): it is not to be told again.", True),
    "not found": (statuses(404), "The receiver answered 404 (Not Found).", False),
    "sign-in": (statuses(401), "The receiver answered 401 (Unauthorized).", False),
    "too many": (statuses(429), "The receiver answered 429 (Too Many Requests).", False),
    "broken": (statuses(500), "The receiver answered 500 (Internal Server Error).", False),
    "unknown status": (statuses(599), "The receiver answered 599 (unknown).", False),
    "away": (
        sending(said(302, location="http://127.0.0.1:1/")),
        f"The receiver answered 302 (Found); {REDIRECT}",
        False,
    ),
    "moved": (
        sending(said(308, location="https://example.com/")),
        f"The receiver answered 308 (Permanent Redirect); {REDIRECT}",
        False,
    ),
    "not modified": (statuses(304), "The receiver answered 304 (Not Modified).", False),
    "hangs up": (hang_up, BROKEN, False),
    "half a head": (sending(b"HTTP/1.1 200 OK\r\nx: y"), BROKEN, False),
    "no HTTP": (sending(b"SSH-2.0-OpenSSH\r\n"), BROKEN, False),
    "endless head": (sending(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2**20), BROKEN, False),
    "silent": (silence, SLOW, False),
    "headers that trickle": (receiver.drip, SLOW, False),
    "interim answers": (sending(b"HTTP/1.1 102 Processing\r\n\r\n" * 9), BROKEN, False),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_a_receiver_is_said_in_words_and_in_time(name: str) -> None:
    answer, words, final = FAULTS[name]
    began = time.monotonic()
    with receiving(answer) as there:
        sender = channel(limits=IMPATIENT if words == SLOW else PATIENT)
        assert refusal(there.url, sender=sender) == (words, final)
    assert time.monotonic() - began < SOON
    assert len(there.calls) < 2  # a try is one call, if its time is not over before: no redirect or fault makes it two


def test_nobody_listens() -> None:
    with receiver.nobody() as url:
        assert refusal(url) == (UNREACHABLE, False)


def test_one_who_never_reads_is_left_in_time() -> None:
    with receiver.never_reading() as url:
        began = time.monotonic()
        assert refusal(url, sender=channel(body="x" * 20_000_000, limits=IMPATIENT)) == (SLOW, False)
        assert time.monotonic() - began < SOON


def test_one_who_reads_slowly_is_left_in_time() -> None:
    """Each piece is taken well within its own time; all of them together are not."""

    def sip(request: object, connection: socket.socket) -> None:
        while connection.recv(20_000):
            time.sleep(0.02)

    with answering(sip, **{"hooks.example.com": [["93.184.216.34"]]}) as internet:
        sender = channel(policy=urls.PUBLIC, network=internet.network, body="x" * 30_000_000, limits=IMPATIENT)
        began = time.monotonic()
        assert refusal("http://hooks.example.com/", sender=sender) == (SLOW, False)
        assert time.monotonic() - began < SOON


def test_of_an_answer_the_status_alone_is_read() -> None:
    """A body without end, or one that trickles, holds nobody up: the status has come."""

    def endless(there: receiver.Receiver, call: receiver.Call, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        while not there.closing.is_set():
            connection.sendall(b"x" * 65536)

    with receiving(endless) as there:
        channel().deliver(ended(there.url))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/hook?token=s3cr3t",
        "http://localhost/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://media.example.com:22/",
        "s3://bucket/key",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_url_that_the_policy_refuses_is_refused_for_good(url: str) -> None:
    """Register refuses it already; the policy may have been narrowed since."""
    sender = channel(policy=replace(urls.PUBLIC, buckets=("bucket",)))
    assert refusal(url, sender=sender) == ("callback_url is one that this service does not call.", True)


def test_a_name_that_leads_inside_looks_like_a_dead_one() -> None:
    with receiving(statuses(200)) as there:
        sender = channel(policy=urls.PUBLIC, network=guard.Network(resolve=lambda host: ["127.0.0.1"]))
        assert refusal("http://hooks.example.com/", sender=sender) == (UNREACHABLE, False)
        dead = channel(policy=urls.PUBLIC, network=guard.Network(resolve=lambda host: []))
        assert refusal("http://hooks.example.com/", sender=dead) == (UNREACHABLE, False)
        assert there.calls == []


def test_proxies_of_the_environment_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(statuses(200)) as proxy, receiving(statuses(200)) as there:
        for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        channel().deliver(ended(there.url))
        assert (len(proxy.calls), len(there.calls)) == (0, 1)


def test_one_who_speaks_no_tls_gets_nothing_by_https() -> None:
    sender = channel(limits=replace(PATIENT, connect_seconds=0.8))
    with receiving(statuses(200)) as there:
        assert refusal(there.url.replace("http:", "https:"), sender=sender) == (UNREACHABLE, False)
    assert there.calls == []


def test_a_host_that_httpx_reads_differently_is_never_called() -> None:
    place = urls.Web(url="http://hooks.example.com/", scheme="http", host="other.example.com", port=80)
    with pytest.raises(httpx.InvalidURL):
        transport.address(place)
