"""Somebody who is told things over HTTP: a loopback server that keeps what it gets and answers as it is told to.

It works on raw sockets, so that it can misbehave at any byte.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from support.fake_internet import said


@dataclass(frozen=True, slots=True)
class Call:
    number: int  # of all calls, from 1
    method: str
    path: str
    headers: Mapping[str, str]  # with names in small letters
    body: bytes


Answer = Callable[["Receiver", Call, socket.socket], None]


@dataclass
class Receiver:
    port: int
    answer: Answer
    calls: list[Call] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)  # ends whatever an answer waits for
    lock: threading.Lock = field(default_factory=threading.Lock)
    last: tuple[str, int] | None = None  # the address of the caller who ends it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=s3cr3t"

    def take(self, connection: socket.socket) -> None:
        """One call and its answer; a caller that hangs up is no fault here."""
        with connection, contextlib.suppress(OSError):
            connection.settimeout(20)
            first, headers, body = _read(connection)
            method, path, _ = first.split(" ")
            with self.lock:
                call = Call(len(self.calls) + 1, method, path, headers, body)
                self.calls.append(call)
            self.answer(self, call, connection)


def _read(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += _more(connection)
    return first, headers, body


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError
    return data


def statuses(*given: int) -> Answer:
    """The first call gets the first one, and so on; the last one is for all further calls."""

    def answer(receiver: Receiver, call: Call, connection: socket.socket) -> None:
        connection.sendall(said(given[min(call.number, len(given)) - 1], b"{}"))

    return answer


def sending(data: bytes) -> Answer:
    return lambda receiver, call, connection: connection.sendall(data)


def drip(receiver: Receiver, call: Call, connection: socket.socket) -> None:
    """Headers without end, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while not receiver.closing.wait(0.02):
        connection.sendall(b"y")


def silence(receiver: Receiver, call: Call, connection: socket.socket) -> None:
    receiver.closing.wait(20)


def hang_up(receiver: Receiver, call: Call, connection: socket.socket) -> None:
    """The call came, and its answer does not."""


@contextlib.contextmanager
def receiving(answer: Answer) -> Iterator[Receiver]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = Receiver(listener.getsockname()[1], answer)
        thread = threading.Thread(target=_serve, args=(listener, receiver))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.closing.set()
            with socket.socket() as last:
                last.bind(("127.0.0.1", 0))
                receiver.last = last.getsockname()
                last.connect(listener.getsockname())
                thread.join()


def _serve(listener: socket.socket, receiver: Receiver) -> None:
    threads = []
    while True:
        connection, address = listener.accept()
        if address == receiver.last:  # and so all who called before are heard
            connection.close()
            break
        threads.append(threading.Thread(target=receiver.take, args=(connection,)))
        threads[-1].start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def never_reading() -> Iterator[str]:
    """The URL of somebody who takes the connection, and then not a byte."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """A URL whose port is held, so that nobody else gets it, and at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/"
