"""Every way in which a source is known to go wrong, and what becomes of the download: the file, or which failure."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpcore
import pytest

from core import urls
from core.task import Failure, FailureCode
from core.worker import fetch, guard
from core.worker.failed import TaskFailed
from support import fault_server, receiver
from support.fault_server import BEHAVIOURS, BODY, HALF, OTHER, always, chunk, going_wrong, resuming, then_waits

LOOPBACK = urls.Policy(private_networks=(ip_network("127.0.0.0/8"),))
LIMITS = fetch.Limits(
    max_bytes=1_000_000,
    connect_seconds=60,
    answer_seconds=60,
    idle_seconds=60,
    attempts=3,
    pause_seconds=0.01,
    max_pause_seconds=0.2,
    total_seconds=60,
)
# Short where a source is to be too slow, and only there: a machine that is busy is slow as well.
IMPATIENT: Mapping[str, fetch.Limits] = {
    "never answers": (no_answer := replace(LIMITS, answer_seconds=0.6)),
    "drips the head": no_answer,
    "interim answers now and then": no_answer,
    "drips the body": replace(LIMITS, rate_window_seconds=0.4),
    "stalls": (no_more := replace(LIMITS, idle_seconds=0.6)),
    "stalls once": replace(no_more, attempts=9),
}


@dataclass(frozen=True)
class Arrives:
    """The file is whole on the disk, after visits that began at `starts`, and more where the limits are short."""

    starts: list[int]
    body: bytes = BODY


@dataclass(frozen=True)
class Fails:
    """The source is given up after `visits`; the message has `words` behind the name of the input."""

    words: str
    visits: int = 3
    code: FailureCode = FailureCode.DOWNLOAD_FAILED
    retryable: bool = True


CUT_OFF = Fails("broke off before all of it had arrived (3 attempts were made).")
LATE = Fails("did not answer within 0.6 seconds (3 attempts were made).")
NOT_HTTP = Fails("sent something that is not proper HTTP (3 attempts were made).")
SURPLUS = Fails("sent more than it had announced (3 attempts were made).")
TOO_LARGE = Fails("is larger than the 1000000 bytes that are taken.", 1, FailureCode.SOURCE_TOO_LARGE, retryable=False)
NOT_THERE = Fails("was redirected to an address that is not allowed.", 1, retryable=False)


def answered(words: str) -> Fails:
    return Fails(f"answered {words}.", 1, retryable=False)


VERDICTS: dict[str, Arrives | Fails] = {
    "closes at once": CUT_OFF,
    "resets at once": Fails("(3 attempts were made)."),  # before or after we know whom we have reached
    "closes without an answer": CUT_OFF,
    "resets without an answer": CUT_OFF,
    "never answers": LATE,
    "resets in the head": CUT_OFF,
    "closes in the head": CUT_OFF,
    "drips the head": LATE,
    "garbage for a status line": NOT_HTTP,
    "HTTP/0.9": NOT_HTTP,
    "another protocol": NOT_HTTP,
    "a radio station": NOT_HTTP,
    "one header without end": NOT_HTTP,
    "headers without end": NOT_HTTP,
    "a head of 200 kB": NOT_HTTP,
    "2000 headers": Arrives([0]),
    "lines without carriage returns": Arrives([0]),
    "100 before the answer": Arrives([0]),
    "103 before the answer": Arrives([0]),
    "interim answers without end": NOT_HTTP,
    "interim answers now and then": LATE,
    "length too short": SURPLUS,
    "length too long": CUT_OFF,
    "negative length": NOT_HTTP,
    "length in words": NOT_HTTP,
    "length of 5000 digits": NOT_HTTP,
    "two lengths": NOT_HTTP,
    "the same length twice": Arrives([0]),
    "no length": Arrives([0]),
    "no length, and a reset": CUT_OFF,
    "no length, and no end": TOO_LARGE,
    "more than is taken": TOO_LARGE,
    "empty": Arrives([0], b""),
    "chunked": Arrives([0]),
    "chunks with extensions and trailers": Arrives([0]),
    "chunks and a length": Arrives([0]),
    "chunk longer than it says": NOT_HTTP,
    "chunk shorter than it says": CUT_OFF,
    "chunk size in words": NOT_HTTP,
    "no last chunk": CUT_OFF,
    "chunk extension without end": NOT_HTTP,
    "trailers without end": NOT_HTTP,
    "chunks without end": TOO_LARGE,
    "one chunk without end": TOO_LARGE,
    "unknown transfer encoding": NOT_HTTP,
    "resets in the body": CUT_OFF,
    "cut once": Arrives([0, HALF]),
    "cut, with a weak ETag": Arrives([0, 0]),
    "cut, without an ETag": Arrives([0, 0]),
    "cut, and changed": Arrives([0, HALF], OTHER),
    "cut, and all of it again": Arrives([0, HALF]),
    "cut three times": Fails(CUT_OFF.words),
    "chunks cut once": Arrives([0, HALF]),
    "chunks cut, and continued not to the end": Arrives([0, HALF, 0]),
    "continues with less than it says": Arrives([0, HALF, HALF + 9]),
    "cut each time": CUT_OFF,
    "cut with nothing sent": CUT_OFF,
    "continues another file": Arrives([0, HALF, 0]),
    "continues elsewhere": Arrives([0, HALF, 0]),
    "continues a longer file": Arrives([0, HALF, 0]),
    "continues not to the end": Arrives([0, HALF, 0]),
    "continues in several parts": Arrives([0, HALF, 0]),
    "continues without saying where": Arrives([0, HALF, 0]),
    "cannot continue": Arrives([0, HALF, 0]),
    "refuses to continue": Fails("answered 403 (Forbidden).", 2, retryable=False),
    "a part that nobody asked for": Fails("sent a part although the whole was asked for.", 1, retryable=False),
    "429 first": Arrives([0, 0]),
    "503 first, back tomorrow": Arrives([0, 0]),
    "503 first, back on a date": Arrives([0, 0]),
    "503 first, back at a time in words": Arrives([0, 0]),
    "408 first": Arrives([0, 0]),
    "500": Fails("answered 500 (Internal Server Error) (3 attempts were made)."),
    "404": answered("404 (Not Found)"),
    "401": answered("401 (Unauthorized)"),
    "403": answered("403 (Forbidden)"),
    "416 although all was asked for": answered("416 (Requested Range Not Satisfiable)"),
    "204": answered("204 (No Content)"),
    "304": answered("304 (Not Modified)"),
    "101": NOT_HTTP,
    "redirects to itself": Fails("was redirected in a circle.", 1, retryable=False),
    "redirects without end": Fails("was redirected more than 5 times.", 6, retryable=False),
    "redirects nowhere": Fails("was redirected in a circle.", 1, retryable=False),
    "redirects to no URL": NOT_THERE,
    "redirects to a file": NOT_THERE,
    "redirects inside": NOT_THERE,
    "redirects with an endless body": Arrives([0, 0]),
    "gzip": Fails("sends its bytes encoded although it was asked not to.", 1, retryable=False),
    "identity in so many words": Arrives([0]),
    "a web page": Arrives([0], b"<!DOCTYPE html><html>sign in</html>"),
    "drips the body": Fails("sends fewer than 64000 bytes a second.", 1),
    "stalls": Fails("sent nothing for too long (3 attempts were made)."),
    "stalls once": Arrives([0, HALF]),
    "starts slowly": Arrives([0]),
}


def download(url: str, path: Path, *, limits: fetch.Limits = LIMITS, **network: Any) -> int:
    with fetch.Client(limits, LOOPBACK, guard.Network(**network)) as http:
        return fetch.fetch(http, fetch.Source(name="in.mp4", url=url), path, stopped=lambda: False)


def failure_of(url: str, path: Path, **more: Any) -> Failure:
    with pytest.raises(TaskFailed) as caught:
        download(url, path, **more)
    failure = caught.value.failure
    assert "127.0.0.1" not in failure.message
    assert "?" not in failure.message
    return failure


@contextlib.contextmanager
def nothing_left_open() -> Iterator[None]:
    before = sockets()
    yield
    assert sockets() <= before


def sockets() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - the entries are wanted, not paths
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))  # noqa: PTH115
    return {target for target in found if target.startswith("socket:")}


def test_every_behaviour_has_a_verdict() -> None:
    assert VERDICTS.keys() == BEHAVIOURS.keys()


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_source_that_goes_wrong(name: str, tmp_path: Path) -> None:
    verdict, target, limits = VERDICTS[name], tmp_path / "i0", IMPATIENT.get(name, LIMITS)
    with nothing_left_open(), going_wrong(BEHAVIOURS[name]) as server:
        if isinstance(verdict, Arrives):
            assert download(server.url, target, limits=limits) == len(verdict.body)
            assert target.read_bytes() == verdict.body
        else:
            failure = failure_of(server.url, target, limits=limits)
            assert (failure.code, failure.retryable) == (verdict.code, verdict.retryable)
            assert failure.message.startswith("The source of in.mp4 ")
            assert failure.message.endswith(verdict.words)
            assert failure.details["input"] == "in.mp4"
    if isinstance(verdict, Arrives):  # a visit may be noted after the download was given up
        assert server.starts[: len(verdict.starts)] == verdict.starts
        assert len(server.starts) == len(verdict.starts) or name in IMPATIENT
    else:
        assert len(server.starts) == verdict.visits


def test_signed_link_that_is_refused_has_expired(tmp_path: Path) -> None:
    # given a store that says 403 to a signed link, at once or when the rest is asked for
    for name in ("403", "refuses to continue"):
        with going_wrong(BEHAVIOURS[name]) as server:
            failure = failure_of(f"{server.url}?X-Amz-Signature=abc", tmp_path / "i0")

        assert failure == Failure.of(
            FailureCode.SOURCE_EXPIRED,
            "The source of in.mp4 answered 403 (Forbidden); its signed link has most likely expired. "
            "Register the task again with a fresh link.",
            details={"input": "in.mp4", "http_status": 403},
        )


def test_port_where_nobody_listens_or_speaks_tls_cannot_be_reached(tmp_path: Path) -> None:
    with going_wrong(BEHAVIOURS["chunked"]) as server:
        plain = failure_of(server.url.replace("http:", "https:"), tmp_path / "i0")
    with receiver.nobody() as url:
        closed = failure_of(url, tmp_path / "i0")

    assert plain == closed
    assert closed.message == "The source of in.mp4 cannot be reached (3 attempts were made)."


def test_what_is_sent_behind_an_answer_is_not_the_next_answer(tmp_path: Path) -> None:
    # given a source that sends a second answer, forged, behind the end of the first, and does not close
    whole = fault_server.CHUNKED + chunk(b"true") + chunk(b"")
    forging = then_waits(whole + fault_server.said(200, body=b"forged"))

    def behind_the_first(visit: fault_server.Visit) -> None:
        forging(visit) if visit.number == 1 else visit.send(whole)

    with going_wrong(behind_the_first) as server, fetch.Client(LIMITS, LOOPBACK) as http:
        # when two files are fetched from it
        for name in ("i0", "i1"):
            fetch.fetch(http, fetch.Source(name=name, url=server.url), tmp_path / name, stopped=lambda: False)

    assert [(tmp_path / name).read_bytes() for name in ("i0", "i1")] == [b"true", b"true"]


@pytest.mark.parametrize("name", ["chunked", "403", "gzip", "cut each time", "redirects with an endless body"])
def test_connection_is_closed_as_soon_as_it_was_used(name: str, tmp_path: Path) -> None:
    made: list[httpcore.NetworkStream] = []

    def dial(address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
        made.append(guard.dial(address, port, timeout))
        return made[-1]

    with going_wrong(BEHAVIOURS[name]) as server, fetch.Client(LIMITS, LOOPBACK, guard.Network(dial=dial)) as http:
        with contextlib.suppress(TaskFailed):
            source = fetch.Source(name="in.mp4", url=server.url)
            fetch.fetch(http, source, tmp_path / "i0", stopped=lambda: False)

        assert [stream.get_extra_info("socket").fileno() for stream in made] == [-1] * len(server.starts)


@pytest.mark.parametrize(
    ("most", "progress_bytes", "visits"),
    [
        pytest.param(20_000, 20_000, 10, id="each attempt brings it forward"),
        pytest.param(8_000, 20_000, 25, id="each third attempt brings it forward"),
    ],
)
def test_source_that_is_cut_again_and_again_but_goes_on_arrives(
    most: int, progress_bytes: int, visits: int, tmp_path: Path
) -> None:
    with going_wrong(resuming('"v1"', most=most)) as server:
        download(server.url, tmp_path / "i0", limits=replace(LIMITS, progress_bytes=progress_bytes))

        assert (tmp_path / "i0").read_bytes() == BODY
        assert server.starts == [visit * most for visit in range(visits)]


def test_source_that_begins_again_each_time_does_not_count_as_going_on(tmp_path: Path) -> None:
    # given a source that cannot continue, and breaks off a little later each time
    def behave(visit: fault_server.Visit) -> None:
        visit.send(fault_server.head(200, f"Content-Length: {len(BODY)}") + BODY[: 20_000 * visit.number])

    with going_wrong(behave) as server:
        failure = failure_of(server.url, tmp_path / "i0", limits=replace(LIMITS, progress_bytes=10_000))

    assert failure.message.endswith(CUT_OFF.words)
    assert server.starts == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "most", "waited"),
    [
        pytest.param("429 first", 600.0, 1.0, id="as asked"),
        pytest.param("503 first, back tomorrow", 0.5, 0.5, id="no longer than we will"),
        pytest.param("503 first, back on a date", 600.0, 0.01, id="a date is not understood"),
    ],
)
def test_pause_is_as_long_as_the_source_asks(name: str, most: float, waited: float, tmp_path: Path) -> None:
    began = time.monotonic()
    with going_wrong(BEHAVIOURS[name]) as server:
        # one that is too long ends with the time for the whole, and in a failure
        download(server.url, tmp_path / "i0", limits=replace(LIMITS, max_pause_seconds=most))

    assert waited <= time.monotonic() - began


@pytest.mark.parametrize("name", ["drips the body", "500", "stalls", "never answers"])
def test_download_ends_when_its_time_is_over(name: str, tmp_path: Path) -> None:
    # given patience with everything, save with the whole
    limits = replace(LIMITS, total_seconds=0.6, attempts=20, pause_seconds=0.1)
    began = time.monotonic()

    with going_wrong(BEHAVIOURS[name]) as server:
        failure = failure_of(server.url, tmp_path / "i0", limits=limits)

    message = "The source of in.mp4 did not send all of it within 0.6 seconds."
    expected = Failure.of(FailureCode.DOWNLOAD_FAILED, message, retryable=False, details={"input": "in.mp4"})
    assert failure == expected
    assert time.monotonic() - began < 20  # each of them would take half a minute, or for ever


def test_file_that_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path) -> None:
    # given a source that announces more than the disk has free, and sends some of it
    size = shutil.disk_usage(tmp_path).free + 10**12
    answer = fault_server.head(200, f"Content-Length: {size}") + BODY
    with going_wrong(always(answer)) as server:
        failure = failure_of(server.url, tmp_path / "i0", limits=replace(LIMITS, max_bytes=2 * size))

    free = failure.details["free_bytes"]
    assert failure == Failure.of(
        FailureCode.DISK_FULL,
        f"The source of in.mp4 has {size} bytes still to come, and the worker's disk has {free} free.",
        details={"input": "in.mp4", "size_bytes": size, "free_bytes": free},
    )
    assert (tmp_path / "i0").stat().st_size == 0
    assert len(server.starts) == 1
