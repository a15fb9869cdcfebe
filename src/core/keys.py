"""API keys: who may call, as API_KEYS lists them, and how one is made. Pure, but for the chance in `make`.

The service knows the SHA-256 of a key only. A slow hash would add nothing: it is there to make guessing a person's
password expensive, and these keys are 32 random bytes, made here, which nobody guesses at any speed.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

MADE_BY = "as `python -m handlers.keys NAME` prints them"
ROLES = ("user", "admin")
_PREFIX = "ffk_"  # so that people and scanners of repositories know one when they see it
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LIMIT = re.compile(r"(rate|live)=([0-9]{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One entry of API_KEYS. Several may share a name: then they are one caller, who is changing keys."""

    name: str
    digest: bytes  # SHA-256 of the key
    admin: bool = False  # sees the tasks of all
    rate: int | None = None  # requests a minute, 0 for any number; None: what the settings say
    live: int | None = None  # tasks queued or running at once, likewise


def read(text: str) -> tuple[Key, ...]:
    """The entries of API_KEYS. Raises ValueError; somebody may have put the keys themselves here, so that
    the message names entries by their number."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    keys = tuple(_entry(part, number) for number, part in enumerate(parts, start=1))
    if not keys:
        raise ValueError(f"must list keys as name:sha256[:role], {MADE_BY}; leave it unset for none")
    by_name: dict[str, Key] = {}
    for key in keys:
        first = by_name.setdefault(key.name, key)
        if (key.admin, key.rate, key.live) != (first.admin, first.rate, first.live):
            raise ValueError(f"all keys named {key.name!r} must have the same role and limits")
    if len({key.digest for key in keys}) < len(keys):
        raise ValueError("lists one key twice")
    return keys


def _entry(text: str, number: int) -> Key:
    name, *rest = (part.strip() for part in text.split(":"))
    if not _NAME.fullmatch(name):
        raise ValueError(f"must list keys as name:sha256[:role], {MADE_BY}; a name is 1 to 64 of A-Z a-z 0-9 . _ -")
    if not rest or not _DIGEST.fullmatch(rest[0].lower()):
        raise ValueError(f"entry {number} needs the SHA-256 of its key, 64 hex digits, {MADE_BY}")
    role, limits = _options(number, rest[1:])
    return Key(name=name, digest=bytes.fromhex(rest[0]), admin=role == "admin", **limits)


def _options(number: int, words: Sequence[str]) -> tuple[str, dict[str, int]]:
    role, limits = ROLES[0], dict[str, int]()
    kinds = ["role" if word in ROLES else word.partition("=")[0] for word in words]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"entry {number} gives its role or a limit twice")
    for word in words:
        if word in ROLES:
            role = word
        elif found := _LIMIT.fullmatch(word):
            limits[found[1]] = int(found[2])
        else:
            raise ValueError(f"entry {number} may end in :user or :admin, :rate=NUMBER and :live=NUMBER only")
    return role, limits


def find(keys: Sequence[Key], given: bytes) -> Key | None:
    """The entry of the key `given`. Each is compared, and in full, whichever it is: the time taken tells nothing."""
    digest = hashlib.sha256(given).digest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def make(name: str, *, admin: bool = False) -> tuple[str, str]:
    """A new key, and its entry for API_KEYS. Raises ValueError for what is no name."""
    key = _PREFIX + secrets.token_urlsafe(32)
    entry = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}{':admin' if admin else ''}"
    read(entry)
    return key, entry
