"""From an `s3://` or a `file://` URL to a file: what a store raises becomes the task's failure, as in fetch.py."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from core import urls
from core.errors import UrlNotAllowed
from core.ports import InputFolders, InputStore, InputTooLarge, InputUnreadable
from core.worker import fetch
from core.worker.failed import Stopped, download_failed

SCHEMES = ("s3://", "file://")


class Places(NamedTuple):
    """Where objects and files may be read from, as far as there is such a place."""

    store: InputStore | None = None
    folders: InputFolders | None = None


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
        if isinstance(place, urls.Object) and places.store:
            return places.store.get_file(place.bucket, place.key, path, max_bytes=max_bytes, on_piece=go_on)
        if isinstance(place, urls.File) and places.folders:
            return places.folders.get_file(place.path, path, max_bytes=max_bytes, on_piece=go_on)
    except InputTooLarge:
        raise fetch.too_large(source.name, max_bytes) from None
    except InputUnreadable as error:
        raise download_failed(source.name, str(error), retryable=error.retryable) from error
    except OSError as error:
        raise fetch.disk_failure(error) from error
    kind = "bucket" if source.url.startswith("s3://") else "folder"
    raise download_failed(source.name, f"is in a {kind} that is not open to this service.", retryable=False)


def _checked(source: fetch.Source, policy: urls.Policy) -> urls.Web | urls.Object | urls.File | urls.Uploaded | None:
    """The place, judged again: a stored row is input too."""
    try:
        return urls.check(source.url, field=source.name, policy=policy)
    except UrlNotAllowed:
        return None
