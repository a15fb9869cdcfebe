"""What tasks leave on a machine: processes, temporary folders, objects. After a task that is over, there is none."""

import os
import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc")
LOGS = "outputs/logs/"


def processes(folder: Path) -> dict[int, str]:
    """The living processes that have `folder` in their environment, their command or as their place, by id."""
    own = {os.getpid(), os.getppid()}
    found = {int(path.name): _seen(path, f"{folder}/") for path in PROC.iterdir() if path.name.isdigit()}
    return {pid: command for pid, command in found.items() if command and pid not in own}


def _seen(process: Path, folder: str) -> str:
    """The command of the process; empty where it has ended, or has nothing to do with the folder."""
    try:
        command = process.joinpath("cmdline").read_bytes()
        traces = (
            os.fsencode(process.joinpath("cwd").readlink()) + b"/",
            command,
            process.joinpath("environ").read_bytes(),
        )
    except OSError:
        return ""
    return (
        command.decode(errors="replace").replace("\0", " ") if any(folder.encode() in text for text in traces) else ""
    )


def scratch(folder: Path) -> list[str]:
    """The temporary folders of tasks."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def objects(data_dir: Path) -> list[str]:
    """The keys of what lies in the local object store, published or not, save the logs."""
    return [key for key in _keys(data_dir) if not key.startswith(LOGS)]


def logs(data_dir: Path) -> list[str]:
    return [key for key in _keys(data_dir) if key.startswith(LOGS)]


def _keys(data_dir: Path) -> list[str]:
    files = data_dir / "objects" / "files"
    # os.walk passes over folders that go meanwhile.
    found = (Path(folder, name) for folder, _, names in os.walk(files) for name in names)
    return sorted(path.relative_to(files).as_posix() for path in found)


def seconds_until(condition: Callable[[], object], *, most: float) -> float:
    """How long it took until `condition` held; fails after `most` seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < most, f"not within {most} s"
        time.sleep(0.01)
    return time.monotonic() - began
