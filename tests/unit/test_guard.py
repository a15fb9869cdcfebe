"""The guard and the fetcher together, on an internet of one loopback server: where connections go, and what comes back.

The cases of tests/cases/urls.json that show only when a name is resolved, a redirect followed or an answer read.
"""

import contextlib
import errno
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from core import urls
from core.task import Failure, FailureCode
from core.worker import fetch, guard
from core.worker.failed import Stopped, TaskFailed
from support.fake_internet import Answer, FakeInternet, Request, answering, said

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "cases" / "urls.json").read_text())["cases"]
PUBLIC_IP = "93.184.216.34"
PATIENT = fetch.Limits(max_bytes=1_000_000, pause_seconds=0.01)  # where the download is to succeed
LIMITS = fetch.Limits(max_bytes=1_000_000, attempts=2, pause_seconds=0.01, total_seconds=60)
UNREACHABLE = "The source of in.mp4 cannot be reached (2 attempts were made)."


def named(case: dict[str, Any]) -> str:
    return f"{case['id']} {case['why']}"


def of_stage(*stages: str) -> list[dict[str, Any]]:
    return [case for case in CASES if case["stage"] in stages and "dns" in case]


def names_of(case: dict[str, Any]) -> dict[str, list[list[str]]]:
    """The answers by name; `name#2` in the case is the second answer."""
    names: dict[str, list[list[str]]] = {}
    for key, answer in case["dns"].items():
        names.setdefault(key.partition("#")[0], []).append(answer)
    return names


def download(
    internet: FakeInternet, url: str, path: Path, *, limits: fetch.Limits = PATIENT, policy: urls.Policy = urls.PUBLIC
) -> bytes:
    with fetch.Client(limits, policy, internet.network) as http:
        fetch.fetch(http, fetch.Source(name="in.mp4", url=url), path, stopped=lambda: False)
    return path.read_bytes()


def failure_of(internet: FakeInternet, url: str, path: Path, **more: Any) -> Failure:
    with pytest.raises(TaskFailed) as caught:
        download(internet, url, path, **{"limits": LIMITS, **more})
    failure = caught.value.failure
    assert "?" not in failure.message
    assert "example" not in failure.message
    assert not re.search(r"[0-9]+\.[0-9]+\.[0-9]+", failure.message)
    return failure


def media(request: Request, connection: socket.socket) -> None:
    connection.sendall(said(200, b"media"))


@pytest.mark.parametrize("case", of_stage("resolve", "connect"), ids=named)
def test_case_that_shows_when_the_name_is_resolved(case: dict[str, Any], tmp_path: Path) -> None:
    with answering(media, **names_of(case)) as internet:
        if case["expected"] == "allow" or "rebind" in case["url"]:
            assert download(internet, case["url"], tmp_path / "i0") == b"media"
            assert {address for address, _ in internet.dialled} == {PUBLIC_IP}
        else:
            assert failure_of(internet, case["url"], tmp_path / "i0").message == UNREACHABLE
            assert internet.dialled == []


REDIRECTED = {
    "redirect to a name that resolves inside": "was redirected from https to http",  # before the name is asked for
    "downgrade from https to http": "was redirected from https to http",
    "more than five hops": "was redirected more than 5 times",
    "loop to itself": "was redirected in a circle",
}


