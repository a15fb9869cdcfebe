"""What the kernel tells of processes, which come and go while we look: of one that is gone, nothing."""

import contextlib
from pathlib import Path


def read(pid: int, name: str) -> str:
    """`name` is that of a file in the folder of the process, such as `comm`."""
    return _text(Path(f"/proc/{pid}/{name}"))


def children(pid: int) -> set[int]:
    """Those that any of its threads has started."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for listed in threads for child in _text(listed).split()}


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
