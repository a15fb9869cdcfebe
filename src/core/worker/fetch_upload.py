"""From an `upload:` to a file: what the store raises becomes the task's failure, as in fetch_object.py."""

from collections.abc import Callable
from pathlib import Path

from core import urls
from core.errors import UrlNotAllowed
from core.ports import InputGone, InputTooLarge, InputUnreadable
from core.task import FailureCode
from core.upload import UploadStore
from core.worker import fetch
from core.worker.failed import Stopped, TaskFailed, download_failed


def fetch_upload(
    store: UploadStore | None,
    source: fetch.Source,
    path: Path,
    *,
    max_bytes: int,
    stopped: Callable[[], bool],
) -> int:
    """Store the upload at `path`; returns its size in bytes. Raises TaskFailed, or Stopped once `stopped` says so."""

    def go_on() -> None:
        if stopped():
            raise Stopped

    go_on()
    upload_id = _checked(source)
    if store is None or upload_id is None:
        raise download_failed(source.name, "is no upload to this service.", retryable=False)
    try:
        return store.get_file(upload_id, path, max_bytes=max_bytes, on_piece=go_on)
    except InputTooLarge:
        raise fetch.too_large(source.name, max_bytes) from None
    except InputGone:
        raise _gone(source.name) from None
    except InputUnreadable as error:
        raise download_failed(source.name, str(error), retryable=error.retryable) from error
    except OSError as error:
        raise fetch.disk_failure(error) from error


def _checked(source: fetch.Source) -> str | None:
    """The upload's id, judged again: a stored row is input too."""
    try:
        place = urls.check(source.url, field=source.name, policy=urls.Policy(uploads=True))
    except UrlNotAllowed:
        return None
    return place.upload_id if isinstance(place, urls.Uploaded) else None


def _gone(name: str) -> TaskFailed:
    message = f"The upload of {name} has expired or was deleted: upload the file again, and register a new task."
    return TaskFailed.of(FailureCode.SOURCE_EXPIRED, message, details={"input": name})
