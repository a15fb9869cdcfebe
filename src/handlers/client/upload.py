"""A file of this machine becomes an input, `upload:ID`: its parts are sent to links that the service gives out.

Parts go four at a time, straight from the file in small pieces. One that is cut is sent again; for a link that has
expired a fresh one is asked for. What is given up on the way is deleted on the service.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from handlers.client import connect
from handlers.client.api import PATIENCE, Api, Json, Patience, pauses
from handlers.client.crew import Crew
from handlers.client.faults import Fault, Refused, Unreachable, Usage
from handlers.client.signals import Stop

AT_ONCE = 4
PIECE_BYTES = 1024**2
TOLD = 3  # so many tries of one part in a row are told of
LEAVE_SECONDS = 2.0  # for those who send to notice that it is over
_FORBIDDEN = 403  # what a link that has expired answers
_PASSING = frozenset({_FORBIDDEN, 408, 429})

Seen = Callable[[int, int], None]
"""Is told how many bytes are there, and how many there will be."""


def send(api: Api, path: Path, *, seen: Seen, patience: Patience = PATIENCE) -> str:
    """The URL of the file as an input. Raises Fault."""
    with _opened(path) as file:
        before = os.fstat(file.fileno())
        name = os.fsencode(path.name).decode(errors="replace")  # not every name of a file is text
        upload = api.open_upload(name, before.st_size)
        try:
            sending = _Sending(api, file.fileno(), upload, seen, before.st_size, patience)
            _complete(api, sending)
            after = os.fstat(file.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise Fault(f"{path} changed while it was sent; send it again when it is done.", code="FILE_CHANGED")
        except BaseException:
            drop(api, upload["input"])
            raise
        return str(upload["input"])


def drop(api: Api, url: str) -> None:
    """Delete what was sent; if that cannot be, the service does it in its time."""
    with suppress(Fault), api.leaving() as leaving:
        leaving.drop_upload(url.removeprefix("upload:"))


def check(path: Path) -> None:
    """Raises Usage unless it is a file that can be sent."""
    with _opened(path):
        pass


def _opened(path: Path) -> IO[bytes]:
    if not path.is_file():
        raise Usage(f"{path} is no file." if path.exists() else f"{path} is not there.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror}.") from error
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise Usage(f"{path} is empty.")
    return file


def _complete(api: Api, sending: "_Sending") -> None:
    sending.send({part["number"] for part in sending.parts.values() if not part.get("received")})
    try:
        api.complete_upload(sending.upload_id)
    except Refused as refused:
        missing = refused.details.get("missing_parts")
        if refused.code != "UPLOAD_INCOMPLETE" or not missing:
            raise
        sending.refresh()
        sending.send(set(missing))
        api.complete_upload(sending.upload_id)


@dataclass
class _Sending:
    """The parts of one file, on their way."""

    api: Api
    file: int
    upload: Json
    seen: Seen
    size: int
    patience: Patience
    parts: dict[int, Json] = field(init=False)
    sent: dict[int, int] = field(default_factory=dict, init=False)
    told: bool = field(default=False, init=False)
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    over: Stop = field(default_factory=Stop, init=False)

    def __post_init__(self) -> None:
        self.parts = {part["number"]: part for part in self.upload["parts"]}

    @property
    def upload_id(self) -> str:
        return str(self.upload["upload_id"])

    def refresh(self) -> None:
        """Take the fresh links."""
        self.parts = {part["number"]: part for part in self.api.upload(self.upload_id)["parts"]}

    def send(self, numbers: set[int]) -> None:
        """Raises the first Fault; nothing is sent any more when it returns, or soon after."""
        waiting = deque(sorted(numbers))
        faults: list[BaseException] = []
        first_url = self.parts[waiting[0]]["url"] if waiting else ""
        timeout = httpx.Timeout(60, connect=10, read=300)  # a store may take its time with the last byte
        with connect.http(first_url, timeout=timeout) as http:
            self._tell()
            crew = Crew(min(AT_ONCE, len(waiting)), lambda: self._work(http, waiting, faults))
            try:
                while not crew.wait(0.1):
                    self.api.stop.check()
                    self._tell()
            except BaseException:
                self.over.set()
                crew.wait(LEAVE_SECONDS)
                raise
        if faults:
            raise faults[0]
        self._tell()

    def _tell(self) -> None:
        self.seen(sum(list(self.sent.values())), self.size)

    def _work(self, http: httpx.Client, waiting: "deque[int]", faults: list[BaseException]) -> None:
        while not faults:
            try:
                number = waiting.popleft()
            except IndexError:
                return
            try:
                self._send_part(http, number)
            except BaseException as fault:  # it is raised where it is waited for
                faults.append(fault)
                self.over.set()

    def _send_part(self, http: httpx.Client, number: int) -> None:
        since = time.monotonic()
        for tried, pause in enumerate(pauses(), start=1):
            part = self.parts[number]
            fault = self._put(http, part)
            if fault is None:
                return
            if tried == 1:  # the sending itself may have taken long
                since = time.monotonic()
            elif tried == TOLD:
                self._say_once(f"{fault} Trying again for {self.patience.seconds:.0f} s.")
            if self.patience.is_over(tried, since=since):
                said = f"The file could not be sent, in {tried} tries. {fault}"
                raise Unreachable(said, code="UPLOAD_FAILED")
            self.over.wait(pause)

    def _say_once(self, text: str) -> None:
        with self.lock:
            known, self.told = self.told, True
        if not known:
            self.api.say(text)

    def _put(self, http: httpx.Client, part: Json) -> str | None:
        """Why it is to be sent again, if it is."""
        number = part["number"]
        try:
            answer = http.put(part["url"], content=self._bytes(part), headers=_headers(part))
        except httpx.TransportError as error:
            return f"Part {number} was cut off on its way ({type(error).__name__})."
        if answer.is_success:
            return None
        if answer.is_client_error and answer.status_code not in _PASSING:
            raise Refused(f"Part {number} was refused (status {answer.status_code}).", code="UPLOAD_REFUSED")
        if answer.status_code == _FORBIDDEN:
            self._renew(part)
        return f"Part {number} was answered with status {answer.status_code}."

    def _renew(self, old: Json) -> None:
        with self.lock:
            if self.parts[old["number"]] is old:  # else somebody was faster
                self.refresh()

    def _bytes(self, part: Json) -> Iterator[bytes]:
        number = part["number"]
        at = (number - 1) * self.upload["part_size_bytes"]
        end = at + part["size_bytes"]
        self.sent[number] = 0
        while at < end:
            self.over.check()
            piece = os.pread(self.file, min(PIECE_BYTES, end - at), at)
            if not piece:
                raise Fault("The file became shorter while it was sent.", code="FILE_CHANGED")
            yield piece
            at += len(piece)
            self.sent[number] += len(piece)


def _headers(part: Json) -> dict[str, str]:
    return {**part.get("headers", {}), "Content-Length": str(part["size_bytes"])}
