"""Uploads among the inputs of a batch: called as their files were, and kept for the batch as for a task.

Each is looked up and kept by itself, which takes some calls to the store; so a batch has few of them.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from core import sources, urls
from core.batch import Source
from core.errors import InvalidArgument, UploadNotFound, UrlNotAllowed
from core.uploads import Uploads

MOST_UPLOADS = 100


class Looked(NamedTuple):
    """The files of a batch, with what is known of those that are uploads."""

    sources: Sequence[Source]
    faults: Mapping[int, str]  # by index, why an upload cannot be an input, as the end of a sentence that begins so


def look_up(uploads: Uploads | None, given: Sequence[Source], *, common: Mapping[str, str], now: datetime) -> Looked:
    """`common` are the inputs that all tasks have. Raises InvalidArgument when there are too many uploads among all."""
    known, faults = list(given), dict[int, str]()
    if uploads is None:
        return Looked(known, faults)
    _check_number([*common.values(), *(source.url for source in given)])
    for index, source in enumerate(given):
        upload_id = _id(source.url)
        if upload_id is None:
            continue
        if fault := uploads.fault(upload_id, now=now):
            faults[index] = fault
            continue
        with suppress(UploadNotFound):  # it has gone since: whoever is about to keep it finds out
            upload = uploads.get(upload_id, now=now)
            known[index] = Source(sources.called(upload.filename), source.url, upload.size_bytes)
    return Looked(known, faults)


def hold(
    uploads: Uploads | None, listed: Sequence[Source], *, common: Mapping[str, str], batch_id: str, now: datetime
) -> None:
    """Keep the uploads among all inputs until the batch has ended. Raises InvalidArgument when one cannot be one."""
    if uploads is None:
        return
    fields = [(url, f"input_files.{name}") for name, url in common.items()]
    fields += [(source.url, source.name) for source in listed]
    for url, field in fields:
        if upload_id := _id(url):
            uploads.hold(upload_id, task_id=batch_id, field=field, now=now)


def _check_number(given: Sequence[str]) -> None:
    if sum(url.startswith(urls.UPLOAD) for url in given) > MOST_UPLOADS:
        message = f"There are more than {MOST_UPLOADS} uploads among the inputs: make several batches of them."
        raise InvalidArgument(message, details={"field": "inputs"})


def _id(url: str) -> str | None:
    """The upload's; None of what is none, or none in the right form."""
    if not url.startswith(urls.UPLOAD):
        return None
    with suppress(UrlNotAllowed):
        place = urls.check(url, field="inputs", policy=urls.Policy(uploads=True))
        return place.upload_id if isinstance(place, urls.Uploaded) else None
    return None
