"""Where outputs may go besides the service's own bucket: what its operator lists, and what a caller may ask for of it.

An entry of the list is a bucket, or a bucket and a prefix, and stands for all that is below it. Pure: whether the
bucket is there and takes anything shows when a worker stores something.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from core.errors import InvalidArgument

# With the longest name of an output it is within the 1,024 bytes of a key, and as a folder's name within those of one.
MAX_PREFIX_BYTES = 255

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    bucket: str
    prefix: str = ""  # without a slash at either end

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket

    def covers(self, other: "Destination") -> bool:
        """Whether the other one is the same or below."""
        return self.bucket == other.bucket and (not self.prefix or f"{other.prefix}/".startswith(f"{self.prefix}/"))


def is_bucket(name: str) -> bool:
    """Whether it can be the name of a bucket; then it can be that of a folder too."""
    return _BUCKET.fullmatch(name) is not None


def read(text: str) -> Destination:
    """An entry of the list, as it is spelled. Raises ValueError."""
    bucket, slash, prefix = text.partition("/")
    if not is_bucket(bucket) or (slash and not prefix) or _prefix_fault(prefix):
        example = "media-out,partner-bucket/incoming"
        raise ValueError(f"must be buckets, each with a prefix or without, like {example}: {text!r} is none")
    return Destination(bucket=bucket, prefix=prefix)


def check(wanted: Destination | None, allowed: Collection[Destination]) -> Destination | None:
    """What is wanted, if it may be; None is the service's own bucket. Raises InvalidArgument.

    Only who names a listed bucket is told which prefixes there are in it: the names of the buckets would tell each
    caller of the others.
    """
    if wanted is None:
        return None
    places = [place for place in allowed if place.bucket == wanted.bucket]
    if not places:
        raise _refused("bucket", "is no bucket that this service stores to; its operator lists those in DESTINATIONS.")
    if fault := _prefix_fault(wanted.prefix):
        raise _refused("prefix", fault)
    if not any(place.covers(wanted) for place in places):
        prefixes = [place.prefix for place in places]
        raise _refused("prefix", f"must be {' or '.join(prefixes)}, or begin with that and a slash.", allowed=prefixes)
    return wanted


def _prefix_fault(prefix: str) -> str | None:
    """What is wrong with it, as the end of a sentence that begins with its name."""
    if not prefix:
        return None
    if not prefix.isprintable():
        return "must not have invisible characters."
    if len(prefix.encode()) > MAX_PREFIX_BYTES:
        return f"must have at most {MAX_PREFIX_BYTES} bytes."
    if any(part in ("", ".", "..") for part in prefix.split("/")):
        return "must be names with single slashes between them, none of which is . or .., like shows/42."
    return None


def _refused(field: str, fault: str, **details: object) -> InvalidArgument:
    name = f"destination.{field}"
    return InvalidArgument(f"{name} {fault}", details={"field": name, **details})
