"""Downloads against a real server on loopback that misbehaves in every way that is known of."""

import resource
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from core import urls
from core.task import Failure, FailureCode
from core.worker import fetch
from core.worker.failed import Stopped, TaskFailed
from support import receiver
from support.source_server import MEDIA, SourceServer, serving

CLIP = "bigbuckbunny.mp4"
LIMITS = fetch.Limits(max_bytes=10_000_000, connect_seconds=60, answer_seconds=60, attempts=3, pause_seconds=0.01)
LOOPBACK = urls.Policy(private_networks=(ip_network("127.0.0.0/8"),))


@pytest.fixture(scope="module")
def server() -> Iterator[SourceServer]:
    with serving() as running:
        yield running


def download(url: str, path: Path, limits: fetch.Limits = LIMITS) -> int:
    source = fetch.Source(name="input.mp4", url=url)
    with fetch.Client(limits, LOOPBACK) as http:
        return fetch.fetch(http, source, path, stopped=lambda: False)


def failure_of(url: str, path: Path, limits: fetch.Limits = LIMITS) -> Failure:
    with pytest.raises(TaskFailed) as caught:
        download(url, path, limits)
    return caught.value.failure


@pytest.mark.parametrize(
    "path",
    [
        f"media/{CLIP}",
        f"cut/{CLIP}",
        f"cut-weak/{CLIP}",
        f"flaky/503/{CLIP}",
        f"flaky/429/{CLIP}",
        f"redirect/5/{CLIP}",
    ],
)
def test_fetch_ends_with_the_same_bytes(server: SourceServer, tmp_path: Path, path: str) -> None:
    # given a source that is good, or mends itself
    target = tmp_path / "i0.mp4"

    # when it is fetched
    size = download(f"{server.url}/{path}", target)

    # then the file is the source's, to the byte
    assert target.read_bytes() == (MEDIA / CLIP).read_bytes()
    assert size == target.stat().st_size


def test_fetch_continues_where_it_was_cut(tmp_path: Path) -> None:
    with serving() as server:
        download(f"{server.url}/cut/{CLIP}", tmp_path / "i0.mp4")

        half = (MEDIA / CLIP).stat().st_size // 2
        assert server.ranges == [f"bytes={half}-"]


@pytest.mark.parametrize(
    ("path", "code", "retryable", "words"),
    [
        ("status/404", FailureCode.DOWNLOAD_FAILED, False, "answered 404 (Not Found)."),
        ("status/403", FailureCode.DOWNLOAD_FAILED, False, "answered 403 (Forbidden)."),
        ("status/403?X-Amz-Signature=abc", FailureCode.SOURCE_EXPIRED, False, "has most likely expired"),
        (
            "status/500",
            FailureCode.DOWNLOAD_FAILED,
            True,
            "answered 500 (Internal Server Error) (3 attempts were made).",
        ),
        ("status/599", FailureCode.DOWNLOAD_FAILED, True, "answered 599 (3 attempts were made)."),
        (f"always-cut/{CLIP}", FailureCode.DOWNLOAD_FAILED, True, "broke off before all of it had arrived"),
        (f"redirect/6/{CLIP}", FailureCode.DOWNLOAD_FAILED, False, "was redirected more than 5 times."),
        ("redirect-to?file:///etc/passwd", FailureCode.DOWNLOAD_FAILED, False, "an address that is not allowed."),
        ("redirect-to?", FailureCode.DOWNLOAD_FAILED, False, "was redirected in a circle."),
        ("endless", FailureCode.SOURCE_TOO_LARGE, False, "is larger than the 10000000 bytes"),
        ("announces/10000001", FailureCode.SOURCE_TOO_LARGE, False, "is larger than the 10000000 bytes"),
        ("announces/1000", FailureCode.DOWNLOAD_FAILED, True, "broke off before all of it had arrived"),
        (f"gzip/{CLIP}", FailureCode.DOWNLOAD_FAILED, False, "sends its bytes encoded"),
    ],
)
def test_fetch_says_what_is_wrong(
    server: SourceServer, tmp_path: Path, path: str, code: FailureCode, retryable: bool, words: str
) -> None:
    failure = failure_of(f"{server.url}/{path}", tmp_path / "i0.mp4")

    assert (failure.code, failure.retryable) == (code, retryable)
    assert failure.message.startswith("The source of input.mp4 ")
    assert words in failure.message
    assert failure.details["input"] == "input.mp4"
    assert "127.0.0.1" not in failure.message
    assert "?" not in failure.message


def test_fetch_gives_up_a_silent_source(server: SourceServer, tmp_path: Path) -> None:
    failure = failure_of(f"{server.url}/silent", tmp_path / "i0.mp4", replace(LIMITS, answer_seconds=0.5))

    expected = "The source of input.mp4 did not answer within 0.5 seconds (3 attempts were made)."
    assert (failure.message, failure.retryable) == (expected, True)


def test_fetch_gives_up_a_trickle(server: SourceServer, tmp_path: Path) -> None:
    limits = fetch.Limits(max_bytes=1000, rate_window_seconds=0.5, total_seconds=60)

    failure = failure_of(f"{server.url}/trickle", tmp_path / "i0.mp4", limits)

    assert failure.message == "The source of input.mp4 sends fewer than 64000 bytes a second."


def test_fetch_reports_an_unreachable_host_and_an_unknown_name_alike(tmp_path: Path) -> None:
    # given a port on which nobody listens, and a name that nobody has
    with receiver.nobody() as url:
        words = {failure_of(gone, tmp_path / "i0.mp4").message for gone in (url, "http://nobody.invalid/x.mp4")}

    assert words == {"The source of input.mp4 cannot be reached (3 attempts were made)."}


def test_fetch_stops_when_it_is_told_to(server: SourceServer, tmp_path: Path) -> None:
    limits, path = fetch.Limits(max_bytes=2**50), tmp_path / "i0.mp4"
    source = fetch.Source(name="input.mp4", url=f"{server.url}/endless")

    def some_has_come() -> bool:
        return path.exists() and path.stat().st_size > 1_000_000

    with fetch.Client(limits, LOOPBACK) as http, pytest.raises(Stopped):
        fetch.fetch(http, source, path, stopped=some_has_come)


def test_last_piece_that_fits_only_in_part_is_noticed(server: SourceServer, tmp_path: Path) -> None:
    # given room for all but the last bytes: the write takes what fits, and reports no error
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        failure = failure_of(f"{server.url}/json", tmp_path / "i0.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert failure.code is FailureCode.DISK_FULL


def test_fetch_of_an_unwritable_place_says_so(server: SourceServer, tmp_path: Path) -> None:
    failure = failure_of(f"{server.url}/media/{CLIP}", tmp_path / "missing" / "i0.mp4")

    assert failure == Failure.of(FailureCode.INTERNAL_ERROR, "The worker could not write an input to its disk.")
