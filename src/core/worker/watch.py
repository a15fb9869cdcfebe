"""Looks at a running program from outside: what memory and disk it uses, and whether it gets anywhere.

Nothing is decided here. Each look is kept for a moment, because it is asked far more often than it changes.
"""

import contextlib
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MEMORY_SECONDS = 0.2  # a bomb fills a gigabyte in a second
GROUP_SECONDS = 2.0  # costs a look at each process of the machine, and in the sandbox there are no others
FOLDER_SECONDS = 1.0
WORK_SECONDS = 1.0
PAGE = resource.getpagesize()
PROC = Path("/proc")
_GROUP, _RESIDENT = 2, 21  # fields of /proc/PID/stat, counted from the one after the name


@dataclass(slots=True)
class _Kept:
    """A number that is looked up again when it is older than `seconds`."""

    look: Callable[[], int]
    seconds: float
    value: int = 0
    until: float = 0.0

    def __call__(self, now: float) -> int:
        if now >= self.until:
            self.value, self.until = self.look(), now + self.seconds
        return self.value


@dataclass(slots=True)
class Watch:
    """A process group, named by its leader, and the folders that it writes to."""

    leader: int
    folders: Sequence[Path]
    active_at: float  # by the monotonic clock; set anew by whoever sees it advance
    folder_bytes: _Kept = field(init=False)
    _own_memory: _Kept = field(init=False)
    _group_memory: _Kept = field(init=False)
    _work: _Kept = field(init=False)
    _work_so_far: int = -1

    def __post_init__(self) -> None:
        self._own_memory = _Kept(lambda: _resident(PROC / str(self.leader), self.leader), MEMORY_SECONDS)
        self._group_memory = _Kept(lambda: sum(_resident(path, self.leader) for path in _processes()), GROUP_SECONDS)
        self.folder_bytes = _Kept(lambda: sum(map(_size, self.folders)), FOLDER_SECONDS)
        self._work = _Kept(lambda: _worked(self.leader), WORK_SECONDS)

    def memory_bytes(self, now: float) -> int:
        return max(self._own_memory(now), self._group_memory(now))

    def idle_seconds(self, now: float) -> float:
        """Since when it has neither said that it advances, nor read anything: palettegen reads for an hour and says
        nothing, and a long source may be copied to its end before the first line."""
        if (work := self._work(now)) != self._work_so_far:
            self._work_so_far, self.active_at = work, now
        return now - self.active_at


def machine_bytes() -> int:
    """The memory of this machine, or of the container if that has less."""
    known = [os.sysconf("SC_PHYS_PAGES") * PAGE]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            known.append(int(Path(path).read_text()))
    return min(known)


def _processes() -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(PROC) if entry.name.isdecimal()]


def _resident(process: Path, group: int) -> int:
    """What memory it has, if it is of the group; processes come and go while we look."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[_RESIDENT]) * PAGE if int(fields[_GROUP]) == group else 0
    return 0


def _size(folder: Path) -> int:
    """What the folder takes of the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118
    return total


def _worked(process: int) -> int:
    """A number that grows while it gets on: how many bytes it has read, or where the kernel does not let us see that
    (another uid, and no right to trace), how often its threads have waited for each other."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int((PROC / str(process) / "io").read_bytes().split()[1])
    return waits(process)


def waits(process: int) -> int:
    """How often the threads of the process have waited, save the first, which wakes twice a second to report."""
    total = 0
    for thread in (PROC / str(process) / "task").glob("[0-9]*"):
        if thread.name != str(process):
            with contextlib.suppress(OSError, IndexError, ValueError):
                total += int((thread / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return total
