"""Stands before moto's S3 and spoils what it is told to: the network and the answers as they are on a bad day.

A fault is a function that takes the connection to the client and a function that forwards the request and gives the
whole answer; it decides what of it happens and what comes back. Requests without a fault go through.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config

Fault = Callable[[socket.socket, Callable[[], bytes]], object]
_PIECE = 16 * 1024


class S3Proxy:
    """`url` is its endpoint; `seen` has the name of each request, in S3's words and the order of their coming."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.url = ""
        self.seen: list[str] = []
        self.bytes_per_second: float | None = None  # of what each client sends
        self.body_bytes = 0  # of requests, taken so far
        self._faults: dict[str, list[Fault]] = {}
        self._always: dict[str, Fault] = {}
        self._lock = threading.Lock()

    def once(self, operation: str, *faults: Fault) -> None:
        """The next requests of this name, each with the next of these faults."""
        self._faults[operation] = list(faults)

    def always(self, operation: str, fault: Fault) -> None:
        self._always[operation] = fault

    def heal(self) -> None:
        self._faults, self._always, self.bytes_per_second = {}, {}, None

    def fault_of(self, operation: str) -> Fault | None:
        with self._lock:  # parts come side by side
            waiting = self._faults.get(operation)
            return waiting.pop(0) if waiting else self._always.get(operation)

    def client(self, *, read_timeout: float = 20, tries: int = 2) -> Any:
        """boto3's S3, by way of the proxy, with less patience than in earnest."""
        config = Config(
            connect_timeout=5,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": tries},
            s3={"addressing_style": "path"},
        )
        return boto3.client("s3", endpoint_url=self.url, config=config)


@contextmanager
def proxying(upstream: str) -> Iterator[S3Proxy]:
    proxy = S3Proxy(upstream)

    connections: list[socket.socket] = []

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            connections.append(self.connection)
            with suppress(ConnectionError):
                _exchange(proxy, self.connection, self.rfile)

    class Server(ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = False  # and so they are waited for
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler, bind_and_activate=False) as server:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        server.server_bind()
        server.server_activate()
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.heal()
            server.shutdown()
            thread.join()
            for connection in connections:  # nobody waits any more for what is silent
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _exchange(proxy: S3Proxy, connection: socket.socket, reader: Any) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return
        head += line
    operation = operation_of(head)
    proxy.seen.append(operation)
    if re.search(rb"(?im)^expect: *100-continue", head):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = _body(proxy, head, reader)
    if body is None:
        return

    def forward() -> bytes:
        return _forwarded(proxy.upstream, head, body)

    fault = proxy.fault_of(operation)
    if fault:
        fault(connection, forward)
    else:
        connection.sendall(forward())


def _body(proxy: S3Proxy, head: bytes, reader: Any) -> bytes | None:
    """None when the client has gone before its end."""
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    wanted, pieces, had = int(length[1]) if length else 0, [], 0
    while had < wanted:
        piece = reader.read1(min(_PIECE, wanted - had))
        if not piece:
            return None
        pieces.append(piece)
        had += len(piece)
        proxy.body_bytes += len(piece)
        if proxy.bytes_per_second:
            time.sleep(len(piece) / proxy.bytes_per_second)
    return b"".join(pieces)


def _forwarded(upstream: tuple[str, int], head: bytes, body: bytes) -> bytes:
    head = re.sub(rb"(?im)^(connection|expect):[^\r]*\r\n", b"", head)
    with socket.create_connection(upstream, timeout=60) as server:
        server.sendall(head[:-2] + b"Connection: close\r\n\r\n" + body)
        return b"".join(iter(lambda: server.recv(65536), b""))


def operation_of(head: bytes) -> str:
    method, target = head.split(b" ", 2)[:2]
    query = parse_qs(urlsplit(target.decode()).query, keep_blank_values=True)
    named = {
        "POST": {"uploads": "CreateMultipartUpload", "uploadId": "CompleteMultipartUpload", "delete": "DeleteObjects"},
        "PUT": {"partNumber": "UploadPart", "": "PutObject"},
        "GET": {"uploads": "ListMultipartUploads", "list-type": "ListObjectsV2", "": "GetObject"},
        "HEAD": {"": "HeadObject"},
        "DELETE": {"uploadId": "AbortMultipartUpload", "": "DeleteObject"},
    }[method.decode()]
    return next(name for parameter, name in named.items() if not parameter or parameter in query)


# The faults


def passes(client: socket.socket, forward: Callable[[], bytes]) -> None:
    """No fault, for where the next one is to have one."""
    client.sendall(forward())


def answers(status: int, code: str) -> Fault:
    """The request is not carried out."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    return lambda client, forward: client.sendall(_message(status, text))


def says(text: bytes, status: int = 200) -> Fault:
    """The request is not carried out, and the answer is this."""
    return lambda client, forward: client.sendall(_message(status, text))


def hangs_up(client: socket.socket, forward: Callable[[], bytes]) -> None:
    """The request is not carried out, and there is no answer."""


def loses_the_answer(client: socket.socket, forward: Callable[[], bytes]) -> None:
    forward()


def truncates(client: socket.socket, forward: Callable[[], bytes]) -> None:
    """Half of the answer's body."""
    head, _, body = forward().partition(b"\r\n\r\n")
    head = re.sub(rb"(?im)^(transfer-encoding|content-length):[^\r]*\r\n", b"", head + b"\r\n")
    client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[: len(body) // 2])


def garbles(client: socket.socket, forward: Callable[[], bytes]) -> None:
    """The request is carried out, and the answer is no XML."""
    forward()
    client.sendall(_message(200, b"<html><body>It works!"))


def silent_for(seconds: float) -> Fault:
    """The request is not carried out, and the connection stays open."""

    def wait(client: socket.socket, forward: Callable[[], bytes]) -> None:
        client.settimeout(seconds)
        with suppress(TimeoutError, ConnectionError):
            client.recv(1)

    return wait


def held(coming: threading.Event) -> Fault:
    """The request, which `coming` tells of, is not carried out, and the connection stays open until the client goes."""

    def wait(client: socket.socket, forward: Callable[[], bytes]) -> None:
        coming.set()
        silent_for(120)(client, forward)

    return wait


def changes(header: str, value: str) -> Fault:
    """A header of the answer is another one."""

    def change(client: socket.socket, forward: Callable[[], bytes]) -> None:
        pattern = rb"(?im)^" + re.escape(header.encode()) + rb": [^\r]*"
        client.sendall(re.sub(pattern, f"{header}: {value}".encode(), forward(), count=1))

    return change


def _message(status: int, text: bytes) -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nConnection: close\r\n"
        f"Content-Length: {len(text)}\r\n\r\n".encode()
        + text
    )