@pytest.mark.parametrize("case", of_stage("redirect"), ids=named)
def test_case_of_a_redirect(case: dict[str, Any], tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        hops = [*case["redirects_to"], *case["redirects_to"][-1:] * 9]
        if case["expected"] == "allow" and request.number > len(case["redirects_to"]):
            connection.sendall(said(200, b"media"))
        else:
            connection.sendall(said(302, location=hops[request.number - 1]))

    with answering(answer, **names_of(case)) as internet:
        if case["expected"] == "allow":
            assert download(internet, case["url"], tmp_path / "i0") == b"media"
        else:
            words = REDIRECTED.get(case["why"], "was redirected to an address that is not allowed")
            assert words in failure_of(internet, case["url"], tmp_path / "i0").message
            assert {address for address, _ in internet.dialled} == {PUBLIC_IP}
            assert len(internet.requests) <= 6


def test_redirect_to_a_name_inside_looks_like_one_to_a_dead_name(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(said(302, location=f"http://{request.path[1:]}.example.com/"))

    with answering(answer, **{"media.example.com": [[PUBLIC_IP]], "inside.example.com": [["10.0.0.9"]]}) as internet:
        failures = [
            failure_of(internet, f"http://media.example.com/{name}", tmp_path / "i0") for name in ("inside", "dead")
        ]

        assert failures[0] == failures[1]
        assert failures[0].message == UNREACHABLE
        assert internet.asked["inside.example.com"] == internet.asked["dead.example.com"] == LIMITS.attempts


SLOW = "sends fewer than 64000 bytes a second"
LATE = "did not answer within 0.7 seconds"
# Short where a source is to be too slow, and only there: a machine that is busy is slow as well.
IMPATIENT = {SLOW: replace(LIMITS, rate_window_seconds=0.3), LATE: replace(LIMITS, answer_seconds=0.7)}
SOON = 15.0  # seconds, and what a busy machine adds; without those limits it would take longer, or for ever
RESPONSES = {
    "not found": ("404", lambda r, c: c.sendall(said(404))),
    "needs login: we send no credentials": ("401", lambda r, c: c.sendall(said(401, www_authenticate="Basic"))),
    "partial content that nobody asked for": (
        "sent a part",
        lambda r, c: c.sendall(said(206, b"part", content_range="bytes 0-3/4")),
    ),
    "declared size over the limit": ("larger than", lambda r, c: c.sendall(said(200, content_length=10**13))),
    "no length and endless body: stop at the byte limit": ("larger than", lambda r, c: endless(c)),
    "body longer than declared": ("more than it had", lambda r, c: c.sendall(said(200, b"x" * 20, content_length=10))),
    "compressed body: we ask for identity and refuse the rest": (
        "encoded",
        lambda r, c: c.sendall(said(200, b"\x1f\x8b" * 99, content_encoding="gzip")),
    ),
    "slow body: minimum average rate": (SLOW, lambda r, c: drip(c, said(200, content_length=10**5), b"x" * 200)),
    "never answers": (LATE, lambda r, c: until_it_leaves(c)),
}


def until_it_leaves(connection: socket.socket) -> None:
    connection.recv(1)


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
    while True:
        connection.sendall(bytes(65536))


def drip(connection: socket.socket, at_once: bytes, byte_by_byte: bytes) -> None:
    connection.sendall(at_once)
    for byte in byte_by_byte:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


@pytest.mark.parametrize("case", of_stage("response"), ids=named)
def test_case_of_an_answer(case: dict[str, Any], tmp_path: Path) -> None:
    words, answer = RESPONSES[case["why"]]
    with answering(answer, **names_of(case)) as internet:
        began = time.monotonic()
        failure = failure_of(internet, case["url"], tmp_path / "i0", limits=IMPATIENT.get(words, LIMITS))
        assert words in failure.message
        assert time.monotonic() - began < SOON


# What a server that means harm, or is broken, can do besides.


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in ("HTTP/1.1 200 OK", *lines, "")).encode()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(lambda r, c: drip(c, b"", head(*["x: y"] * 99)), LATE, id="header drip"),
        pytest.param(lambda r, c: drip(c, b"HTTP/1.1 200 OK\r\nx: ", b"y" * 199), LATE, id="one header"),
        pytest.param(lambda r, c: drip(c, b"", b"HTTP/1.1 100 C\r\n\r\n" * 19), LATE, id="interim answers"),
        pytest.param(
            lambda r, c: drip(c, head("transfer-encoding: chunked"), b"5;" + b"x" * 200), SLOW, id="chunk extension"
        ),
        pytest.param(lambda r, c: c.sendall(said(200, b"x" * 9, content_length=10)), "broke off", id="too short"),
        pytest.param(lambda r, c: c.sendall(b"HTTP/1.1 200 OK\r\n" + b"x" * 2**20), "", id="a head without end"),
        pytest.param(lambda r, c: c.sendall(b"SSH-2.0-OpenSSH\r\n"), "", id="no HTTP"),
        pytest.param(lambda r, c: None, "broke off", id="nothing at all"),
    ],
)
def test_hostile_answer_ends_soon(answer: Answer, words: str, tmp_path: Path) -> None:
    with answering(answer, **{"media.example.com": [[PUBLIC_IP]]}) as internet:
        began = time.monotonic()
        if words:
            url, limits = "http://media.example.com/v.mp4?token=secret", IMPATIENT.get(words, LIMITS)
            failure = failure_of(internet, url, tmp_path / "i0", limits=limits)
            assert failure.code is FailureCode.DOWNLOAD_FAILED
            assert words in failure.message
        else:
            try:
                download(internet, "http://media.example.com/v.mp4", tmp_path / "i0", limits=LIMITS)
            except TaskFailed as failed:
                assert failed.failure.code is FailureCode.DOWNLOAD_FAILED  # noqa: PT017 - either is right
        assert time.monotonic() - began < SOON


