"""What the stores that keep files ask of the disk below them."""

import os
import shutil
from pathlib import Path


def sync(path: Path) -> None:
    """Return when the file is on the disk, or of a folder the names that are in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free
