"""What a source's answer means for a download: the file or the rest of it, another attempt, or the end.

Decided from the status and the headers alone. Moving the bytes, and how often another attempt is made, is left to
fetch.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from core.task import FailureCode
from core.worker.failed import TaskFailed, download_failed

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})  # besides 500 and above: what may be over in a moment
_REFUSALS = frozenset({400, 401, 403})  # what stores answer to a signed link that has run out
_CONTENT_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<size>[0-9]{1,18}|\*)")
_SECONDS = re.compile(r"[0-9]{1,9}")

Headers = Mapping[str, str]  # with names in any case


class Cut(Exception):
    """The transfer broke off in a way that another attempt may mend; the message ends a sentence about the source.

    `pause_seconds` is how long the source asks to be left alone.
    """

    def __init__(self, message: str, *, pause_seconds: float = 0.0) -> None:
        self.pause_seconds = pause_seconds
        super().__init__(message)


class StartOver(Cut):
    """The same, and what has arrived is of no use: the source no longer has the file that it began with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What a source has said about its file; `etag` is a strong one, by which the rest can be asked for."""

    size: int | None = None
    etag: str | None = None


def announced_bytes(headers: Headers) -> int | None:
    """The length of the body, where the answer says it in advance."""
    text = headers.get("content-length", "")
    return int(text) if text.isdecimal() and "transfer-encoding" not in headers else None


def is_encoded(headers: Headers) -> bool:
    return headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


def request_headers(file: File, arrived: int) -> dict[str, str]:
    """What asks for the rest of the file where that is possible, and else for all of it."""
    if not arrived or file.etag is None:
        return {}
    return {"Range": f"bytes={arrived}-", "If-Range": file.etag}


def judge_status(status: int, headers: Headers, *, name: str, is_signed: bool, is_rest_wanted: bool) -> None:
    """Return when the body is what was asked for; raise what became of it otherwise."""
    if status == HTTPStatus.OK or (status == HTTPStatus.PARTIAL_CONTENT and is_rest_wanted):
        return
    if status == HTTPStatus.PARTIAL_CONTENT:
        raise download_failed(name, "sent a part although the whole was asked for.", retryable=False)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and is_rest_wanted:
        raise StartOver("has changed while it was downloaded")
    answered = f"answered {_status_words(status)}"
    if status in _PASSING or status >= 500:
        raise Cut(answered, pause_seconds=_wanted_pause(headers))
    if status in _REFUSALS and is_signed:
        raise _expired(name, answered, status)
    raise download_failed(name, f"{answered}.", retryable=False, http_status=status)


def file_of(status: int, headers: Headers, *, known: File, arrived: int) -> File:
    """The file that the body belongs to: another one, from its start, or for a 206 the known one, from `arrived`.

    Raises StartOver when a part is not exactly the rest of the known one.
    """
    etag = headers.get("etag")
    if status != HTTPStatus.PARTIAL_CONTENT:
        return File(size=announced_bytes(headers), etag=etag if etag and not etag.startswith("W/") else None)
    size = _size_if_rest(headers, arrived)
    if size is None or known.size not in (None, size) or etag not in (None, known.etag):
        raise StartOver("answered with another part than the one asked for")
    return File(size=size, etag=known.etag)


def _size_if_rest(headers: Headers, arrived: int) -> int | None:
    """The size of the whole file, if the answer says that it runs from what has arrived to the end."""
    part = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if not part or int(part["first"]) != arrived:
        return None
    end = int(part["last"]) + 1
    is_to_the_end = part["size"] == "*" or int(part["size"]) == end
    return end if is_to_the_end and announced_bytes(headers) in (None, end - arrived) else None


def _wanted_pause(headers: Headers) -> float:
    """Retry-After, where it is a number of seconds; a date would need clocks that agree."""
    text = headers.get("retry-after", "")
    return float(text) if _SECONDS.fullmatch(text) else 0.0


def _expired(name: str, answered: str, status: int) -> TaskFailed:
    return TaskFailed.of(
        FailureCode.SOURCE_EXPIRED,
        f"The source of {name} {answered}; its signed link has most likely expired. "
        "Register the task again with a fresh link.",
        details={"input": name, "http_status": status},
    )


def _status_words(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)
