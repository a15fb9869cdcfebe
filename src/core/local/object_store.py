"""Outputs in a folder, with links that the service itself answers.

`files/` holds the bytes under their keys, `about/` says of each key which file it is, its checksum and its type.
Writing the second, by a rename, is what publishes an object. Serving the bytes is left to the web layer, which asks
`open_link` what a link stands for.
"""

import hashlib
import hmac
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from core.errors import InternalError, InvalidArgument
from core.local import disk
from core.ports import StoredObject

_SECRET_BYTES = 32
_PIECE_BYTES = 1024**2
_LEAST_FREE_BYTES = 64 * 1024**2  # below, next to nothing could be stored


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """What a valid link stands for."""

    path: Path
    content_type: str
    sha256: str


def room(free_bytes: int) -> str:
    """What health says of a folder with so much room. Raises InternalError where it is as good as full."""
    if free_bytes < _LEAST_FREE_BYTES:
        raise InternalError(f"The disk is full: {free_bytes / 1e6:.1f} MB are free.")
    return f"a folder with {free_bytes / 1e9:.1f} GB free"


class FolderObjectStore:
    """The ObjectStore of one machine, under `root`; links start with `base_url` and are signed with `secret`."""

    def __init__(self, root: Path, *, base_url: str, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._files = root / "files"
        self._about = root / "about"
        self._base_url = base_url.rstrip("/")
        self._secret = secret
        self._clock = clock

    def put_file(
        self, key: str, path: Path, *, sha256: str, content_type: str, on_piece: Callable[[], None] = lambda: None
    ) -> None:
        """Publish the file without copying it where the file system allows: it must not be written to any more."""
        folder, name = _split(key)
        on_piece()
        try:
            before = self._find(key)
            # The name of what is replaced is not used again: somebody may just have read that it stands for that.
            placed = _place(path, self._files / folder, uuid4().hex if before else name, on_piece=on_piece)
            with _undone_by_errors(placed):
                note = {"file": placed.name, "sha256": sha256, "content_type": content_type}
                _write_note(self._about / folder / name, note)
            if before:
                before.path.unlink(missing_ok=True)
        except OSError as error:
            raise InternalError("The output could not be stored.") from error

    def head(self, key: str) -> StoredObject | None:
        found = self._find(key)
        if found is None:
            return None
        try:
            return StoredObject(size_bytes=found.path.stat().st_size, sha256=found.sha256)
        except FileNotFoundError:
            return None

    def read(self, key: str, *, most_bytes: int) -> bytes | None:
        found = self._find(key)
        if found is None:
            return None
        try:
            with found.path.open("rb") as file:
                return file.read(most_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InternalError("The object could not be read.") from error

    def link(self, key: str, *, expires_in_seconds: int) -> str:
        """The signature stands for all that is below the key's folder: a playlist's relative names work with it too."""
        folder, _ = _split(key)
        expires = int(self._clock()) + expires_in_seconds
        return f"{self._base_url}/files/{expires}-{self._signature(folder, expires)}/{quote(key)}"

    def open_link(self, token: str, key: str) -> FoundFile | None:
        """What `/files/{token}/{key}` (unquoted) stands for; None when it is forged, expired or of nothing."""
        expires, _, signature = token.partition("-")
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 20) or int(expires) <= self._clock():
            return None
        try:
            folder, _ = _split(key)
        except InvalidArgument:
            return None
        given = signature.encode(errors="replace")
        signed = (self._signature(above, int(expires)).encode() for above in _upwards(folder))
        return self._find(key) if any(hmac.compare_digest(given, wanted) for wanted in signed) else None

    def uri(self, key: str) -> str | None:
        return None

    def delete(self, folder: str, *, keep: str | None = None) -> int:
        """A put into the folder at the same time is seen by it, fails, or comes after it."""
        for path in (folder, keep or folder):
            _split(path)
        try:
            published = self._published(folder, keep=keep)
            # First what shows the objects, so that none is there in part.
            for tree in (self._about, self._files):
                _clear(tree / folder, keep=tree / keep if keep else None)
        except OSError as error:
            raise InternalError("The outputs could not be deleted.") from error
        return len(published)

    def folders(self, folder: str) -> Sequence[str]:
        """The names of the folders in it, also where nothing in them was published."""
        trees = (self._about / folder, self._files / folder)
        return sorted({path.name for tree in trees if tree.is_dir() for path in tree.iterdir()})

    def check(self) -> str:
        try:
            for folder in (self._files, self._about):
                folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._files).free
        except OSError as error:
            raise InternalError("The folder for outputs cannot be used.") from error
        if not os.access(self._files, os.W_OK) or not os.access(self._about, os.W_OK):
            raise InternalError("The folder for outputs cannot be written to.")
        return room(free)

    def _find(self, key: str) -> FoundFile | None:
        folder, name = _split(key)
        try:
            note = json.loads((self._about / folder / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):  # ValueError: a draft's
            return None
        path = self._files / folder / note["file"]
        if not path.exists():
            return None
        return FoundFile(path=path, content_type=note["content_type"], sha256=note["sha256"])

    def _published(self, folder: str, *, keep: str | None) -> set[Path]:
        walk = _walk(self._about / folder, keep=self._about / keep if keep else None)
        notes = (parent / name for parent, names in walk for name in names)
        found = (self._find(note.relative_to(self._about).as_posix()) for note in notes)
        return {file.path for file in found if file}

    def _signature(self, folder: str, expires: int) -> str:
        return hmac.new(self._secret, f"{expires}\n{folder}".encode(), hashlib.sha256).hexdigest()


def load_secret(path: Path) -> bytes:
    """A key to sign with; made once, readable by its owner only, and the same for all who ask."""
    try:
        if not path.exists():
            _make_secret(path)
        return path.read_bytes()
    except OSError as error:
        raise InternalError("A key for signing, in the data folder, cannot be read.") from error


def _make_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        _write_synced(draft, os.urandom(_SECRET_BYTES), mode=0o600)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _split(key: str) -> tuple[str, str]:
    """A key's folder and name, for keys that stay below the root. Raises InvalidArgument."""
    parts = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise InvalidArgument("The object key is not valid.", details={"field": "key"})
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument("The object key is not valid.", details={"field": "key"}) from error
    return "/".join(parts[:-1]), parts[-1]


def _upwards(folder: str) -> list[str]:
    """The folder and those that it is in, the root excepted: `a/b` and `a`."""
    parts = folder.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _place(source: Path, folder: Path, name: str, *, on_piece: Callable[[], None]) -> Path:
    """The bytes of `source` under `name` in `folder`, or under another name where that one is taken; on the disk."""
    if not stat.S_ISREG(source.lstat().st_mode):
        raise OSError("only a regular file can be stored")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    try:
        _link_or_copy(source, target, on_piece=on_piece)
    except FileExistsError:
        target = folder / uuid4().hex
        _link_or_copy(source, target, on_piece=on_piece)
    with _undone_by_errors(target):
        disk.sync(target)
        disk.sync(folder)
    return target


def _link_or_copy(source: Path, target: Path, *, on_piece: Callable[[], None]) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or another owner
        _copy(source, target, on_piece=on_piece)
        return
    # From here on the bytes are the store's: nobody is to open them for writing under their old name.
    with suppress(PermissionError):
        target.chmod(stat.S_IMODE(target.stat().st_mode) & ~0o222)


def _copy(source: Path, target: Path, *, on_piece: Callable[[], None]) -> None:
    with source.open("rb") as reader, target.open("xb") as writer, _undone_by_errors(target):
        while piece := reader.read(_PIECE_BYTES):
            writer.write(piece)
            on_piece()
        writer.flush()


@contextmanager
def _undone_by_errors(made: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def _walk(folder: Path, *, keep: Path | None) -> Iterator[tuple[Path, list[str]]]:
    """Each folder from here on down, save `keep`, with the names of its files; others may be at it meanwhile."""

    def on_error(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if Path(parent, name) != keep]
        yield Path(parent), names


def _clear(folder: Path, *, keep: Path | None) -> None:
    emptied = []
    for parent, names in _walk(folder, keep=keep):
        for name in names:
            (parent / name).unlink(missing_ok=True)
        emptied.append(parent)
    for parent in reversed(emptied):
        with suppress(OSError):  # somebody has just put something there, or it holds what is kept
            parent.rmdir()


def _write_note(path: Path, note: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(uuid4().hex)
    try:
        _write_synced(draft, json.dumps(note).encode(), mode=0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    disk.sync(path.parent)


def _write_synced(path: Path, content: bytes, *, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
