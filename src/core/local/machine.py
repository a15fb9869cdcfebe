"""What this machine is busy with, by its own account."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil

from core.load import Disk, Machine, Pool


def look(folders: Mapping[str, Path], pool: Pool) -> Machine:
    """`folders` are those whose disks are asked for their space, by what is kept in them."""
    memory = psutil.virtual_memory()
    return Machine(
        cores=os.cpu_count() or 1,
        load_average=round(os.getloadavg()[0], 2),
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        disks={name: _disk(folder) for name, folder in folders.items()},
        pool=pool,
    )


def _disk(folder: Path) -> Disk:
    """Of the folder, or of the nearest one above it: it is made when it is first needed."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    usage = shutil.disk_usage(there)
    return Disk(total_bytes=usage.total, free_bytes=usage.free)
