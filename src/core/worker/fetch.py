"""From a URL to a file, through connections that the guard makes.

Bytes go from the socket to the disk in small pieces; nothing is held whole. A source that stays away, lies about its
length or never ends is given up within bounded time, with a failure that says which input and why. What has arrived
before a cut is kept, and the rest is asked for, where the source can continue. What an answer means, answer.py says.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

from core import urls
from core.errors import UrlNotAllowed
from core.flow import Flow
from core.task import FailureCode
from core.worker import answer, guard, transport
from core.worker.answer import Cut, StartOver
from core.worker.failed import Stopped, TaskFailed, download_failed

# Signed links carry these; when such a link is refused, it has most likely run out.
_SIGNATURE_PARAMETERS = frozenset({"x-amz-signature", "signature", "x-goog-signature", "sig"})
_LOOK_SECONDS = 0.25  # how often a pause looks whether it is still wanted
SYSTEM = guard.Network()
HEADERS: Mapping[str, str] = {"User-Agent": "url-to-s3-transcoding", "Accept": "*/*", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient a download is; times in seconds."""

    max_bytes: int
    connect_seconds: float = 10.0
    answer_seconds: float = 30.0  # from the request to the end of the answer's headers, however they trickle
    idle_seconds: float = 20.0
    # A source slower than this, averaged over the window, would hold the worker for no one's good.
    least_bytes_per_second: float = 64_000.0
    rate_window_seconds: float = 60.0
    max_redirects: int = 5
    attempts: int = 4  # in a row that do not bring the download forward by `progress_bytes`
    progress_bytes: int = 16 * 1024**2
    pause_seconds: float = 0.5  # after the first of them; doubled after each further one
    max_pause_seconds: float = 10.0  # however long the source asks for
    total_seconds: float = 6 * 3600.0  # for one input, over all attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input: what the user calls it, and where it lies."""

    name: str
    url: str


@dataclass(slots=True)
class _Tries:
    """The attempts at one file. Those that bring it forward do not use up the patience with the source."""

    limits: Limits
    made: int = 0
    in_vain: int = 0
    reached: int = 0  # bytes that were kept when the count last began anew

    def count(self, kept: int) -> None:
        """Another one has failed, and leaves `kept` bytes that the next one need not fetch again."""
        self.made += 1
        if kept >= self.reached + self.limits.progress_bytes:
            self.in_vain, self.reached = 0, kept
        else:
            self.in_vain += 1

    def pause_seconds(self, wanted: float) -> float:
        """How long to wait before the next attempt, when the source asks for `wanted` seconds."""
        usual = self.limits.pause_seconds * 2.0 ** max(0, self.in_vain - 1)
        return min(max(usual, wanted), self.limits.max_pause_seconds)


@dataclass(slots=True)
class _Download:
    """One file on its way: what has arrived, and what the source has said about it."""

    source: Source
    path: Path
    limits: Limits
    policy: urls.Policy
    stopped: Callable[[], bool]
    began: float = field(default_factory=time.monotonic)
    arrived: int = 0
    file: answer.File = field(default_factory=answer.File)
    answer_by: float | None = None  # None once the headers have come
    flow: Flow | None = None  # of the body


class Client:
    """Connections to what the policy reaches. No proxy, cookie or password of the environment is used."""

    def __init__(self, limits: Limits, policy: urls.Policy, network: guard.Network = SYSTEM) -> None:
        self.limits = limits
        self.policy = policy.web_only  # nothing leads from the web into a bucket
        # How long a read may take is for the download to say: see _patience.
        self._timeout = httpx.Timeout(connect=limits.connect_seconds, read=None, write=limits.idle_seconds, pool=None)
        self._transport = transport.Transport(policy, network)

    def get(self, place: urls.Web, headers: Mapping[str, str]) -> contextlib.AbstractContextManager[httpx.Response]:
        """One question and its answer. The transport is asked itself: a client would add what others have set."""
        timeout = {"timeout": self._timeout.as_dict()}
        request = httpx.Request("GET", transport.address(place), headers={**HEADERS, **headers}, extensions=timeout)
        return contextlib.closing(self._transport.handle_request(request))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._transport.close()


