"""A real HTTP server on loopback that behaves, or misbehaves, as its paths say; it remembers what it was asked.

/media/NAME          the file NAME of the folder, with Range and an ETag
/cut/NAME            breaks off half-way on the first request, and continues when asked with Range
/cut-weak/NAME       the same without an ETag, so that nothing can be continued
/always-cut/NAME     breaks off half-way each time
/status/CODE         answers with that status
/flaky/CODE/NAME     answers with that status once, then with the file
/busy/N/NAME         answers 503 N times, then with the file
/held/NAME           sends half of the file to the first who asks, and then nothing; to the others all of it
/kept/NAME           the file, but nothing before `let_go` was called for the path
/turns/NAME/OTHER    the file NAME to the first who asks; to the others OTHER
/away/SECONDS        answers 503, and to come back after so many seconds
/redirect/N/NAME     N redirects, then the file
/redirect-to?URL     a redirect to URL
/endless             bytes without end, with no length
/announces/N         says that N bytes follow, and sends none
/trickle             one byte at a time, for ever
/silent              accepts and never answers
/gzip/NAME           the file with Content-Encoding: gzip
/html, /empty, /json what is no media
"""

import contextlib
import gzip
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MEDIA = Path(__file__).resolve().parent.parent / "media"
SILENCE_SECONDS = 30.0


class SourceServer(ThreadingHTTPServer):
    """The server; `url` is its address, `asked` counts requests by path, `ranges` lists the Range headers seen."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.closing = threading.Event()
        self._free: dict[str, threading.Event] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def let_go(self, path: str) -> None:
        """Send what is kept under this path, to who waits for it and to all who come."""
        self.freed(path).set()

    def freed(self, path: str) -> threading.Event:
        return self._free.setdefault(path, threading.Event())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SourceServer

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        if self.headers["Range"]:
            self.server.ranges.append(self.headers["Range"])
        kind, _, rest = self.path.lstrip("/").partition("?")[0].partition("/")
        self.close_connection = True
        getattr(self, f"_{kind.replace('-', '_')}")(unquote(rest))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _media(self, name: str) -> None:
        self._send(self._bytes(name), etag='"v1"')

    def _large(self, name: str) -> None:
        with (self.server.folder / name).open("rb") as file:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(file, self.wfile, 1024**2)

    def _cut(self, name: str) -> None:
        self._send(self._bytes(name), etag='"v1"', cut=self.server.asked[self.path] == 1)

    def _cut_weak(self, name: str) -> None:
        self._send(self._bytes(name), etag=None, cut=self.server.asked[self.path] == 1)

    def _always_cut(self, name: str) -> None:
        self._send(self._bytes(name), etag='"v1"', cut=True, ranged=False)

    def _status(self, code: str) -> None:
        self._send(b"no", status=int(code))

    def _flaky(self, rest: str) -> None:
        code, _, name = rest.partition("/")
        if self.server.asked[self.path] == 1:
            self._status(code)
        else:
            self._media(name)

    def _busy(self, rest: str) -> None:
        count, _, name = rest.partition("/")
        if self.server.asked[self.path] <= int(count):
            self._status("503")
        else:
            self._media(name)

    def _held(self, name: str) -> None:
        if self.server.asked[self.path] > 1:
            self._media(name)
            return
        body = self._bytes(name)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.server.closing.wait(SILENCE_SECONDS)

    def _kept(self, name: str) -> None:
        if self.server.freed(self.path).wait(SILENCE_SECONDS):
            self._media(name)

    def _turns(self, rest: str) -> None:
        name, _, other = rest.partition("/")
        self._media(name if self.server.asked[self.path] == 1 else other)

    def _away(self, seconds: str) -> None:
        self._send(b"no", status=503, retry_after=seconds)

    def _redirect(self, rest: str) -> None:
        count, _, name = rest.partition("/")
        left = int(count) - 1
        self._moved(f"/redirect/{left}/{name}" if left else f"/media/{name}")

    def _redirect_to(self, _: str) -> None:
        self._moved(unquote(self.path.partition("?")[2]))

    def _endless(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.closing.is_set():
                self.wfile.write(bytes(65536))
                time.sleep(0.001)  # or it fills the disk of a client that is slow to leave

    def _announces(self, size: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", size)
        self.end_headers()

    def _silent(self, _: str) -> None:
        self.server.closing.wait(SILENCE_SECONDS)

    def _trickle(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.closing.is_set():
                self.wfile.write(b"x")
                time.sleep(0.05)

    def _gzip(self, name: str) -> None:
        self._send(gzip.compress(self._bytes(name)), encoding="gzip")

    def _html(self, _: str) -> None:
        self._send(b"<!DOCTYPE html><html><body>Please sign in</body></html>")

    def _json(self, _: str) -> None:
        self._send(b'{"message": "try later"}')

    def _empty(self, _: str) -> None:
        self._send(b"")

    def _bytes(self, name: str) -> bytes:
        return (self.server.folder / name).read_bytes()

    def _moved(self, location: str) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(
        self,
        body: bytes,
        *,
        status: int = 200,
        etag: str | None = None,
        cut: bool = False,
        encoding: str | None = None,
        retry_after: str | None = None,
        ranged: bool = True,
    ) -> None:
        start = 0
        asked = self.headers["Range"] or ""
        if ranged and etag and asked.startswith("bytes=") and self.headers["If-Range"] in (None, etag):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            status = 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if etag:
            self.send_header("ETag", etag)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : start + (len(body) - start) // 2] if cut else body[start:])


@contextlib.contextmanager
def serving(folder: Path = MEDIA) -> Iterator[SourceServer]:
    with SourceServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
