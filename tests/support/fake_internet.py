"""An internet of one loopback server: any name, any address, and every connection ends there.

The guard under test gets it in the place of the system's resolver and sockets, and cannot tell: it sees the addresses
that it dialled. What it asked and dialled is remembered. TLS is left out; `https` is only a scheme here.
"""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpcore

from core.worker import guard


@dataclass(frozen=True, slots=True)
class Request:
    number: int  # of all requests, from 1
    path: str
    headers: Mapping[str, str]  # with names in small letters


Answer = Callable[[Request, socket.socket], None]


@dataclass
class FakeInternet:
    """`names` has the answers to each question about a name, the last one for all further questions."""

    port: int
    names: Mapping[str, Sequence[Sequence[str]]]
    asked: Counter[str] = field(default_factory=Counter)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    lies_about_its_address: str | None = None

    @property
    def network(self) -> guard.Network:
        return guard.Network(resolve=self._resolve, dial=self._dial, peer=self._peer)

    def _resolve(self, host: str) -> Sequence[str]:
        answers = self.names.get(host, [[]])
        self.asked[host] += 1
        return answers[min(self.asked[host], len(answers)) - 1]

    def _dial(self, address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
        self.dialled.append((address, port))
        return _Plain(httpcore.SyncBackend().connect_tcp("127.0.0.1", self.port, timeout=timeout), address)

    def _peer(self, stream: httpcore.NetworkStream) -> str:
        assert isinstance(stream, _Plain)
        return self.lies_about_its_address or stream.address


class _Plain(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, address: str) -> None:
        self._inner = inner
        self.address = address

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


@contextlib.contextmanager
def answering(answer: Answer, **names: Sequence[Sequence[str]]) -> Iterator[FakeInternet]:
    """An internet whose one server lets `answer` write, byte by byte if it likes; then the connection is closed."""
    closing = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        internet = FakeInternet(listener.getsockname()[1], names)
        thread = threading.Thread(target=_serve, args=(listener, internet, answer, closing))
        thread.start()
        try:
            yield internet
        finally:
            closing.set()
            with contextlib.suppress(OSError):
                socket.create_connection(listener.getsockname()).close()
            thread.join()


def _serve(listener: socket.socket, internet: FakeInternet, answer: Answer, closing: threading.Event) -> None:
    while True:
        connection, _ = listener.accept()
        if closing.is_set():
            connection.close()
            return
        threading.Thread(target=_serve_one, args=(connection, internet, answer), daemon=True).start()


def _serve_one(connection: socket.socket, internet: FakeInternet, answer: Answer) -> None:
    with connection, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                return
            head += data
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        request = Request(
            len(internet.requests) + 1, first.split(" ")[1], {name.lower(): text for name, _, text in pairs}
        )
        internet.requests.append(request)
        answer(request, connection)


def said(status: int, body: bytes = b"", **headers: str | int) -> bytes:
    """An answer, with the length of its body unless another one is given; `_` in a header's name stands for `-`."""
    lines = {"content_length": len(body), "connection": "close"} | headers
    text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} X\r\n{text}\r\n".encode() + body
