"""Where outputs may go: what an entry of the operator's list stands for, and what is said of what it does not."""

from typing import Any

import pytest

from core import destination
from core.destination import Destination
from core.errors import InvalidArgument

LISTED = tuple(map(destination.read, ("media-out", "partner-bucket/incoming", "partner-bucket/daily/raw")))


def to(bucket: str, prefix: str = "") -> Destination:
    return Destination(bucket=bucket, prefix=prefix)


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        ("media-out", to("media-out")),
        ("my.bucket-1/in coming/ünï", to("my.bucket-1", "in coming/ünï")),
        ("abc/" + "x" * 255, to("abc", "x" * 255)),
    ],
)
def test_an_entry_is_a_bucket_or_a_bucket_and_a_prefix(entry: str, meant: Destination) -> None:
    assert destination.read(entry) == meant
    assert str(meant) == entry


@pytest.mark.parametrize(
    "entry",
    [
        *("", "ab", "Media", "-media", "media-", "s3://media", "m..", "..", "/etc", "media/", "media//x", "media/x/"),
        *("media/../x", "media/.", "media/a\nb", "arn:aws:s3:::media", "*", "media/" + "x" * 256, "me dia"),
    ],
)
def test_what_is_no_entry_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="like media-out,partner-bucket/incoming"):
        destination.read(entry)


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        to("media-out"),
        to("media-out", "shows/42"),
        to("media-out", "..."),
        to("media-out", "a b/ünï?#%/x.y"),
        to("media-out", "ü" * 127),
        to("partner-bucket", "incoming"),
        to("partner-bucket", "incoming/a/b"),
        to("partner-bucket", "daily/raw/2026"),
    ],
)
def test_what_is_listed_and_what_is_below_it_may_be_wanted(wanted: Destination | None) -> None:
    assert destination.check(wanted, LISTED) is wanted


@pytest.mark.parametrize("bucket", ["partner", "partner-bucket2", "PARTNER-BUCKET", "", "media-out/x", "../media-out"])
@pytest.mark.parametrize("prefix", ["", "incoming", "/", ".."])
def test_another_bucket_is_refused_without_a_word_on_those_that_there_are(bucket: str, prefix: str) -> None:
    for listed in (LISTED, ()):
        assert refusal(to(bucket, prefix), listed) == (
            "destination.bucket is no bucket that this service stores to; its operator lists those in DESTINATIONS.",
            {"field": "destination.bucket"},
        )


@pytest.mark.parametrize(
    "prefix",
    ["", "incomin", "incoming2", "incoming.", "Incoming", "x/incoming", "daily", "daily/raw2", "daily/rawer/x"],
)
def test_another_prefix_is_refused_with_those_of_the_bucket(prefix: str) -> None:
    assert refusal(to("partner-bucket", prefix)) == (
        "destination.prefix must be incoming or daily/raw, or begin with that and a slash.",
        {"field": "destination.prefix", "allowed": ["incoming", "daily/raw"]},
    )


NAMES = "must be names with single slashes between them, none of which is . or .., like shows/42."
UNSEEN = "must not have invisible characters."
LONG = "must have at most 255 bytes."


@pytest.mark.parametrize(
    ("prefix", "fault"),
    [
        *((prefix, NAMES) for prefix in ("/", "/a", "a/", "a//b", ".", "..", "../x", "a/../b", "a/..", "./a", "a/./b")),
        *((prefix, UNSEEN) for prefix in ("a\0", "a\nb", "a\tb", "\x7f", "a\u200bb", "a\u202eb", "\ud800")),
        *((prefix, LONG) for prefix in ("x" * 256, "ü" * 128, "a/" * 200)),
    ],
)
def test_a_prefix_that_can_be_none_is_refused(prefix: str, fault: str) -> None:
    below = to("partner-bucket", f"incoming/{prefix}")
    assert refusal(to("media-out", prefix)) == (f"destination.prefix {fault}", {"field": "destination.prefix"})
    assert refusal(below) == (f"destination.prefix {fault}", {"field": "destination.prefix"})


def refusal(wanted: Destination, listed: tuple[Destination, ...] = LISTED) -> tuple[str, dict[str, Any]]:
    with pytest.raises(InvalidArgument) as refused:
        destination.check(wanted, listed)
    assert refused.value.code == "INVALID_ARGUMENT"
    return refused.value.message, refused.value.details
