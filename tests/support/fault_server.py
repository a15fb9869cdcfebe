"""A source on a raw socket of loopback that goes wrong in one of the ways in BEHAVIOURS, down to the byte.

What http.server cannot be made to do is done here. Each connection is one visit, and is closed after it; the server
remembers which byte each visit asked to begin with. The file that is served is BODY.
"""

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

BODY = random.Random(4).randbytes(200_000)
OTHER = random.Random(5).randbytes(150_000)  # what lies there after it was changed
HALF = len(BODY) // 2


@dataclass
class Visit:
    """One connection, after its request was read."""

    connection: socket.socket
    number: int  # of all visits, from 1
    start: int  # the first byte asked for
    is_over: threading.Event

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def drip(self, data: bytes, *, every_seconds: float = 0.02) -> None:
        for byte in data:
            self.send(bytes([byte]))
            self.wait(every_seconds)

    def repeat(self, data: bytes) -> None:
        while not self.is_over.is_set():
            self.send(data)

    def wait(self, seconds: float) -> None:
        if self.is_over.wait(seconds):
            raise ConnectionAbortedError

    def reset(self) -> None:
        self.wait(0.02)  # what was sent before is read first
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


Behaviour = Callable[[Visit], None]


@dataclass
class FaultServer:
    url: str
    starts: list[int] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)
    visits: list[tuple[threading.Thread, socket.socket]] = field(default_factory=list)
    last: tuple[str, int] | None = None  # the address of the visitor who ends it


