"""A network to AWS that fails as told: a loopback proxy in front of moto's server.

`faults.on("PutItem", LOST)` lets the next PutItem reach the server and its answer be lost; `always=True` does so with
each from then on. Operations without a fault pass. boto3 needs nothing but the proxy's URL, so its own retries, checks
and parsers are what is tested. How long it waits is told by `client`, not by a clock: a machine that stands still for
a while would else be taken for a silent AWS, and a request on its way for one that was never sent.
"""

import http.client
import json
import threading
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

BATCH_OPERATIONS = ("SubmitJob", "DescribeJobs", "TerminateJob", "DescribeJobQueues", "ListJobs")
HELD_SECONDS = 60.0  # far longer than any client that is held waits
_IN_VAIN = "x-waited-in-vain"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """One request, to be forwarded or not, and answered or not."""

    def __init__(self, handler: "_Handler") -> None:
        length = int(handler.headers.get("Content-Length", 0))
        self.body = handler.rfile.read(length)
        self._handler = handler
        self.operation = _operation(handler.path, handler.headers.get("X-Amz-Target", ""))
        self.call = handler.headers.get("amz-sdk-invocation-id")  # the same each time that boto3 sends it

    def request(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body or b"{}")
        return parsed

    def forward(self) -> Answer:
        handler = self._handler
        connection = http.client.HTTPConnection("127.0.0.1", handler.server.behind, timeout=60)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() != "connection"}
            connection.request(handler.command, handler.path, body=self.body, headers=headers)
            answer = connection.getresponse()
            kept = {n: v for n, v in answer.getheaders() if n.lower() not in ("content-length", "connection", "server")}
            return Answer(answer.status, kept, answer.read())
        finally:
            connection.close()

    def answer(self, answer: Answer, *, length: int | None = None) -> None:
        handler = self._handler
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(answer.body)
        if length is not None:
            self.close()

    def close(self) -> None:
        self._handler.close_connection = True

    def hold(self) -> None:
        """Say nothing, until the client has gone or the test is over."""
        self._handler.server.over.wait(HELD_SECONDS)
        self.close()


Fault = Callable[[Exchange], None]


def error(code: str, status: int = 400) -> Fault:
    """An error as AWS says it, in DynamoDB's way and in the REST services' way."""
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": "a fault"}).encode()
    return lambda exchange: exchange.answer(Answer(status, {"x-amzn-ErrorType": code}, body))


def says(answer: Callable[[dict[str, Any]], Any]) -> Fault:
    """An answer that is made from the request."""
    return lambda exchange: exchange.answer(Answer(200, {}, json.dumps(answer(exchange.request())).encode()))


def after(act: Callable[[], object], then: Fault) -> Fault:
    """The request is done, `act` happens elsewhere, and then comes what `then` makes of the answer."""

    def fault(exchange: Exchange) -> None:
        exchange.forward()
        act()
        then(exchange)

    return fault


def PASS(exchange: Exchange) -> None:  # noqa: N802 - faults are named alike, whatever makes them
    exchange.answer(exchange.forward())


def CLOSED(exchange: Exchange) -> None:  # noqa: N802
    """Nothing reaches the server, and the client sees the connection end."""
    exchange.close()


def LOST(exchange: Exchange) -> None:  # noqa: N802
    """It is done, and the connection ends before the answer."""
    exchange.forward()
    exchange.close()


def HELD(exchange: Exchange) -> None:  # noqa: N802
    """Nothing reaches the server, and any client waits in vain, by its own clock."""
    exchange.hold()


def SILENT(exchange: Exchange) -> None:  # noqa: N802
    """Nothing reaches the server, and a client of `client` has waited in vain."""
    exchange.answer(Answer(504, {_IN_VAIN: "yes"}, b""))


def LATE(exchange: Exchange) -> None:  # noqa: N802
    """It is done, and a client of `client` has waited in vain for the answer."""
    exchange.forward()
    SILENT(exchange)


def TRUNCATED(exchange: Exchange) -> None:  # noqa: N802
    """It is done, and the answer is cut off in its middle."""
    answer = exchange.forward()
    half = Answer(answer.status, answer.headers, answer.body[: len(answer.body) // 2])
    exchange.answer(half, length=len(answer.body) + 2)


def GARBLED(exchange: Exchange) -> None:  # noqa: N802
    """It is done, and something else arrives in the place of the answer; its checksum, if it has one, says so."""
    answer = exchange.forward()
    exchange.answer(Answer(answer.status, answer.headers, b"<html>garbage</html>"))


def MISSUMMED(exchange: Exchange) -> None:  # noqa: N802
    """It is done, and the answer's checksum is wrong."""
    answer = exchange.forward()
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "x-amz-crc32"}
    exchange.answer(Answer(answer.status, headers | {"x-amz-crc32": str(zlib.crc32(b"other"))}, answer.body))


@dataclass
class Faults:
    url: str
    calls: Counter[str] = field(default_factory=Counter)  # by operation
    requests: Counter[str] = field(default_factory=Counter)  # the same, with what boto3 sent again
    chosen: Callable[[Exchange], Fault | None] = lambda exchange: None  # asked when nothing else is planned
    _next: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    _always: dict[str, Fault] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, operation: str, *faults: Fault, always: bool = False) -> None:
        if always:
            (self._always[operation],) = faults
        else:
            self._next[operation].extend(faults)

    def heal(self) -> None:
        self._next.clear()
        self._always.clear()
        self.chosen = lambda exchange: None

    def fault(self, exchange: Exchange) -> Fault:
        with self._lock:
            self.requests[exchange.operation] += 1
            if exchange.call not in self._known:
                self.calls[exchange.operation] += 1
            if exchange.call:
                self._known.add(exchange.call)
            if self._next[exchange.operation]:
                return self._next[exchange.operation].popleft()
            return self._always.get(exchange.operation) or self.chosen(exchange) or PASS


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    faults: Faults

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that has gone is what some tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        exchange = Exchange(self)
        self.server.faults.fault(exchange)(exchange)

    do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815 - the names are the base class's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _operation(path: str, target: str) -> str:
    if target:
        return target.rpartition(".")[2]
    last = urlsplit(path).path.rpartition("/")[2]
    return next((name for name in BATCH_OPERATIONS if name.lower() == last), path)


def client(service: Literal["batch", "dynamodb"], url: str, *, tries: int) -> Any:
    """boto3's, with more patience than any machine needs, which a fault may have come to its end."""
    bounds = Config(connect_timeout=60, read_timeout=60, retries={"mode": "standard", "total_max_attempts": tries})
    made = boto3.client(service, endpoint_url=url, config=bounds)
    session = URLLib3Session(timeout=60)

    def send(request: Any, **_: object) -> Any:
        answer = session.send(request)
        if _IN_VAIN in answer.headers:
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer

    made.meta.events.register("before-send", send)
    return made


@contextmanager
def serving(behind_url: str) -> Iterator[Faults]:
    server = _Server(urlsplit(behind_url).port or 80)
    server.faults = Faults(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.faults
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