def fetch(http: Client, source: Source, path: Path, *, stopped: Callable[[], bool]) -> int:
    """Store what lies behind `source` at `path`; returns its size in bytes.

    Raises TaskFailed, or Stopped soon after `stopped` begins to say so.
    """
    download = _Download(source, path, http.limits, http.policy, stopped)
    tries = _Tries(http.limits)
    while cut := _tried(http, download):
        if isinstance(cut, StartOver) or not download.file.etag:
            download.arrived = 0
        tries.count(download.arrived)
        if tries.in_vain == http.limits.attempts:
            raise _failed(download, f"{cut} ({tries.made} attempts were made).")
        _pause(download, tries.pause_seconds(cut.pause_seconds))
    return download.arrived


def _tried(http: Client, download: _Download) -> Cut | None:
    """Make one attempt; gives what it failed of when another one may do better."""
    try:
        with guard.reading_with(lambda: _patience(download)):
            _attempt(http, download)
    except Cut as cut:
        return cut
    except httpx.TransportError as error:
        return Cut(_in_words(error, download))
    except httpx.InvalidURL:
        raise _failed(download, "is not a URL that can be fetched.", retryable=False) from None
    except OSError as error:
        raise disk_failure(error) from error
    return None


def _pause(download: _Download, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _go_on(download)
        time.sleep(min(left, _LOOK_SECONDS))


def _go_on(download: _Download) -> None:
    """Return when the download is still wanted, and has time left."""
    if download.stopped():
        raise Stopped
    total = download.limits.total_seconds
    if time.monotonic() - download.began > total:  # it would take as long again, and hold a worker meanwhile
        raise _failed(download, f"did not send all of it within {total:g} seconds.", retryable=False)


def _attempt(http: Client, download: _Download) -> None:
    place = _checked(download, download.source.url, "has a URL that is not allowed.")
    seen = {place.url}
    for _ in range(download.limits.max_redirects + 1):
        _go_on(download)
        download.answer_by = time.monotonic() + download.limits.answer_seconds
        with http.get(place, answer.request_headers(download.file, download.arrived)) as response:
            download.answer_by = None
            if response.status_code not in answer.REDIRECTS:
                _receive(download, response)
                return
            place = _next_hop(download, place, response)
        if place.url in seen:
            raise _failed(download, "was redirected in a circle.", retryable=False)
        seen.add(place.url)
    raise _failed(download, f"was redirected more than {download.limits.max_redirects} times.", retryable=False)


def _patience(download: _Download) -> float:
    """The seconds that the next read may take. Raises when the download has to end at once."""
    _go_on(download)
    if download.answer_by is not None:
        return max(0.0, download.answer_by - time.monotonic())
    _judge_rate(download)
    return download.limits.idle_seconds


def _checked(download: _Download, url: str, otherwise: str) -> urls.Web:
    try:
        place = urls.check(url, field=download.source.name, policy=download.policy)
    except UrlNotAllowed:
        raise _failed(download, otherwise, retryable=False) from None
    assert isinstance(place, urls.Web)  # so the policy is
    return place


def _next_hop(download: _Download, place: urls.Web, response: httpx.Response) -> urls.Web:
    refused = "was redirected to an address that is not allowed."
    try:
        joined = urljoin(place.url, response.headers.get("location", ""))
    except ValueError:
        raise _failed(download, refused, retryable=False) from None
    following = _checked(download, joined, refused)
    if place.scheme == "https" and following.scheme != "https":
        raise _failed(download, "was redirected from https to http, which is not allowed.", retryable=False)
    return following


def _receive(download: _Download, response: httpx.Response) -> None:
    """Write the body where it belongs: behind what has arrived if it continues, else from the start."""
    _expect(download, response)
    limits = download.limits
    download.flow = Flow(
        least_bytes_per_second=limits.least_bytes_per_second,
        window_seconds=limits.rate_window_seconds,
        began=time.monotonic(),
    )
    with download.path.open("r+b" if download.arrived else "wb", buffering=0) as file:
        file.seek(download.arrived)
        _judge_room(download, os.fstatvfs(file.fileno()))
        for piece in response.iter_raw():
            if file.write(piece) != len(piece):  # a full disk takes what fits, and complains at the next write only
                raise OSError(errno.ENOSPC, "short write")
            _count(download, len(piece))
    if download.file.size not in (None, download.arrived):
        raise Cut("broke off before all of it had arrived")


def _expect(download: _Download, response: httpx.Response) -> None:
    """Learn from the head of the answer which file its body belongs to, or raise when that is none that we want."""
    status, headers, name = response.status_code, response.headers, download.source.name
    is_rest_wanted = bool(answer.request_headers(download.file, download.arrived))
    is_signed = _is_signed(download.source.url)
    answer.judge_status(status, headers, name=name, is_signed=is_signed, is_rest_wanted=is_rest_wanted)
    if answer.is_encoded(headers):
        raise _failed(download, "sends its bytes encoded although it was asked not to.", retryable=False)
    download.file = answer.file_of(status, headers, known=download.file, arrived=download.arrived)
    if status == httpx.codes.OK:
        download.arrived = 0
    if download.file.size is not None and download.file.size > download.limits.max_bytes:
        raise too_large(name, download.limits.max_bytes)


def _judge_room(download: _Download, disk: os.statvfs_result) -> None:
    size, free = download.file.size, disk.f_bavail * disk.f_frsize
    if size is not None and size - download.arrived > free:
        raise TaskFailed.of(
            FailureCode.DISK_FULL,
            f"The source of {download.source.name} has {size - download.arrived} bytes still to come, and the "
            f"worker's disk has {free} free.",
            details={"input": download.source.name, "size_bytes": size, "free_bytes": free},
        )


def _count(download: _Download, size: int) -> None:
    _go_on(download)
    download.arrived += size
    if download.flow:
        download.flow.count(size)
    if download.arrived > download.limits.max_bytes:
        raise too_large(download.source.name, download.limits.max_bytes)
    _judge_rate(download)


def _judge_rate(download: _Download) -> None:
    if download.flow and download.flow.is_trickle(time.monotonic()):
        raise _failed(download, f"sends fewer than {download.limits.least_bytes_per_second:.0f} bytes a second.")


def _is_signed(url: str) -> bool:
    return not _SIGNATURE_PARAMETERS.isdisjoint(name.lower() for name in parse_qs(urlsplit(url).query))


def _in_words(error: httpx.TransportError, download: _Download) -> str:
    """What went wrong on the wire; never the library's own text, which may hold addresses."""
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return "cannot be reached"
    if isinstance(error, transport.Surplus):
        return "sent more than it had announced"
    if isinstance(error, httpx.TimeoutException):
        late = f"did not answer within {download.limits.answer_seconds:g} seconds"
        return late if download.answer_by else "sent nothing for too long"
    if isinstance(error, httpx.NetworkError):
        return "broke off before all of it had arrived"
    if isinstance(error, httpx.RemoteProtocolError):
        return "sent something that is not proper HTTP"
    return "could not be read"


def _failed(download: _Download, what: str, *, retryable: bool | None = None) -> TaskFailed:
    return download_failed(download.source.name, what, retryable=retryable)


def too_large(name: str, max_bytes: int) -> TaskFailed:
    return TaskFailed.of(
        FailureCode.SOURCE_TOO_LARGE,
        f"The source of {name} is larger than the {max_bytes} bytes that are taken.",
        details={"input": name, "max_bytes": max_bytes},
    )


def disk_failure(error: OSError) -> TaskFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TaskFailed.of(FailureCode.DISK_FULL, "The worker's disk is full; the inputs did not fit.")
    return TaskFailed.of(FailureCode.INTERNAL_ERROR, "The worker could not write an input to its disk.")
