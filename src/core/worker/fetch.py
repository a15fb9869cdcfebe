"""From a URL to a file, through connections that the guard makes.

Bytes go from the socket to the disk in small pieces; nothing is held whole. A source that stays away, lies about its
length or never ends is given up within bounded time, with a failure that says which input and why. What has arrived
before a cut is kept, and the rest is asked for, where the source can continue.
"""

import contextlib
import errno
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

from core import urls
from core.errors import UrlNotAllowed
from core.task import FailureCode
from core.worker import guard, transport
from core.worker.failed import Stopped, TaskFailed

REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Signed links carry these; when such a link is refused, it has most likely run out.
_SIGNATURE_PARAMETERS = frozenset({"x-amz-signature", "signature", "x-goog-signature", "sig"})
_CONTENT_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<size>[0-9]{1,18}|\*)")
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
    attempts: int = 4
    pause_seconds: float = 0.5  # before the second attempt; doubled before each further one


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input: what the user calls it, and where it lies."""

    name: str
    url: str


class _Cut(Exception):
    """The transfer broke off in a way that another attempt may mend; the message ends a sentence about it."""


@dataclass(slots=True)
class _Download:
    """One file on its way: what has arrived, and what a continuation may rely on."""

    source: Source
    path: Path
    limits: Limits
    policy: urls.Policy
    stopped: Callable[[], bool]
    arrived: int = 0
    etag: str | None = None
    answer_by: float | None = None  # None once the headers have come
    window_began: float = 0.0
    window_bytes: int = 0


class Client:
    """Connections to what the policy reaches. Nothing about where to go comes from the environment."""

    def __init__(self, limits: Limits, policy: urls.Policy, network: guard.Network = SYSTEM) -> None:
        self.limits = limits
        self.policy = replace(policy, buckets=())  # nothing leads from the web into a bucket
        # How long a read may take is for the download to say: see _patience.
        timeout = httpx.Timeout(connect=limits.connect_seconds, read=None, write=limits.idle_seconds, pool=None)
        self._http = httpx.Client(
            transport=transport.Transport(policy, network),
            trust_env=False,
            follow_redirects=False,
            timeout=timeout,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers=dict(HEADERS),
        )

    def get(self, place: urls.Web, headers: Mapping[str, str]) -> contextlib.AbstractContextManager[httpx.Response]:
        url = httpx.URL(place.url)
        if (url.scheme, url.raw_host.decode("ascii"), url.port or place.port) != (place.scheme, place.host, place.port):
            raise httpx.InvalidURL("read differently")  # never sent: what was checked is not what would be asked
        return self._http.stream("GET", url, headers=dict(headers))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()


def fetch(http: Client, source: Source, path: Path, *, stopped: Callable[[], bool]) -> int:
    """Store what lies behind `source` at `path`; returns its size in bytes.

    Raises TaskFailed, or Stopped soon after `stopped` begins to say so.
    """
    limits = http.limits
    download = _Download(source, path, limits, http.policy, stopped)
    trouble = ""
    for attempt in range(limits.attempts):
        if attempt:
            time.sleep(limits.pause_seconds * 2 ** (attempt - 1))
        try:
            with guard.reading_with(lambda: _patience(download)):
                _attempt(http, download)
            return download.arrived
        except _Cut as error:
            trouble = str(error)
        except httpx.TransportError as error:
            trouble = _in_words(error)
        except httpx.InvalidURL:
            raise _failed(download, "is not a URL that can be fetched.", retryable=False) from None
        except OSError as error:
            raise disk_failure(error) from error
    raise _failed(download, f"{trouble} ({limits.attempts} attempts were made).")


def _attempt(http: Client, download: _Download) -> None:
    place = _checked(download, download.source.url, "has a URL that is not allowed.")
    seen = {place.url}
    for _ in range(download.limits.max_redirects + 1):
        if download.stopped():
            raise Stopped
        download.answer_by = time.monotonic() + download.limits.answer_seconds
        with http.get(place, _range_headers(download)) as response:
            download.answer_by = None
            if response.status_code not in REDIRECTS:
                _judge_status(download, response)
                _receive(download, response)
                return
            place = _next_hop(download, place, response)
        if place.url in seen:
            raise _failed(download, "was redirected in a circle.", retryable=False)
        seen.add(place.url)
    raise _failed(download, f"was redirected more than {download.limits.max_redirects} times.", retryable=False)


def _range_headers(download: _Download) -> dict[str, str]:
    if not download.arrived or download.etag is None:
        return {}
    return {"Range": f"bytes={download.arrived}-", "If-Range": download.etag}


def _patience(download: _Download) -> float:
    """The seconds that the next read may take. Raises when the download has to end at once."""
    if download.stopped():
        raise Stopped
    if download.answer_by is not None:
        return max(0.0, download.answer_by - time.monotonic())
    _judge_rate(download)
    return download.limits.idle_seconds


def _checked(download: _Download, url: str, otherwise: str) -> urls.Web:
    try:
        place = urls.check(url, field=download.source.name, policy=download.policy)
    except UrlNotAllowed:
        raise _failed(download, otherwise, retryable=False) from None
    assert isinstance(place, urls.Web)  # the policy has no buckets
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


def _judge_status(download: _Download, response: httpx.Response) -> None:
    """Return when the body is what we asked for; otherwise say what became of it."""
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    if status == HTTPStatus.PARTIAL_CONTENT:
        if "range" not in response.request.headers:
            raise _failed(download, "sent a part although the whole was asked for.", retryable=False)
        return
    if status == 416:  # the file has changed since it was cut: start over
        download.arrived = 0
        raise _Cut("has changed while it was downloaded")
    answered = f"answered {_status_words(status)}"
    if status == 429 or status >= 500:
        raise _Cut(answered)
    if status in (400, 401, 403) and _is_signed(download.source.url):
        raise TaskFailed.of(
            FailureCode.SOURCE_EXPIRED,
            f"The source of {download.source.name} {answered}; its signed link has most likely expired. "
            "Register the task again with a fresh link.",
            details={"input": download.source.name, "http_status": status},
        )
    raise _failed(download, f"{answered}.", retryable=False, http_status=status)


def _receive(download: _Download, response: httpx.Response) -> None:
    """Write the body behind what has arrived. Raises _Cut when it is shorter than announced."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _failed(download, "sends its bytes encoded although it was asked not to.", retryable=False)
    _position(download, response)
    announced = transport.announced_bytes(response.headers)
    if announced is not None and download.arrived + announced > download.limits.max_bytes:
        raise too_large(download.source.name, download.limits.max_bytes)
    download.window_began, download.window_bytes = time.monotonic(), 0
    body_end = None if announced is None else download.arrived + announced
    with download.path.open("r+b" if download.arrived else "wb", buffering=0) as file:
        file.seek(download.arrived)
        for piece in response.iter_raw():
            if file.write(piece) != len(piece):  # a full disk takes what fits, and complains at the next write only
                raise OSError(errno.ENOSPC, "short write")
            _count(download, len(piece))
    if body_end is not None and download.arrived != body_end:
        raise _Cut("ended before all of it had arrived")