def test_interim_answers_are_not_counted_as_the_body(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + said(200, b"media"))

    with answering(answer, **{"media.example.com": [[PUBLIC_IP]]}) as internet:
        assert download(internet, "http://media.example.com/v.mp4", tmp_path / "i0") == b"media"


BODY = bytes(range(256)) * 40


def cut_then(part: bytes) -> Answer:
    """Half of the body first; then, to whoever asks for the rest, `part`; and to whoever starts over, all of it."""

    def answer(request: Request, connection: socket.socket) -> None:
        if request.number == 1:
            connection.sendall(said(200, BODY[:5120], content_length=len(BODY), etag='"v1"'))
        elif "range" in request.headers:
            connection.sendall(part)
        else:
            connection.sendall(said(200, BODY, etag='"v2"'))

    return answer


@pytest.mark.parametrize(
    ("part", "requests"),
    [
        pytest.param(said(206, BODY[5120:], content_range=f"bytes 5120-10239/{len(BODY)}"), 2, id="the rest"),
        pytest.param(said(206, BODY[5120:], content_range="bytes 5120-10239/*"), 2, id="of unknown size"),
        pytest.param(said(200, BODY, etag='"v2"'), 2, id="changed, and so all of it"),
        pytest.param(said(206, BODY[5120:], etag='"v2"', content_range="bytes 5120-10239/10240"), 3, id="other etag"),
        pytest.param(said(206, BODY[:5120], content_range="bytes 0-5119/10240"), 3, id="another part"),
        pytest.param(said(206, BODY[5120:6000], content_range="bytes 5120-5999/10240"), 3, id="less than the rest"),
        pytest.param(said(206, BODY[5120:], content_range="bytes 5120-10238/10239"), 3, id="lengths that differ"),
        pytest.param(said(206, BODY[5120:]), 3, id="without a range"),
        pytest.param(said(206, BODY[5120:], content_range="multipart/byteranges"), 3, id="several parts"),
        pytest.param(said(416), 3, id="no such range"),
    ],
)
def test_continuation_is_right_or_starts_over(part: bytes, requests: int, tmp_path: Path) -> None:
    limits = fetch.Limits(max_bytes=10**6, attempts=4, pause_seconds=0.01)
    with answering(cut_then(part), **{"media.example.com": [[PUBLIC_IP]]}) as internet:
        assert download(internet, "http://media.example.com/v", tmp_path / "i0", limits=limits) == BODY

        assert len(internet.requests) == requests
        asked = internet.requests[1].headers
        assert (asked["range"], asked["if-range"]) == ("bytes=5120-", '"v1"')


