"""What the prober tells about a file, as the domain speaks of it.

The prober (worker/prober.py) answers in plain data, because it is another process that handles hostile bytes; here
its answer becomes a `Media`, or a word on why there is none.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from core.task import Media, Stream

# What the first bytes of a file give away when a server sent something else than media.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
    (b"{", "a JSON document"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"%pdf-", "a PDF document"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """Either the facts, or why there are none. `packets` says whether there is anything inside the container."""

    media: Media | None = None
    packets: bool = False
    error: str | None = None


def read(answer: str | None, *, filename: str) -> Probed:
    """The prober's answer on a file that the user calls `filename`; None when it gave none."""
    if answer is None:
        return Probed(error="the file could not be examined in time")
    try:
        data = json.loads(answer)
        if "error" in data:
            return Probed(error=str(data["error"]))
        return Probed(media=_media(data, filename=filename), packets=bool(data["packets"]))
    except (ValueError, KeyError, TypeError):
        return Probed(error="the file could not be examined")


def what_it_looks_like(head: bytes) -> str | None:
    """What a file that is no media is instead, by its first bytes; None when they do not tell."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((name for start, name in _SIGNATURES if text.startswith(start)), None)


def _media(data: Mapping[str, Any], *, filename: str) -> Media:
    return Media(
        container=_container(str(data["format"]), filename=filename),
        duration_seconds=data["duration_seconds"],
        bit_rate=data["bit_rate"],
        streams=tuple(_stream(stream) for stream in data["streams"]),
    )


def _container(names: str, *, filename: str) -> str:
    """libavformat names a family (`mov,mp4,m4a,3gp,3g2,mj2`); the file's own extension picks the member."""
    family = names.split(",")
    extension = filename.rpartition(".")[2].lower()
    return extension if extension in family else family[0]


def _stream(data: Mapping[str, Any]) -> Stream:
    values: dict[str, Any] = {field.name: data.get(field.name) for field in fields(Stream)}
    return Stream(**values)