@contextlib.contextmanager
def going_wrong(behaviour: Behaviour) -> Iterator[FaultServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = FaultServer(f"http://127.0.0.1:{listener.getsockname()[1]}/v.mp4")
        thread = threading.Thread(target=_serve, args=(listener, server, behaviour))
        thread.start()
        try:
            yield server
        finally:
            server.is_over.set()
            with socket.socket() as last:
                last.bind(("127.0.0.1", 0))
                server.last = last.getsockname()
                last.connect(listener.getsockname())
                thread.join()
            for visit, connection in server.visits:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                visit.join()


def _serve(listener: socket.socket, server: FaultServer, behaviour: Behaviour) -> None:
    while True:
        connection, address = listener.accept()
        if address == server.last:  # and so all who came before have had their visit
            connection.close()
            return
        visit = threading.Thread(target=_visited, args=(connection, server, behaviour))
        server.visits.append((visit, connection))
        visit.start()


def _visited(connection: socket.socket, server: FaultServer, behaviour: Behaviour) -> None:
    with connection, contextlib.suppress(OSError):
        start = None if behaviour in DEAF else _asked_start(connection)
        server.starts.append(start or 0)
        behaviour(Visit(connection, len(server.starts), start or 0, server.is_over))


def _asked_start(connection: socket.socket) -> int:
    """Which byte the request asks to begin with; what is no request, such as a TLS handshake, is taken for one."""
    request = connection.recv(65536)
    while request.startswith(b"GET ") and b"\r\n\r\n" not in request:
        if not (data := connection.recv(65536)):
            break
        request += data
    _, _, asked = request.lower().partition(b"\r\nrange: bytes=")
    return int(asked.partition(b"-")[0]) if asked else 0


# How an answer is written.


def head(status: int = 200, *lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} X", *lines, "")).encode()


def said(status: int, *lines: str, body: bytes = b"") -> bytes:
    return head(status, *lines, f"Content-Length: {len(body)}") + body


def chunk(data: bytes, extension: str = "") -> bytes:
    return f"{len(data):x}{extension}\r\n".encode() + data + b"\r\n"


def part(start: int, end: int, *lines: str, of: int | str = len(BODY), body: bytes = BODY) -> bytes:
    return said(206, f"Content-Range: bytes {start}-{end - 1}/{of}", *lines, body=body[start:end])


# The shapes that most behaviours have.


def always(*answers: bytes) -> Behaviour:
    """The same answer at each visit."""
    return in_turn(b"".join(answers))


def in_turn(*answers: bytes) -> Behaviour:
    """One answer after another, the last one for all further visits."""
    return lambda visit: visit.send(answers[min(visit.number, len(answers)) - 1])


def first(answer: bytes, then: Behaviour) -> Behaviour:
    return lambda visit: visit.send(answer) if visit.number == 1 else then(visit)


def resuming(etag: str, *, most: int = len(BODY)) -> Behaviour:
    """A source that can continue, and breaks off after `most` bytes each time."""

    def behave(visit: Visit) -> None:
        lines = [f"ETag: {etag}", f"Content-Length: {len(BODY) - visit.start}"]
        whole = f"Content-Range: bytes {visit.start}-{len(BODY) - 1}/{len(BODY)}"
        visit.send(head(206, whole, *lines) if visit.start else head(200, *lines))
        visit.send(BODY[visit.start : visit.start + most])

    return behave


def then_waits(answer: bytes, seconds: float = 30.0, more: bytes = b"") -> Behaviour:
    def behave(visit: Visit) -> None:
        visit.send(answer)
        visit.wait(seconds)
        visit.send(more)

    return behave


def then_resets(answer: bytes) -> Behaviour:
    def behave(visit: Visit) -> None:
        visit.send(answer)
        visit.reset()

    return behave


def then_drips(answer: bytes, more: bytes) -> Behaviour:
    def behave(visit: Visit) -> None:
        visit.send(answer)
        visit.drip(more)

    return behave


def then_repeats(answer: bytes, more: bytes) -> Behaviour:
    def behave(visit: Visit) -> None:
        visit.send(answer)
        visit.repeat(more)

    return behave


def moved(location: str | None) -> Behaviour:
    return always(said(302, *([] if location is None else [f"Location: {location}"])))


def moved_on(visit: Visit) -> None:
    visit.send(said(302, f"Location: /{visit.number}.mp4"))


def closes(visit: Visit) -> None:
    pass


def resets(visit: Visit) -> None:
    visit.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


OK = said(200, 'ETag: "v1"', body=BODY)
CUT = head(200, 'ETag: "v1"', f"Content-Length: {len(BODY)}") + BODY[:HALF]
CHUNKED = head(200, "Transfer-Encoding: chunked")
CHUNKS_CUT = head(200, 'ETag: "v1"', "Transfer-Encoding: chunked") + chunk(BODY[:HALF])
TWO_CHUNKS = chunk(BODY[:HALF]) + chunk(BODY[HALF:])
DEAF = frozenset({closes, resets})  # these read no request


def continues_with(answer: bytes) -> Behaviour:
    """Cut first; `answer` to whoever asks for the rest; all of it to whoever begins again."""

    def behave(visit: Visit) -> None:
        visit.send(answer if visit.start else CUT if visit.number == 1 else OK)

    return behave


BEHAVIOURS: Mapping[str, Behaviour] = {
    # the connection
    "closes at once": closes,
    "resets at once": resets,
    "closes without an answer": always(b""),
    "resets without an answer": then_resets(b""),
    "never answers": then_waits(b""),
    # the head
    "resets in the head": then_resets(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "closes in the head": always(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "drips the head": then_drips(b"", head(200, *["x: y"] * 99)),
    "garbage for a status line": always(b"what would you like?\r\n\r\n"),
    "HTTP/0.9": always(b"<html>hello</html>"),
    "another protocol": always(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a radio station": always(b"ICY 200 OK\r\n\r\n" + BODY),
    "one header without end": then_repeats(b"HTTP/1.1 200 OK\r\nx: ", b"x" * 65536),
    "headers without end": then_repeats(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 10_000),
    "a head of 200 kB": always(said(200, "x: " + "y" * 200_000, body=BODY)),
    "2000 headers": always(said(200, *[f"x-{n}: y" for n in range(2000)], body=BODY)),
    "lines without carriage returns": always(head(200, f"Content-Length: {len(BODY)}").replace(b"\r", b"") + BODY),
    "100 before the answer": always(head(100), OK),
    "103 before the answer": always(head(103, "Link: </a>"), OK),
    "interim answers without end": then_repeats(b"", head(103, "Link: </a>") * 1000),
    "interim answers now and then": then_drips(b"", head(100) * 99),
    # the length
    "length too short": always(head(200, f"Content-Length: {len(BODY) - 9}"), BODY),
    "length too long": always(head(200, f"Content-Length: {len(BODY) + 9}"), BODY),
    "negative length": always(head(200, "Content-Length: -1"), BODY),
    "length in words": always(head(200, "Content-Length: many"), BODY),
    "length of 5000 digits": always(head(200, "Content-Length: " + "9" * 5000), BODY),
    "two lengths": always(head(200, f"Content-Length: {len(BODY)}", "Content-Length: 5"), BODY),
    "the same length twice": always(head(200, *[f"Content-Length: {len(BODY)}"] * 2), BODY),
    "no length": always(head(200), BODY),
    "no length, and a reset": then_resets(head(200) + BODY[:HALF]),
    "no length, and no end": then_repeats(head(200), bytes(65536)),
    "more than is taken": always(head(200, f"Content-Length: {10**13}")),
    "empty": always(said(200)),
    # chunks
    "chunked": always(CHUNKED, TWO_CHUNKS, b"0\r\n\r\n"),
    "chunks with extensions and trailers": always(CHUNKED, chunk(BODY, ";a=b"), b"0;c\r\nx: y\r\n\r\n"),
    "chunks and a length": always(
        head(200, "Transfer-Encoding: chunked", "Content-Length: 5"), chunk(BODY), chunk(b"")
    ),
    "chunk longer than it says": always(CHUNKED, b"5\r\n", BODY, b"\r\n0\r\n\r\n"),
    "chunk shorter than it says": always(CHUNKED, f"{len(BODY) + 9:x}\r\n".encode(), BODY, b"\r\n0\r\n\r\n"),
    "chunk size in words": always(CHUNKED, b"many\r\n", BODY),
    "no last chunk": always(CHUNKED, TWO_CHUNKS),
    "chunk extension without end": then_repeats(CHUNKED + b"5;", b"x" * 65536),
    "trailers without end": then_repeats(CHUNKED + chunk(BODY) + b"0\r\n", b"x: y\r\n" * 10_000),
    "chunks without end": then_repeats(CHUNKED, chunk(bytes(65536))),
    "one chunk without end": then_repeats(CHUNKED + b"ffffffffffffffff\r\n", bytes(65536)),
    "unknown transfer encoding": always(head(200, "Transfer-Encoding: gzip, chunked"), TWO_CHUNKS),
    # cut, and continued
    "resets in the body": then_resets(head(200, f"Content-Length: {len(BODY)}") + BODY[:HALF]),
    "cut once": continues_with(part(HALF, len(BODY), 'ETag: "v1"')),
    "cut, with a weak ETag": first(CUT.replace(b'"v1"', b'W/"v1"'), always(OK)),
    "cut, without an ETag": first(head(200, f"Content-Length: {len(BODY)}") + BODY[:HALF], always(OK)),
    "cut, and changed": first(CUT, always(said(200, 'ETag: "v2"', body=OTHER))),
    "cut, and all of it again": first(CUT, always(OK)),
    "cut three times": resuming('"v1"', most=60_000),
    "chunks cut once": in_turn(CHUNKS_CUT, part(HALF, len(BODY), 'ETag: "v1"', of="*")),
    "chunks cut, and continued not to the end": in_turn(CHUNKS_CUT, part(HALF, HALF + 9, 'ETag: "v1"'), OK),
    "continues with less than it says": in_turn(
        CUT,
        head(206, f"Content-Range: bytes {HALF}-{len(BODY) - 1}/{len(BODY)}", "Transfer-Encoding: chunked")
        + chunk(BODY[HALF : HALF + 9])
        + chunk(b""),
        OK,
    ),
    "cut each time": always(CUT),
    "cut with nothing sent": always(head(200, f"Content-Length: {len(BODY)}")),
    "continues another file": continues_with(part(HALF, len(BODY), 'ETag: "v2"')),
    "continues elsewhere": continues_with(part(HALF - 1, len(BODY), 'ETag: "v1"')),
    "continues a longer file": continues_with(part(HALF, 210_000, 'ETag: "v1"', of=210_000, body=BODY + OTHER)),
    "continues not to the end": continues_with(part(HALF, HALF + 9, 'ETag: "v1"')),
    "continues in several parts": continues_with(
        said(206, "Content-Type: multipart/byteranges; boundary=x", body=BODY)
    ),
    "continues without saying where": continues_with(said(206, 'ETag: "v1"', body=BODY[HALF:])),
    "cannot continue": continues_with(said(416, f"Content-Range: bytes */{len(OTHER)}")),
    "refuses to continue": continues_with(said(403)),
    "a part that nobody asked for": always(part(0, len(BODY), 'ETag: "v1"')),
    # refusals
    "429 first": in_turn(said(429, "Retry-After: 1"), OK),
    "503 first, back tomorrow": in_turn(said(503, "Retry-After: 86400"), OK),
    "503 first, back on a date": in_turn(said(503, "Retry-After: Wed, 21 Oct 2099 07:28:00 GMT"), OK),
    "503 first, back at a time in words": in_turn(said(503, "Retry-After: soon"), OK),
    "408 first": in_turn(said(408), OK),
    "500": always(said(500)),
    "404": always(said(404)),
    "401": always(said(401, "WWW-Authenticate: Basic")),
    "403": always(said(403)),
    "416 although all was asked for": always(said(416)),
    "204": always(head(204)),
    "304": always(head(304)),
    "101": always(head(101, "Upgrade: websocket", "Connection: Upgrade")),
    # redirects
    "redirects to itself": moved("/v.mp4"),
    "redirects without end": moved_on,
    "redirects nowhere": moved(None),
    "redirects to no URL": moved("http://[::1"),
    "redirects to a file": moved("file:///etc/passwd"),
    "redirects inside": moved("http://10.0.0.1/"),
    "redirects with an endless body": lambda visit: (
        then_repeats(head(302, "Location: /there.mp4"), bytes(65536))(visit) if visit.number == 1 else visit.send(OK)
    ),
    # the body
    "gzip": always(said(200, "Content-Encoding: gzip", body=BODY)),
    "identity in so many words": always(said(200, "Content-Encoding: Identity", body=BODY)),
    "a web page": always(said(200, "Content-Type: text/html", body=b"<!DOCTYPE html><html>sign in</html>")),
    "drips the body": then_drips(head(200, f"Content-Length: {len(BODY)}"), BODY),
    "stalls": then_waits(head(200, f"Content-Length: {len(BODY)}") + BODY[:HALF]),
    "stalls once": lambda visit: then_waits(CUT)(visit) if visit.number == 1 else resuming('"v1"')(visit),
    "starts slowly": then_waits(head(200, f"Content-Length: {len(BODY)}") + BODY[:9], 0.3, BODY[9:]),
}