def _position(download: _Download, response: httpx.Response) -> None:
    """Where this answer's bytes belong: behind what we have if it continues, else at the start."""
    etag = response.headers.get("etag")
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        download.arrived = 0
        download.etag = etag if etag and not etag.startswith("W/") else None
    elif etag not in (None, download.etag) or not _is_the_rest(download, response):
        download.arrived = 0
        raise _Cut("answered with another part than the one asked for")


def _is_the_rest(download: _Download, response: httpx.Response) -> bool:
    """Whether the answer says that it runs from what has arrived to the end."""
    part = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if not part or int(part["first"]) != download.arrived:
        return False
    size = int(part["last"]) - int(part["first"]) + 1
    ends = part["size"] == "*" or int(part["last"]) == int(part["size"]) - 1
    return ends and transport.announced_bytes(response.headers) in (None, size)


def _count(download: _Download, size: int) -> None:
    if download.stopped():
        raise Stopped
    download.arrived += size
    download.window_bytes += size
    if download.arrived > download.limits.max_bytes:
        raise too_large(download.source.name, download.limits.max_bytes)
    _judge_rate(download)


def _judge_rate(download: _Download) -> None:
    elapsed = time.monotonic() - download.window_began
    if elapsed < download.limits.rate_window_seconds:
        return
    if download.window_bytes < download.limits.least_bytes_per_second * elapsed:
        raise _failed(download, f"sends fewer than {download.limits.least_bytes_per_second:.0f} bytes a second.")
    download.window_began, download.window_bytes = time.monotonic(), 0


def _is_signed(url: str) -> bool:
    return not _SIGNATURE_PARAMETERS.isdisjoint(name.lower() for name in parse_qs(urlsplit(url).query))


def _status_words(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


def _in_words(error: httpx.TransportError) -> str:
    """What went wrong on the wire; never the library's own text, which may hold addresses."""
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return "cannot be reached"
    if isinstance(error, transport.Surplus):
        return "sent more than it had announced"
    if isinstance(error, httpx.TimeoutException):
        return "sent nothing for too long"
    if isinstance(error, httpx.RemoteProtocolError):
        return "broke off before all of it had arrived"
    return "could not be read"


def _failed(
    download: _Download, what: str, *, retryable: bool | None = None, http_status: int | None = None
) -> TaskFailed:
    details = {"input": download.source.name} | ({"http_status": http_status} if http_status else {})
    return TaskFailed.of(
        FailureCode.DOWNLOAD_FAILED,
        f"The source of {download.source.name} {what}",
        retryable=retryable,
        details=details,
    )


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
