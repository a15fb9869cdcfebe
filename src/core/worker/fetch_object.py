"""From an `s3://`, a `file://` or an `upload:` URL to a file: what a store raises becomes the task's failure, as in
fetch.py."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from core import urls
from core.errors import UrlNotAllowed
from core.ports import InputFolders, InputGone, InputStore, InputTooLarge, InputUnreadable
from core.task import FailureCode
from core.upload import UploadStore
from core.worker import fetch
from core.worker.failed import Stopped, TaskFailed, download_failed

_NOT_OPEN = {
    "s3://": "is in a bucket that is not open to this service.",
    "file://": "is in a folder that is not open to this service.",
    urls.UPLOAD: "is no upload to this service.",
}
SCHEMES = tuple(_NOT_OPEN)
_Place = urls.Web | urls.Object | urls.File | urls.Uploaded | None


class Places(NamedTuple):
    """Where objects, files and uploads may be read from, as far as there is such a place."""

    store: InputStore | None = None
    folders: InputFolders | None = None
    uploads: UploadStore | None = None


def fetch_object(
    places: Places,
    source: fetch.Source,
    path: Path,
    *,
    policy: urls.Policy,
    max_bytes: int,
    stopped: Callable[[], bool],
) -> int:
    """Store the object at `path`; returns its size in bytes. Raises TaskFailed, or Stopped once `stopped` says so."""

    def go_on() -> None:
        if stopped():
            raise Stopped

    go_on()
    place = _checked(source, policy)
    try:
        size = _got(places, place, path, max_bytes=max_bytes, on_piece=go_on)
    except InputTooLarge:
        raise fetch.too_large(source.name, max_bytes) from None
    except InputUnreadable as error:
        if isinstance(place, urls.Uploaded) and isinstance(error, InputGone):
            raise _expired(source.name) from None
        raise download_failed(source.name, str(error), retryable=error.retryable) from error
    except OSError as error:
        raise fetch.disk_failure(error) from error
    if size is None:
        not_open = next(words for scheme, words in _NOT_OPEN.items() if source.url.startswith(scheme))
        raise download_failed(source.name, not_open, retryable=False)
    return size


def _got(places: Places, place: _Place, path: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int | None:
    """The size; None where there is no such place."""
    if isinstance(place, urls.Object) and places.store:
        return places.store.get_file(place.bucket, place.key, path, max_bytes=max_bytes, on_piece=on_piece)
    if isinstance(place, urls.File) and places.folders:
        return places.folders.get_file(place.path, path, max_bytes=max_bytes, on_piece=on_piece)
    if isinstance(place, urls.Uploaded) and places.uploads:
        return places.uploads.get_file(place.upload_id, path, max_bytes=max_bytes, on_piece=on_piece)
    return None


def _checked(source: fetch.Source, policy: urls.Policy) -> _Place:
    """The place, judged again: a stored row is input too."""
    try:
        return urls.check(source.url, field=source.name, policy=policy)
    except UrlNotAllowed:
        return None


def _expired(name: str) -> TaskFailed:
    message = f"The upload of {name} has expired or was deleted: upload the file again, and register a new task."
    return TaskFailed.of(FailureCode.SOURCE_EXPIRED, message, details={"input": name})
