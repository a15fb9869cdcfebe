"""Which rules a program that handles media lives under, and which layers of them this machine has.

confine.py, in the new process, applies what is written here; canary.py proves at start that it holds. The layers:
Landlock (files), seccomp (sockets, other processes, privileges), another uid where we may change ours, and always
no_new_privs, resource limits, an exact environment, and death with the worker.
"""

import os
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

UID = 65534  # "nobody": mapped in nearly every user namespace, and owner of nothing
OPEN_FILES = 1024
_SOURCES = str(Path(__file__).parents[2])
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from core.worker import {0}; {0}.main(sys.argv[1:])"
# With all of these root is root; without one of them another uid would lock us out of our own task.
_CAPABILITIES = sum(1 << bit for bit in (0, 1, 3, 5, 6, 7))  # CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/ld.so.preload")
_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1")
_DATA = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/usr/share/fontconfig",
    "/etc/fonts",
    "/var/cache/fontconfig",
    "/usr/share/locale",
    "/usr/share/zoneinfo",  # drawtext shows the time of day
    "/etc/localtime",
)
_MACHINE = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/sys/devices/system/node", "/dev/urandom")
_GPU_FACTS = ("/proc/driver/nvidia", "/proc/devices", "/proc/modules", "/sys/bus/pci/devices", "/sys/devices")
_GPU_NODES = "nvidia*"


_GOT_THROUGH = {
    "canary": "the canary cannot read its own file",
    "read": "a file outside can be read",
    "write": "a file outside can be written",
    "internet": "a socket can be opened",
    "unix": "a UNIX socket can be opened",
    "environ": "the worker's environment can be read",
    "signal": "the worker can be signalled",
    "fork": "other processes can be started",
    "io_uring": "io_uring can be used",
}


class NoSandbox(Exception):
    """The containment that is asked for cannot be had; the message says what is missing and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What holds on this machine, as the canary found it."""

    landlock: int = 0  # its ABI
    seccomp: bool = False
    uid: int = 0  # of the children; 0 for the worker's own
    escaped: tuple[str, ...] = ()  # which tries got through

    @classmethod
    def read(cls, answer: str | None) -> "Layers":
        """From the canary's answer; nothing holds where there is none."""
        said = dict(pair.split("=", 1) for pair in (answer or "escaped=canary").split())
        return cls(
            landlock=int(said.get("landlock", 0)),
            seccomp=said.get("seccomp") == "1",
            uid=int(said.get("uid", 0)),
            escaped=tuple(filter(None, said.get("escaped", "").split(","))),
        )

    def spelled(self) -> str:
        """As the canary answers: for a worker that need not ask again."""
        escaped = ",".join(self.escaped)
        return f"landlock={self.landlock} seccomp={int(self.seccomp)} uid={self.uid} escaped={escaped}"

    @property
    def complete(self) -> bool:
        return bool(self.landlock and self.seccomp) and not self.escaped

    def __str__(self) -> str:
        return ", ".join(
            (
                f"landlock {self.landlock}" if self.landlock else "no landlock",
                "seccomp" if self.seccomp else "no seccomp",
                f"uid {self.uid}" if self.uid else "the worker's uid",
                *(_GOT_THROUGH.get(name, name) for name in self.escaped),
            )
        )


def admitted(layers: Layers, mode: str) -> str:
    """What to say of the containment where `mode` (strict, degraded, or auto) is content with it; else NoSandbox.

    auto is strict where the kernel has Landlock, and degraded where it has not.
    """
    if layers.complete:
        return f"strict: {layers}"
    if mode == "strict" or (mode == "auto" and layers.landlock):
        raise NoSandbox(
            f"the containment of ffmpeg does not hold here ({layers}); run it on a kernel with Landlock and seccomp, "
            "or set SANDBOX=degraded to work with what there is."
        )
    return f"degraded: {layers}"


