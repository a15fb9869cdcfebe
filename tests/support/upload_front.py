"""A server on loopback before a service: uploads as their contract says, everything else passed on; and its faults.

`upload:ID` of a registration becomes a URL of this server, so that a service without uploads can fetch it. The faults
are what the client has to get over: parts that are cut, links that have expired, downloads that break off, a service
that is away. `pace` slows the bytes of parts and downloads down, to leave time for a Ctrl-C.
"""

import contextlib
import http.client
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

PIECE = 64 * 1024


@dataclass
class Upload:
    upload_id: str
    filename: str
    size_bytes: int
    part_size_bytes: int
    folder: Path
    status: str = "open"
    links: int = 1  # how often links were given out; older ones do not work

    @property
    def path(self) -> Path:
        return self.folder / self.upload_id

    def received(self, number: int) -> bool:
        part = self.folder / f"{self.upload_id}.{number}"
        return part.exists() and part.stat().st_size == self.size_of(number)

    @property
    def numbers(self) -> range:
        return range(1, -(-self.size_bytes // self.part_size_bytes) + 1)

    def size_of(self, number: int) -> int:
        return min(self.part_size_bytes, self.size_bytes - (number - 1) * self.part_size_bytes)


@dataclass
class Faults:
    cut_parts: Counter[int] = field(default_factory=Counter)  # so often is this part cut half-way
    expired_links: bool = False  # the first links do not work
    refused_part: int = 0  # answered with 400
    lost_parts: set[int] = field(default_factory=set)  # received, and lost once
    cut_downloads: int = 0  # so many downloads break off half-way
    no_etag: bool = False
    spoiled: bool = False  # a byte of each download is another
    dead_links: int = 0  # so many downloads are answered as a link is that has expired
    away: float = 0  # so often the connection is closed without an answer
    hung: bool = False  # no answer while this is so
    no_uploads: bool = False  # as a service that is older
    pace: float = 0  # bytes a second
    lost_answer: str = ""  # the next request for this path is passed on, and its answer lost
    meanwhile: Callable[[], object] = lambda: None  # what happens, each time, when a part or a download is under way


class UploadFront(ThreadingHTTPServer):
    """`url` is its address; `uploads` are those that there are, `asked` what was asked for, without ids."""

    daemon_threads = True

    def __init__(self, service: str, folder: Path, part_size_bytes: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service
        self.folder = folder
        self.part_size_bytes = part_size_bytes
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.uploads: dict[str, Upload] = {}
        self.faults = Faults()
        self.asked: list[str] = []
        self.connections: set[tuple[str, int]] = set()  # by the address of the caller
        self.keys_at_links: list[str | None] = []
        self.ranges: list[str | None] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()  # ends whatever an answer waits for

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave early are what some tests are about."""


class _Gone(Exception):
    """Close the connection without another byte."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: UploadFront

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.server.connections.add(self.client_address)
        self.server.asked.append(f"{self.command} {re.sub(r'[0-9a-f-]{36}', 'ID', path)}")
        try:
            while self.server.faults.hung:
                self._wait(0.02)
            if self.server.faults.away:
                self.server.faults.away -= 1
                raise _Gone
            if path.startswith("/parts/"):
                self._part(*path.split("/")[2:])
            elif path.startswith("/uploaded/"):
                self._uploaded(path.split("/")[2])
            elif path.startswith("/ffmpeg/uploads") and self.server.faults.no_uploads:
                self._body()
                self._error(404, "NOT_FOUND", "There is nothing at this path.", {})
            elif path.startswith("/ffmpeg/uploads"):
                self._upload(path.split("/")[3:])
            else:
                self._pass_on(path)
        except (_Gone, OSError):
            self.close_connection = True

    def _upload(self, rest: list[str]) -> None:
        if not rest:
            asked = json.loads(self._body())
            made = Upload(
                upload_id=str(uuid4()), **asked, part_size_bytes=self.server.part_size_bytes, folder=self.server.folder
            )
            self.server.uploads[made.upload_id] = made
            self._json(201, self._shown(made))
            return
        upload = self.server.uploads.get(rest[0])
        if upload is None:
            self._error(404, "UPLOAD_NOT_FOUND", "There is no upload with this id.", {"upload_id": rest[0]})
        elif rest[1:] == ["complete"]:
            self._body()
            self._complete(upload)
        elif self.command == "DELETE":
            del self.server.uploads[upload.upload_id]
            for path in self.server.folder.glob(f"{upload.upload_id}*"):
                path.unlink()
            self.send_response(204)
            self.end_headers()
        else:
            upload.links += 1
            self._json(200, self._shown(upload))

    def _shown(self, upload: Upload) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        for number in upload.numbers:
            link = {
                "url": f"{self.server.url}/parts/{upload.upload_id}/{number}/{upload.links}",
                "headers": {"X-Part": str(number)},
            }
            end = {"received": True} if upload.received(number) else link
            parts.append({"number": number, "size_bytes": upload.size_of(number), **end})
        shown = {name: getattr(upload, name) for name in ("upload_id", "status", "size_bytes", "part_size_bytes")}
        return {**shown, "input": f"upload:{upload.upload_id}", "parts": parts, "expires_at": "2099-01-01T00:00:00Z"}

    def _complete(self, upload: Upload) -> None:
        for number in self.server.faults.lost_parts:
            (self.server.folder / f"{upload.upload_id}.{number}").unlink()
        self.server.faults.lost_parts = set()
        missing = [number for number in upload.numbers if not upload.received(number)]
        if missing:
            self._error(409, "UPLOAD_INCOMPLETE", "Some parts are missing.", {"missing_parts": missing})
            return
        with upload.path.open("wb") as whole:
            for number in upload.numbers:
                part = self.server.folder / f"{upload.upload_id}.{number}"
                whole.write(part.read_bytes())
                part.unlink()
        upload.status = "complete"
        self._json(200, self._shown(upload))

    def _part(self, upload_id: str, text: str, links: str) -> None:
        number, length, faults = int(text), int(self.headers["Content-Length"]), self.server.faults
        self.server.keys_at_links.append(self.headers["X-API-Key"])
        assert self.headers["X-Part"] == text
        if faults.expired_links and links == "1":
            self._error(403, "AccessDenied", "Request has expired.", {})
            raise _Gone
        if number == faults.refused_part:
            self._error(400, "EntityTooSmall", "No.", {})
            raise _Gone
        with self.server.lock:
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            cut = faults.cut_parts[number] > 0
            faults.cut_parts[number] -= cut
            with (self.server.folder / f"{upload_id}.{number}").open("wb") as file:
                left = length // 2 if cut else length
                while left:
                    piece = self.rfile.read(min(PIECE, left))
                    if not piece:
                        raise _Gone
                    file.write(piece)
                    left -= len(piece)
                    faults.meanwhile()
                    self._keep_pace(piece)
            if cut:
                raise _Gone
        finally:
            with self.server.lock:
                self.server.at_once -= 1
        self._json(200, {})

    def _uploaded(self, upload_id: str) -> None:
        upload = self.server.uploads.get(upload_id)
        if upload is None:
            self._error(404, "NoSuchKey", "It is not there.", {})
            return
        content = upload.path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _pass_on(self, path: str) -> None:
        body = self._body()
        if path in ("/ffmpeg/register", "/ffmpeg/validate"):
            body = re.sub(rb"upload:([0-9a-f-]{36})", self._fetched_from, body)
        target = urlsplit(self.server.service)
        connection = http.client.HTTPConnection(target.netloc, timeout=30)
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in ("host", "content-length")
        }
        if self.server.faults.no_etag:
            headers.pop("Range", None)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            if path == self.server.faults.lost_answer:
                self.server.faults.lost_answer = ""
                raise _Gone
            if path.startswith("/files/"):
                self._file(answer)
            else:
                self._answered(answer)

    def _fetched_from(self, found: "re.Match[bytes]") -> bytes:
        upload = self.server.uploads[found[1].decode()]
        assert upload.status == "complete"
        return f"{self.server.url}/uploaded/{upload.upload_id}/{quote(upload.filename)}".encode()

    def _answered(self, answer: http.client.HTTPResponse) -> None:
        """What the service says, with this server in its place in the links."""
        content = answer.read().replace(self.server.service.encode(), self.server.url.encode())
        self._head(answer, len(content))
        self.wfile.write(content)

    def _file(self, answer: http.client.HTTPResponse) -> None:
        faults = self.server.faults
        self.server.ranges.append(self.headers["Range"])
        self.server.keys_at_links.append(self.headers["X-API-Key"])
        if faults.dead_links:
            faults.dead_links -= 1
            self._error(403, "AccessDenied", "Request has expired.", {})
            return
        length = int(answer.headers["Content-Length"])
        cut = faults.cut_downloads > 0
        faults.cut_downloads -= cut
        self._head(answer, length)
        left = length // 2 if cut else length
        while left:
            piece = answer.read(min(PIECE, left))
            left -= len(piece)
            self.wfile.write(bytes([piece[0] ^ 1]) + piece[1:] if faults.spoiled else piece)
            faults.meanwhile()
            self._keep_pace(piece)
        if cut:
            raise _Gone

    def _head(self, answer: http.client.HTTPResponse, length: int) -> None:
        self.send_response(answer.status)
        dropped = {"content-length", "date", "server", "connection", *(["etag"] if self.server.faults.no_etag else [])}
        for name, value in answer.headers.items():
            if name.lower() not in dropped:
                self.send_header(name, value.replace(self.server.service, self.server.url))
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _keep_pace(self, piece: bytes) -> None:
        if self.server.faults.pace:
            self._wait(len(piece) / self.server.faults.pace)

    def _wait(self, seconds: float) -> None:
        if self.server.closing.wait(seconds):
            raise _Gone

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _json(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _error(self, status: int, code: str, message: str, details: dict[str, Any]) -> None:
        self._json(status, {"error": {"code": code, "message": message, "details": details}})


@contextlib.contextmanager
def before(service: str, folder: Path, *, part_size_bytes: int = 100_000_000) -> Iterator[UploadFront]:
    folder.mkdir(parents=True, exist_ok=True)
    with UploadFront(service.rstrip("/"), folder, part_size_bytes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
