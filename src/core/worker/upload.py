"""From the output folder to the object store: what was written, in which order it goes, and that it arrived whole.

A playlist is stored after the segments that it names, so that nobody ever reads one that points to nothing.
"""

import hashlib
import mimetypes
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from core.ports import ObjectStore, StoredObject
from core.task import FailureCode, Media, Output
from core.worker.failed import Stopped, TaskFailed

PARALLEL = 4
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

    Raises TaskFailed with UPLOAD_FAILED, or Stopped.
    """

    def put(file: Finished) -> Output:
        if stop.is_set():
            raise Stopped
        return _put(objects, file, key=f"{prefix}/{file.filename}")

    stored: list[Output] = []
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload") as pool:
        for group in _in_order(files):
            stored += pool.map(put, group)
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


def _put(objects: ObjectStore, file: Finished, *, key: str) -> Output:
    with file.path.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    expected = StoredObject(size_bytes=file.path.stat().st_size, sha256=sha256)
    try:
        objects.put_file(key, file.path, sha256=sha256, content_type=content_type(file.filename))
        arrived = objects.head(key)
    except Exception as error:
        message = f"{file.filename} could not be stored."
        raise TaskFailed.of(FailureCode.UPLOAD_FAILED, message, details={"output": file.filename}) from error
    if arrived != expected:
        message = f"{file.filename} did not arrive whole in the object store."
        raise TaskFailed.of(FailureCode.UPLOAD_FAILED, message, details={"output": file.filename})
    return Output(
        filename=file.filename, key=key, size_bytes=expected.size_bytes, sha256=expected.sha256, media=file.media
    )