@dataclass(frozen=True, slots=True)
class Folder:
    """A task's own place on disk: what it reads, what it writes, and what nobody keeps."""

    root: Path

    @property
    def inputs(self) -> Path:
        return self.root / "in"

    @property
    def outputs(self) -> Path:
        return self.root / "out"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"


def possible_uid() -> int:
    """The uid that our children can have instead of ours; 0 if we may not choose."""
    if os.geteuid() != 0:
        return 0
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return UID if effective & _CAPABILITIES == _CAPABILITIES else 0


def make(folder: Folder, layers: Layers) -> Path:
    """Make the folder such that a program under `layers` can read what comes in, and write where it may."""
    folder.root.mkdir(parents=True, mode=0o700)
    for path in (folder.inputs, folder.outputs, folder.temporary):
        path.mkdir(mode=0o700)
    if layers.uid:
        # Whoever is not in its group does not get in; in it is nobody but that uid.
        for path in (folder.root, folder.inputs):
            os.chown(path, -1, layers.uid)
            path.chmod(0o750)
        for path in (folder.outputs, folder.temporary):
            os.chown(path, layers.uid, layers.uid)
    return folder.root


def show(path: Path, layers: Layers) -> None:
    """Let a program under `layers` read what came in, whatever umask we have; its folder lets nobody else in."""
    mode = path.stat().st_mode
    if layers.uid and not mode & stat.S_IROTH:
        path.chmod(stat.S_IMODE(mode) | stat.S_IROTH)


def clear(folder: Folder) -> None:
    """Remove what a program has written, so that another one can begin anew."""
    for parent in (folder.outputs, folder.temporary):
        for path in parent.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def for_ffmpeg(layers: Layers, program: str, folder: Folder, *, max_file_bytes: int) -> list[str]:
    """The rules of a transcode: its program, the system's libraries and fonts, and its own folders."""
    gpu = [str(node) for node in sorted(Path("/dev").glob(_GPU_NODES))]
    beside = Path(program).resolve().parent.with_name("lib")
    own_libraries = [beside] if Path(program).parent.name == "bin" and beside.is_dir() else []
    return [
        *_common(layers),
        *(f"read={path}" for path in (*_LIBRARIES, *own_libraries, *_DATA, *_MACHINE)),
        *(f"read={path}" for path in _GPU_FACTS if gpu),
        *(f"run={path}" for path in (program, *_LOADERS)),
        *(f"device={node}" for node in ("/dev/null", *gpu)),
        *(["layer=memfd"] if gpu else []),
        f"read={folder.inputs}",
        f"write={folder.outputs}",
        f"write={folder.temporary}",
        f"fsize={max_file_bytes}",
    ]


def for_prober(layers: Layers, folder: Folder) -> list[str]:
    """The rules of the prober, which has loaded all that it needs when it takes them on itself."""
    return [*_common(layers), f"read={folder.inputs}", f"read={folder.outputs}", "fsize=0"]


def _common(layers: Layers) -> list[str]:
    return [
        *(["layer=landlock"] if layers.landlock else []),
        *(["layer=seccomp"] if layers.seccomp else []),
        *([f"uid={layers.uid}"] if layers.uid else []),
        f"nofile={OPEN_FILES}",
        f"parent={os.getpid()}",
    ]


def alone() -> list[str]:
    """The rules of a program of ours that takes on the others by itself: it dies with us."""
    return [f"parent={os.getpid()}"]


def wrapped(argv: Sequence[str], rules: Sequence[str], *, fault: int) -> list[str]:
    """The command that starts `argv` under the rules; what prevents it is written to the descriptor `fault`."""
    return [*_python("confine"), *rules, f"fault={fault}", "--", *argv]


def canary(marker: Path) -> list[str]:
    """The command of the canary, which tries to reach `marker` and what else lies outside."""
    return [*_python("canary"), str(marker), str(os.getpid()), str(possible_uid())]


def _python(module: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _START.format(module), _SOURCES]


def environment(*, home: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The exact environment of the program: nothing of ours, so no secret of ours, gets in."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": home, "TMPDIR": home, **(extra or {})}
