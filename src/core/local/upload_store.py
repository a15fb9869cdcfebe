"""Uploads in a folder, by links that the service itself takes parts at.

`ID/open` holds the parts that have come, each a file, and drafts of those that are coming. Its renaming to `ID/whole`
is what finishes an upload, and its going is what ends one: no draft becomes a part any more then. The parts are put
together where they are read, so that finishing takes no time. Reading bodies is left to the web layer.
"""

import errno
import hashlib
import hmac
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from core.errors import InternalError, InvalidArgument, NotFound, ServiceUnavailable
from core.local import disk
from core.ports import InputGone, InputTooLarge
from core.upload import Part, Received

_PIECE_BYTES = 16 * 1024**2
_DRAFT = ".draft"
SPARE_BYTES = 1024**3  # of the disk, which uploads leave to the tasks: to the record of them first
NO_LINK = "This link does not work, or no longer: GET the upload for fresh ones."


class FolderUploadStore:
    """The UploadStore of one machine, under `root`; links start with `base_url` and are signed with `secret`.

    No part is taken that would leave less than SPARE_BYTES of the disk free.
    """

    def __init__(
        self,
        root: Path,
        *,
        base_url: str,
        secret: bytes,
        clock: Callable[[], float] = time.time,
        free_bytes: Callable[[Path], int] = disk.free_bytes,
    ) -> None:
        self._root = root
        self._base_url = base_url.rstrip("/")
        self._secret = secret
        self._clock = clock
        self._free_bytes = free_bytes

    def begin(self, upload_id: str) -> str:
        try:
            self._open(upload_id).mkdir(parents=True)
        except OSError as error:
            raise InternalError("The folder for uploads cannot be written to.") from error
        return upload_id

    def link(self, upload_id: str, transfer: str, part: Part, *, expires_in_seconds: int) -> str:
        expires = int(self._clock()) + expires_in_seconds
        signature = self._signature(upload_id, part, expires)
        return f"{self._base_url}/uploads/{expires}-{part.size_bytes}-{signature}/{upload_id}/{part.number}"

    def take(self, token: str, upload_id: str, number: int) -> "Draft":
        """The place for the part that `/uploads/{token}/{upload_id}/{number}` stands for.

        Raises NotFound when the link is forged or expired, or the upload takes no parts any more, and
        ServiceUnavailable when the disk has no room for it.
        """
        expires, size_bytes, signature = _read(token)
        wanted = self._signature(upload_id, Part(number, size_bytes), expires)
        if not hmac.compare_digest(signature.encode(errors="replace"), wanted.encode()) or expires <= self._clock():
            raise NotFound(NO_LINK)
        return Draft(self._open(upload_id), Part(number, size_bytes), free_bytes=self._free_bytes)

    def received(self, upload_id: str, transfer: str) -> Mapping[int, Received] | None:
        try:
            return {int(part.name): Received(part.stat().st_size, "") for part in _parts(self._open(upload_id))}
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InternalError("The upload could not be read.") from error

    def finish(self, upload_id: str, transfer: str, parts: Mapping[int, Received]) -> bool:
        whole = self._whole(upload_id)
        try:
            self._open(upload_id).rename(whole)
            disk.sync(whole.parent)
            for draft in whole.glob(f"*{_DRAFT}"):  # of parts that broke off, or come once more and are not taken
                draft.unlink(missing_ok=True)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise InternalError("The upload could not be finished.") from error
        return True

    def size(self, upload_id: str) -> int | None:
        try:
            return sum(part.stat().st_size for part in _parts(self._whole(upload_id)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InternalError("The upload could not be read.") from error

    def get_file(self, upload_id: str, path: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        try:
            parts = _parts(self._whole(upload_id))
            size = sum(part.stat().st_size for part in parts)
        except FileNotFoundError as error:
            raise InputGone("is not there any more.", retryable=False) from error
        if size > max_bytes:
            raise InputTooLarge
        on_piece()
        path.unlink(missing_ok=True)  # it may be a link to this very part, which writing would destroy
        if len(parts) > 1 or not _linked(parts[0], path):
            _put_together(parts, path, on_piece=on_piece)
        return size

    def delete(self, upload_id: str, transfer: str) -> None:
        gone = self._root / f"{upload_id}.deleted"
        try:
            with suppress(FileNotFoundError):
                (self._root / upload_id).rename(gone)
            with suppress(FileNotFoundError):
                shutil.rmtree(gone)
        except OSError as error:
            raise InternalError("The upload could not be deleted.") from error

    def _open(self, upload_id: str) -> Path:
        return self._root / upload_id / "open"

    def _whole(self, upload_id: str) -> Path:
        return self._root / upload_id / "whole"

    def _signature(self, upload_id: str, part: Part, expires: int) -> str:
        said = f"PUT\n{upload_id}\n{part.number}\n{part.size_bytes}\n{expires}"
        return hmac.new(self._secret, said.encode(), hashlib.sha256).hexdigest()


class Draft:
    """A part on its way to the disk: it is there from `keep` on, and nothing of it before."""

    def __init__(self, folder: Path, part: Part, *, free_bytes: Callable[[Path], int]) -> None:
        self._target = folder / f"{part.number:05}"
        self._path = folder / f"{uuid4().hex}{_DRAFT}"
        self._size_bytes = part.size_bytes
        self._free_bytes = free_bytes
        self._written = 0
        try:
            self._check_room()
            self._file = self._path.open("xb", buffering=0)
        except OSError as error:
            raise _in_words(error) from error

    def announce(self, size_bytes: int) -> None:
        """Raises InvalidArgument when the part has another size."""
        if size_bytes != self._size_bytes:
            message = (
                f"This part has {self._size_bytes} bytes, and {size_bytes} were sent: cut the file as `parts` say."
            )
            raise InvalidArgument(message, details={"field": "body", "size_bytes": self._size_bytes})

    def write(self, piece: bytes | bytearray) -> None:
        """Raises InvalidArgument for more than the part has; NotFound, ServiceUnavailable as `take` does."""
        self._written += len(piece)
        if self._written > self._size_bytes:
            self.announce(self._written)
        try:
            self._check_room()
            if self._file.write(piece) != len(piece):  # a full disk takes what fits
                raise OSError(errno.ENOSPC, "short write")
        except OSError as error:
            raise _in_words(error) from error

    def keep(self) -> None:
        """Make it the part, in the place of an earlier one. Raises InvalidArgument when it is too short, NotFound."""
        self.announce(self._written)
        try:
            os.fsync(self._file.fileno())
            self._path.chmod(0o444)  # a worker may link to it
            self._path.replace(self._target)
            disk.sync(self._target.parent)
        except OSError as error:
            raise _in_words(error) from error

    def close(self) -> None:
        """Leave nothing but what was kept."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _check_room(self) -> None:
        """Raises OSError when there is none for what is still to come."""
        if self._free_bytes(self._target.parent) < self._size_bytes - self._written + SPARE_BYTES:
            raise OSError(errno.ENOSPC, "no room to spare")


def _read(token: str) -> tuple[int, int, str]:
    """When the link expires, the part's size, and the signature. Raises NotFound."""
    expires, _, rest = token.partition("-")
    size_bytes, _, signature = rest.partition("-")
    if not all(text.isascii() and text.isdecimal() and len(text) < 20 for text in (expires, size_bytes)):
        raise NotFound(NO_LINK)
    return int(expires), int(size_bytes), signature


def _parts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix != _DRAFT)


def _linked(part: Path, path: Path) -> bool:
    try:
        os.link(part, path)
    except OSError:  # another file system
        return False
    return True


def _put_together(parts: list[Path], path: Path, *, on_piece: Callable[[], None]) -> None:
    with path.open("wb", buffering=0) as writer:
        for part in parts:
            with part.open("rb", buffering=0) as reader:
                while os.sendfile(writer.fileno(), reader.fileno(), None, _PIECE_BYTES):
                    on_piece()


def _in_words(error: OSError) -> NotFound | ServiceUnavailable | InternalError:
    if isinstance(error, FileNotFoundError):  # the upload is over
        return NotFound(NO_LINK)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ServiceUnavailable("The disk of this service has no room for this part: send it again when there is.")
    return InternalError("The part could not be stored.")
