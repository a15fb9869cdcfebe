"""The folders that workers have on the disk while they live, and the clearing away of what killed ones have left.

Whoever makes a folder holds a lock on it, which the kernel releases with the process, however that ends; children do
not inherit it. So what nobody holds, nobody needs. All processes that share the disk may do this at once. Where the
file system has no locks, nothing is cleared away.
"""

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

log = logging.getLogger(__name__)

# A task's, with its fence, and the canary's: SCRATCH_DIR may be a place where others have theirs too.
_OURS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9]+|canary\..+")
_AT_ONCE = 64  # each is an open file until all are gone


@contextmanager
def held(place: Path, make: Callable[[], Path]) -> Iterator[Path]:
    """The folder that `make` makes in `place`; afterwards it is gone."""
    with ExitStack() as stack:
        with _alone(place):
            folder = make()
            _lock(stack.enter_context(_opened(folder)))
        # Before the lock is released, that nobody else begins with it too.
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def clear(place: Path) -> int:
    """Remove the folders in `place` that nobody holds any more, some at a time; returns how many have gone."""
    with ExitStack() as stack:
        with _alone(place):
            ours = (path for path in place.iterdir() if _OURS.fullmatch(path.name))
            left = list(islice((path for path in ours if _is_taken(path, stack)), _AT_ONCE))
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
    gone = [path.name for path in left if not path.exists()]
    if left:
        log.warning("left behind by killed workers", extra={"action": "scratch_cleared", "folders": gone})
    return len(gone)


def _is_taken(folder: Path, stack: ExitStack) -> bool:
    """Whether nobody held it, and now `stack` does."""
    try:
        return _lock(stack.enter_context(_opened(folder)), wait=False)
    except OSError:  # no folder, or gone by now
        return False


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """No folder is made, or taken to be cleared away, in `place` meanwhile: between its making and its locking, a
    folder looks like one that was left."""
    place.mkdir(parents=True, exist_ok=True)
    with _opened(place) as descriptor:
        _lock(descriptor)
        yield


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool = True) -> bool:
    """Hold it until it is closed; False where somebody else does, or there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
