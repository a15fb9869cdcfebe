"""From the output folder to the object store: what was written, in which order it goes, and that it arrived whole.

A playlist is stored after the segments that it names, so that nobody ever reads one that points to nothing.
"""

import hashlib
import logging
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from core.errors import ServiceError
from core.ports import ObjectStore, StoredObject
from core.task import FailureCode, Media, Output
from core.worker.failed import Stopped, TaskFailed, raise_worst

log = logging.getLogger(__name__)

PARALLEL = 4
_PIECE_BYTES = 1024**2
PLAYLISTS = frozenset({".m3u8", ".mpd"})
# What the machine's own table lacks or gets wrong.
_CONTENT_TYPES: Mapping[str, str] = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".m4a": "audio/mp4",
    ".mp4": "video/mp4",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".vtt": "text/vtt",
    ".srt": "application/x-subrip",
    ".webp": "image/webp",
    ".avif": "image/avif",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A file that ffmpeg has written. `declared` is its rank among the outputs that the task declared, if it is one."""

    path: Path
    filename: str  # relative to the output folder, with `/`
    declared: int | None
    media: Media | None


def upload(objects: ObjectStore, files: Sequence[Finished], *, prefix: str, stop: Event) -> tuple[Output, ...]:
    """Store each file under `prefix` and see that it is there whole; the declared outputs come first in the answer.

    The first to fail ends the others. Raises TaskFailed with UPLOAD_FAILED, or Stopped.
    """
    failed = Event()

    def on_piece() -> None:
        if failed.is_set() or stop.is_set():
            raise Stopped

    def put(file: Finished) -> Output:
        try:
            return _put(objects, file, key=f"{prefix}/{file.filename}", on_piece=on_piece)
        except BaseException:
            failed.set()
            raise

    stored: list[Output] = []
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload") as pool:
        for group in _in_order(files):
            puts = [pool.submit(put, file) for file in group]
            raise_worst([put.exception() for put in puts])
            stored += [put.result() for put in puts]
    ranks = {file.filename: (file.declared is None, file.declared or 0, file.filename) for file in files}
    return tuple(sorted(stored, key=lambda output: ranks[output.filename]))


def content_type(filename: str) -> str:
    suffix = Path(filename).suffix.lower()
    return _CONTENT_TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or "application/octet-stream"


def _in_order(files: Sequence[Finished]) -> list[list[Finished]]:
    """Groups to be stored one after the other: media, then playlists of media, then declared playlists."""

    def rank(file: Finished) -> int:
        playlist = Path(file.filename).suffix.lower() in PLAYLISTS
        return playlist + (playlist and file.declared is not None)

    return [[file for file in files if rank(file) == wanted] for wanted in range(3)]


def _put(objects: ObjectStore, file: Finished, *, key: str, on_piece: Callable[[], None]) -> Output:
    on_piece()
    expected = StoredObject(size_bytes=file.path.stat().st_size, sha256=_sha256(file.path, on_piece))
    try:
        arrived = _sent(objects, file, expected, key=key, on_piece=on_piece)
    except ServiceError as error:
        reason = type(error.__cause__ or error).__name__
        log.warning("an output could not be stored", extra={"action": "upload_failed", "reason": reason})
        raise _failed(file, "could not be stored.", **error.details) from error
    if arrived != expected:
        raise _failed(file, "did not arrive whole in the object store.")
    return Output(
        filename=file.filename, key=key, size_bytes=expected.size_bytes, sha256=expected.sha256, media=file.media
    )


def _sha256(path: Path, on_piece: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            on_piece()
    return digest.hexdigest()


def _sent(
    objects: ObjectStore, file: Finished, expected: StoredObject, *, key: str, on_piece: Callable[[], None]
) -> StoredObject | None:
    """What is in the store after the file was sent there."""
    kind = content_type(file.filename)
    try:
        objects.put_file(key, file.path, sha256=expected.sha256, content_type=kind, on_piece=on_piece)
    except ServiceError:
        on_piece()
        if objects.head(key) != expected:
            raise
        return expected  # only the answer was lost
    return objects.head(key)


def _failed(file: Finished, what: str, **details: object) -> TaskFailed:
    about = {"output": file.filename, **details}
    return TaskFailed.of(FailureCode.UPLOAD_FAILED, f"{file.filename} {what}", details=about)