def test_only_three_continuations_are_tried(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        at = int(request.headers.get("range", "bytes=0-")[6:-1])
        whole = f"bytes {at}-{len(BODY) - 1}/{len(BODY)}"
        status, extra = (206, {"content_range": whole}) if at else (200, {})
        connection.sendall(said(status, BODY[at : at + 10], content_length=len(BODY) - at, etag='"v1"', **extra))

    limits = fetch.Limits(max_bytes=10**6, pause_seconds=0.001)
    with answering(answer, **{"media.example.com": [[PUBLIC_IP]]}) as internet:
        failure_of(internet, "http://media.example.com/v", tmp_path / "i0", limits=limits)

        assert [request.headers.get("range") for request in internet.requests] == [
            None,
            "bytes=10-",
            "bytes=20-",
            "bytes=30-",
        ]


def test_rebinding_name_never_reaches_loopback(tmp_path: Path) -> None:
    # given a name that is public when it is first asked for, and loopback ever after, behind a source that is cut
    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(said(200, b"half", content_length=8))

    with answering(answer, **{"rebind.example.com": [[PUBLIC_IP], ["127.0.0.1"], ["::1"]]}) as internet:
        failure_of(internet, "http://rebind.example.com/", tmp_path / "i0")

        assert internet.dialled == [(PUBLIC_IP, 80)]
        assert internet.asked["rebind.example.com"] == 2


def test_name_is_looked_up_once_for_each_connection(tmp_path: Path) -> None:
    with answering(media, **{"media.example.com": [[PUBLIC_IP]]}) as internet:
        download(internet, "http://media.example.com/", tmp_path / "i0")

        assert internet.asked == {"media.example.com": 1}
        assert internet.requests[0].headers["host"] == "media.example.com"


def test_connection_that_ended_elsewhere_is_not_used(tmp_path: Path) -> None:
    with answering(media, **{"media.example.com": [[PUBLIC_IP]]}) as internet:
        internet.lies_about_its_address = "127.0.0.1"

        assert failure_of(internet, "http://media.example.com/", tmp_path / "i0").message == UNREACHABLE
        assert internet.requests == []


def test_connection_that_is_reset_at_once_is_a_host_that_cannot_be_reached(tmp_path: Path) -> None:
    def gone(stream: httpcore.NetworkStream) -> str:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    with answering(media, **{"media.example.com": [[PUBLIC_IP]]}) as internet:
        network = guard.Network(resolve=internet.network.resolve, dial=internet.network.dial, peer=gone)
        source = fetch.Source(name="in.mp4", url="http://media.example.com/")
        with fetch.Client(LIMITS, urls.PUBLIC, network) as http, pytest.raises(TaskFailed, match="cannot be reached"):
            fetch.fetch(http, source, tmp_path / "i0", stopped=lambda: False)


def test_second_address_is_dialled_when_the_first_is_dead(tmp_path: Path) -> None:
    with answering(media, **{"media.example.com": [["151.101.1.69", PUBLIC_IP]]}) as internet:
        alive = internet.network.dial

        def dial(address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
            if address != PUBLIC_IP:
                assert timeout is not None
                assert timeout <= LIMITS.connect_seconds / 2
                raise httpcore.ConnectTimeout
            return alive(address, port, timeout)

        network = guard.Network(resolve=internet.network.resolve, dial=dial, peer=internet.network.peer)
        with fetch.Client(LIMITS, urls.PUBLIC, network) as http:
            source = fetch.Source(name="in.mp4", url="http://media.example.com/")
            assert fetch.fetch(http, source, tmp_path / "i0", stopped=lambda: False) == 5


def test_refused_and_unreachable_hosts_cannot_be_told_apart(tmp_path: Path) -> None:
    """The failures are equal, and so are the attempts: a refused name is asked for as often as a dead one."""
    dead = {"dead.example.com": [["151.101.1.69"]], "inside.example.com": [["10.0.0.9"]]}
    with answering(media, **dead) as internet:
        dials: list[str] = []

        def dial(address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
            dials.append(address)
            raise httpcore.ConnectError("nobody listens")

        network = guard.Network(resolve=internet.network.resolve, dial=dial, peer=internet.network.peer)
        failures = []
        for host in ("dead", "inside", "unknown"):
            source = fetch.Source(name="in.mp4", url=f"http://{host}.example.com/")
            with fetch.Client(LIMITS, urls.PUBLIC, network) as http, pytest.raises(TaskFailed) as caught:
                fetch.fetch(http, source, tmp_path / "i0", stopped=lambda: False)
            failures.append(caught.value.failure)

        expected = Failure.of(FailureCode.DOWNLOAD_FAILED, UNREACHABLE, details={"input": "in.mp4"})
        assert failures == [expected] * 3
        assert set(internet.asked.values()) == {LIMITS.attempts}
        assert set(dials) == {"151.101.1.69"}


def test_opened_network_is_reached_on_any_port_and_a_public_one_is_not(tmp_path: Path) -> None:
    policy = urls.Policy(private_networks=(ip_network("10.0.0.0/8"),))
    names = {"inside": [["10.0.0.9"]], "outside": [[PUBLIC_IP]], "metadata": [["169.254.169.254"]]}
    with answering(media, **names) as internet:
        assert download(internet, "http://inside:9000/v", tmp_path / "i0", policy=policy) == b"media"
        for host in ("outside", "metadata"):
            assert failure_of(internet, f"http://{host}:9000/v", tmp_path / "i0", policy=policy).message == UNREACHABLE

        assert internet.dialled == [("10.0.0.9", 9000)]


def test_resolver_that_hangs_is_left_behind(tmp_path: Path) -> None:
    over = threading.Event()

    def hang(host: str) -> list[str]:
        over.wait(60)
        return []

    began = time.monotonic()
    source, limits = fetch.Source(name="in.mp4", url="http://media.example.com/"), replace(LIMITS, connect_seconds=0.5)
    with fetch.Client(limits, urls.PUBLIC, guard.Network(resolve=hang)) as http, pytest.raises(TaskFailed) as caught:
        fetch.fetch(http, source, tmp_path / "i0", stopped=lambda: False)
    over.set()

    assert caught.value.failure.message == UNREACHABLE
    assert time.monotonic() - began < SOON


def test_unix_sockets_are_refused() -> None:
    with pytest.raises(httpcore.ConnectError):
        guard.Guard(urls.PUBLIC, guard.Network()).connect_unix_socket("/var/run/docker.sock")


def test_a_host_that_httpx_reads_differently_is_never_asked() -> None:
    place = urls.Web(url="http://media.example.com/", scheme="http", host="other.example.com", port=80)
    with fetch.Client(LIMITS, urls.PUBLIC) as http, pytest.raises(httpx.InvalidURL):
        http.get(place, {})


def test_proxies_of_the_environment_see_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(media) as proxy, answering(media, **{"media.example.com": [[PUBLIC_IP]]}) as internet:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")

        for scheme in ("http", "https"):
            assert download(internet, f"{scheme}://media.example.com/", tmp_path / "i0") == b"media"

        assert proxy.requests == []
        assert len(internet.requests) == 2


def test_cookies_and_credentials_are_never_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine media.example.com login me password hunter2")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def answer(request: Request, connection: socket.socket) -> None:
        cookie = "session=1; Path=/"
        moved = said(302, location=f"/{request.number}", set_cookie=cookie)
        connection.sendall(moved if request.number < 3 else said(200, b"media", set_cookie=cookie))

    with answering(answer, **{"media.example.com": [[PUBLIC_IP]]}) as internet:
        download(internet, "http://media.example.com/v", tmp_path / "i0")

        for request in internet.requests:
            assert set(request.headers) == {"host", "user-agent", "accept", "accept-encoding"}
            assert request.headers["accept-encoding"] == "identity"


def test_fragment_is_not_sent_and_the_query_is(tmp_path: Path) -> None:
    with answering(media, **{"xn--bcher-kva.example.com": [[PUBLIC_IP]]}) as internet:
        download(internet, "https://bücher.example.com./ü v?a=ß#t=1".replace(" ", "%20"), tmp_path / "i0")

        (request,) = internet.requests
        assert (request.path, request.headers["host"]) == ("/%C3%BC%20v?a=%C3%9F", "xn--bcher-kva.example.com")


def certificate(folder: Path, name: str) -> Path:
    """A certificate for `name` that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + built.public_bytes(Encoding.PEM)
    )
    return path


def test_tls_is_for_the_name_although_the_address_is_dialled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a server with a certificate for one name
    pem = certificate(tmp_path, "media.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)

    def answer_in_tls(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(said(200, b"media"))

    with tls_server(answer_in_tls) as port:
        network = guard.Network(
            resolve=lambda _: [PUBLIC_IP],
            dial=lambda _, __, timeout: httpcore.SyncBackend().connect_tcp("127.0.0.1", port, timeout=timeout),
            peer=lambda _: PUBLIC_IP,
        )
        with fetch.Client(LIMITS, urls.PUBLIC, network) as http:
            # when it is asked for under that name, it answers
            source = fetch.Source(name="in.mp4", url="https://media.example.com./v.mp4")
            assert fetch.fetch(http, source, tmp_path / "i0", stopped=lambda: False) == 5
            assert names == ["media.example.com"]

            # and under another name, it is not believed
            source = fetch.Source(name="in.mp4", url="https://other.example.com/v.mp4")
            with pytest.raises(TaskFailed, match="cannot be reached"):
                fetch.fetch(http, source, tmp_path / "i0", stopped=lambda: False)


@contextlib.contextmanager
def tls_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), connection:
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join()


def test_silent_source_does_not_delay_the_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    limits = fetch.Limits(max_bytes=10**6)

    names = {"media.example.com": [[PUBLIC_IP]]}
    with answering(lambda _, connection: until_it_leaves(connection), **names) as internet:
        began = time.monotonic()
        source = fetch.Source(name="in.mp4", url="http://media.example.com/")
        with fetch.Client(limits, urls.PUBLIC, internet.network) as http, pytest.raises(Stopped):
            fetch.fetch(http, source, tmp_path / "i0", stopped=stop.is_set)
        assert time.monotonic() - began < SOON
