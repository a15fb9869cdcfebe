"""From an `s3://` URL to a file: what the store raises becomes the task's failure, as in fetch.py."""

from collections.abc import Callable
from pathlib import Path

from core import urls
from core.errors import UrlNotAllowed
from core.ports import InputStore, InputTooLarge, InputUnreadable
from core.worker import fetch
from core.worker.failed import Stopped, download_failed

SCHEME = "s3://"


def fetch_object(
    store: InputStore | None,
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
    if store is None or place is None:
        raise download_failed(source.name, "is in a bucket that is not open to this service.", retryable=False)
    try:
        return store.get_file(place.bucket, place.key, path, max_bytes=max_bytes, on_piece=go_on)
    except InputTooLarge:
        raise fetch.too_large(source.name, max_bytes) from None
    except InputUnreadable as error:
        raise download_failed(source.name, str(error), retryable=error.retryable) from error
    except OSError as error:
        raise fetch.disk_failure(error) from error


def _checked(source: fetch.Source, policy: urls.Policy) -> urls.Object | None:
    """The object, judged again: a stored row is input too."""
    try:
        place = urls.check(source.url, field=source.name, policy=policy)
    except UrlNotAllowed:
        return None
    return place if isinstance(place, urls.Object) else None
