"""An output becomes a file of this machine: whole and verified, or not there at all.

It is written beside its place under a name of its own, and gets its real name when the size and the checksum are those
that the task shows. A download that is cut goes on where it was, if the server has an ETag to hold on to.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from handlers.client import connect
from handlers.client.api import PATIENCE, Json, Patience, pauses
from handlers.client.faults import Fault, Unreachable, Usage
from handlers.client.signals import Stop
from handlers.client.upload import Seen

TOLD = 3  # so many tries in a row that bring nothing are told of
_EXPIRED = frozenset({401, 403, 404, 410})  # what links answer when their time is over


class _Cut(Exception):
    """The answer broke off, or was none to go on with."""


def fetch(
    output: Json,
    target: Path,
    *,
    link: Callable[[], str],
    force: bool,
    stop: Stop,
    say: Callable[[str], None],
    seen: Seen,
    patience: Patience = PATIENCE,
) -> None:
    """Store `output` at `target`. `link` gives a fresh link where the output's own has expired. Raises Fault."""
    part = target.with_name(f".{secrets.token_hex(6)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            _Download(output, file, link, stop, say, seen, patience).whole()
        _publish(part, target, force=force)
    except OSError as error:
        raise Fault(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def _publish(part: Path, target: Path, *, force: bool) -> None:
    """Give the file its name, and never that of another, unless told to."""
    if not force:
        try:
            target.hardlink_to(part)
            return
        except FileExistsError:
            raise already_there(target) from None
        except OSError:  # a file system without links
            if target.exists():
                raise already_there(target) from None
    part.replace(target)


def already_there(target: Path) -> Usage:
    return Usage(f"{target} is there already; --force overwrites it.", code="FILE_EXISTS")


@dataclass
class _Download:
    output: Json
    file: IO[bytes]
    link: Callable[[], str]
    stop: Stop
    say: Callable[[str], None]
    seen: Seen
    patience: Patience
    etag: str | None = field(default=None, init=False)
    got: int = field(default=0, init=False)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256, init=False)

    def whole(self) -> None:
        url, size, name = self.output["url"], self.output["size_bytes"], self.output["filename"]
        vain, since, fault = 0, time.monotonic(), "its links do not work."
        with connect.http(url, timeout=httpx.Timeout(30, connect=10), follow_redirects=True) as http:
            for pause in pauses():
                before = self.got
                try:
                    url = self._more(http, url)
                except (_Cut, httpx.RequestError) as error:
                    fault = str(error) or type(error).__name__
                if self.got == size:
                    break
                vain, since = (0, time.monotonic()) if self.got > before else (vain + 1, since)
                if self.patience.is_over(vain, since=since):
                    raise Unreachable(f"{name} could not be fetched whole: {fault}", code="DOWNLOAD_CUT")
                if vain == TOLD:
                    self.say(f"{name} cannot be fetched now. Trying again for {self.patience.seconds:.0f} s.")
                self.stop.wait(pause if vain else 0)
        if self.digest.hexdigest() != self.output["sha256"]:
            raise Fault(
                f"{name} arrived with another checksum than the task shows; fetch it again.", code="CHECKSUM_DIFFERS"
            )

    def _more(self, http: httpx.Client, url: str) -> str:
        """Fetch what is lacking, and give back the link to go on with."""
        headers = {"Accept-Encoding": "identity"}
        if self.got and self.etag:
            headers |= {"Range": f"bytes={self.got}-", "If-Range": self.etag}
        with http.stream("GET", url, headers=headers) as answer:
            if answer.status_code in _EXPIRED:
                return self.link()
            if answer.status_code == 206 and self.got:
                self._check_range(answer)
            elif answer.status_code == 200:
                self._begin(answer)
            else:
                if answer.status_code == 416:  # what we hold is not the beginning of what is there
                    self._begin(answer, restart=True)
                raise _Cut(f"it was answered with status {answer.status_code}.")
            self._take(answer)
        return url

    def _begin(self, answer: httpx.Response, *, restart: bool = False) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.got, self.digest = 0, hashlib.sha256()
        etag = answer.headers.get("ETag", "")
        self.etag = etag if etag.startswith('"') and not restart else None

    def _check_range(self, answer: httpx.Response) -> None:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if not found or (int(found[1]), int(found[2])) != (self.got, self.output["size_bytes"]):
            self._begin(answer, restart=True)
            raise _Cut("it was continued somewhere else.")

    def _take(self, answer: httpx.Response) -> None:
        size = self.output["size_bytes"]
        for piece in answer.iter_raw():
            self.stop.check()
            if self.got + len(piece) > size:
                self._begin(answer, restart=True)
                raise _Cut("more came than the task shows.")
            self.file.write(piece)
            self.digest.update(piece)
            self.got += len(piece)
            self.seen(self.got, size)
