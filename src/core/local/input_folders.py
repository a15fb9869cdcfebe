"""Inputs in folders of this machine, below the roots that its operator has opened.

Nothing below a root is reached through a symbolic link, so what is opened is what its path says. A transcode gets a
copy, never the file itself: where a layer of its containment is missing it could write to it. On file systems that
can share blocks the kernel makes the copy without moving a byte.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePath
from typing import NamedTuple

from core import sources, urls
from core.batch import Source
from core.ports import InputTooLarge, InputUnreadable

_PIECE_BYTES = 16 * 1024**2
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe that nobody writes to is not waited for
# The kernel cannot copy between these two by itself.
_NOT_DIRECTLY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


class _Seen(NamedTuple):
    """What tells a file from another one that has its name."""

    device: int
    inode: int
    size: int
    changed: int

    @classmethod
    def of(cls, found: os.stat_result) -> "_Seen":
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class LocalInputFolders:
    """The InputFolders of one machine."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._read: dict[str, _Seen] = {}  # what was copied, by path

    def list(self, folder: str, *, limit: int) -> Sequence[Source]:
        with self._opened_folder(folder) as descriptor:
            try:
                return list(islice(_media(PurePath(folder), descriptor), limit))
            except OSError as error:
                raise _in_words(error) from error

    def get_file(self, path: str, target: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        with self._opened(path) as source:
            before = os.fstat(source)
            if not stat.S_ISREG(before.st_mode):
                raise InputUnreadable("is no regular file.", retryable=False)
            if before.st_size > max_bytes:
                raise InputTooLarge
            with target.open("wb", buffering=0) as copy:
                copied = _copy(source, copy.fileno(), before.st_size, on_piece)
            if copied != before.st_size or _Seen.of(os.fstat(source)) != _Seen.of(before):
                raise InputUnreadable("has changed while it was read.", retryable=True)
        self._read[path] = _Seen.of(before)
        return copied

    def delete(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        seen = self._read.pop(path, None)
        try:
            with self._opened_folder(parent) as folder:
                if _Seen.of(os.stat(name, dir_fd=folder, follow_symlinks=False)) != seen:
                    raise InputUnreadable("is no longer the file that was read.", retryable=False)
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputUnreadable(f"cannot be deleted ({error.strerror}).", retryable=False) from error

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        parent, _, name = path.rpartition("/")
        with self._opened_folder(parent) as folder:
            try:
                descriptor = os.open(name, _FILE, dir_fd=folder)
            except OSError as error:
                raise _in_words(error) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _opened_folder(self, path: str) -> Iterator[int]:
        root = next((root for root in self._roots if PurePath(path).is_relative_to(root)), None)
        if root is None or ".." in PurePath(path).parts or "\0" in path:
            message = "is not in a folder that is open to this service; its operator lists folders in INPUT_ROOTS."
            raise InputUnreadable(message, retryable=False)
        with ExitStack() as stack:
            try:
                descriptor = os.open(root, _FOLDER)  # which may be a link: it is the operator's own word
                stack.callback(os.close, descriptor)
                for part in PurePath(path).relative_to(root).parts:
                    descriptor = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                    stack.callback(os.close, descriptor)
            except OSError as error:
                raise _in_words(error) from error
            yield descriptor


def _media(folder: PurePath, descriptor: int) -> Iterator[Source]:
    """What a folder has itself comes before what its folders have; links are passed over, and what goes meanwhile."""
    for parent, folders, files, found in os.fwalk(".", onerror=_refuse, dir_fd=descriptor):
        folders[:] = [name for name in sorted(folders) if _is(stat.S_ISDIR, name, found)]
        for name in filter(sources.is_media, sorted(files)):
            if about := _is(stat.S_ISREG, name, found):
                yield sources.source(urls.file_url(str(folder / parent / name)), about.st_size)


def _is(kind: Callable[[int], bool], name: str, folder: int) -> os.stat_result | None:
    """The facts of what is of that kind itself; a link to it is not."""
    with suppress(FileNotFoundError):
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return about if kind(about.st_mode) else None
    return None


def _refuse(error: OSError) -> None:
    """One that is gone is none any more; without one that cannot be read, not all would be listed."""
    if not isinstance(error, FileNotFoundError):
        fault = _in_words(error)
        raise InputUnreadable(f"has a folder, {error.filename!r}, that {fault}", retryable=fault.retryable) from error


def _copy(source: int, target: int, size: int, on_piece: Callable[[], None]) -> int:
    copy: Callable[[int, int, int], int] = os.copy_file_range
    copied = 0
    while copied < size:
        on_piece()
        wanted = min(_PIECE_BYTES, size - copied)
        try:
            done = copy(source, target, wanted)
        except OSError as error:
            if error.errno not in _NOT_DIRECTLY or copy is _sent:
                raise
            copy = _sent
            continue
        if done == 0:
            break
        copied += done
    return copied


def _sent(source: int, target: int, count: int) -> int:
    return os.sendfile(target, source, None, count)


def _in_words(error: OSError) -> InputUnreadable:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return InputUnreadable("is not there.", retryable=False)
    if error.errno == errno.ELOOP:
        return InputUnreadable("is a symbolic link, which is not followed.", retryable=False)
    if error.errno in (errno.EACCES, errno.EPERM):
        return InputUnreadable("may not be read by this service.", retryable=False)
    return InputUnreadable("cannot be read at the moment.", retryable=True)
