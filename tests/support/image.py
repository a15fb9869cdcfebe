"""An image that buildah built, run by runc as a careful host runs it: AWS Batch's agent and Docker use runc, too.

Process 1 of its own process namespace; the image's user, environment and command, unless the job says otherwise; the
root read-only; no capability and no way to one; the default list of system calls that containers get; bounded memory
and processes; one writable folder, from which nothing can be run. The network is this machine's, so that a server on
loopback can play AWS.
"""

import json
import os
import platform
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORK = "/work"
MEMORY_BYTES = 2 * 1024**3
PROCESSES = 256
# Of the package that buildah needs; it follows the one of Docker.
SECCOMP = Path("/usr/share/containers/seccomp.json")
_DRIVER = ["--storage-driver", os.environ["STORAGE_DRIVER"]] if "STORAGE_DRIVER" in os.environ else []
_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
_STRICT = ["nosuid", "noexec", "nodev"]


@dataclass(frozen=True, slots=True)
class Image:
    """`root` is where its files are seen from here, `config` what it says of user, environment and command."""

    root: Path
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Container:
    """A started container. `process` is runc, which passes signals on and ends as process 1 in it does."""

    process: "subprocess.Popen[bytes]"
    log: Path
    name: str

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def said(self) -> str:
        return self.log.read_text()

    def processes(self) -> dict[int, str]:
        """The state of process 1 and of all below it, zombies too, by their ids out here."""
        said = subprocess.run(["runc", "state", self.name], capture_output=True, check=True).stdout
        parents = dict(_stats())
        found: dict[int, str] = {}
        new = {int(json.loads(said)["pid"])}
        while new:
            found |= {pid: parents[pid][0] for pid in new if pid in parents}
            new = {pid for pid, (_, parent) in parents.items() if parent in new}
        return found


def _stats() -> Iterator[tuple[int, tuple[str, int]]]:
    """The id of each process of this machine, with its state and its parent."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            yield int(path.parent.name), (state, int(parent))


@contextmanager
def opened(name: str) -> Iterator[Image]:
    """The image of that name, with its files to be seen."""
    container = _buildah("from", name)
    try:
        root = Path(_buildah("mount", container))
        config = json.loads(_buildah("inspect", "--type", "image", name))["OCIv1"]["config"]
        yield Image(root, config)
    finally:
        _buildah("rm", container)


def _buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *_DRIVER, *arguments], capture_output=True, check=True, text=True).stdout.strip()


@contextmanager
def started(
    image: Image, folder: Path, *, env: Mapping[str, str], command: Sequence[str] | None = None
) -> Iterator[Container]:
    """The image at work on `folder`/work; whatever is left of it is killed at the end."""
    work = folder / "work"
    if not work.exists():
        work.mkdir()
        os.chown(work, *_user(image))
    name, log = f"test-{uuid.uuid4()}", folder / "container.log"
    (folder / "config.json").write_text(json.dumps(_bundle(image, work, env, command or image.config["Cmd"])))
    with log.open("ab") as written:
        process = subprocess.Popen(
            ["runc", "run", "--bundle", str(folder), name], stdin=subprocess.DEVNULL, stdout=written, stderr=written
        )
    try:
        yield Container(process, log, name)
    finally:
        subprocess.run(["runc", "delete", "--force", name], capture_output=True, check=False)
        process.wait(20)


def _user(image: Image) -> tuple[int, int]:
    uid, gid = image.config["User"].split(":")
    return int(uid), int(gid)


def _bundle(image: Image, work: Path, env: Mapping[str, str], command: Sequence[str]) -> dict[str, Any]:
    """The container as the OCI runtime specification has it."""
    uid, gid = _user(image)
    environment = dict(pair.split("=", 1) for pair in image.config["Env"]) | dict(env)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": list(command),
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": image.config["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": str(image.root), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": _STRICT},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", *_STRICT]},
            {"destination": WORK, "type": "bind", "source": str(work), "options": ["rbind", "rw", *_STRICT]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            "resources": {"memory": {"limit": MEMORY_BYTES}, "pids": {"limit": PROCESSES}},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": _seccomp(),
        },
    }


def _seccomp() -> dict[str, Any]:
    """The default list for a container without capabilities, in the words of the runtime specification."""
    profile = json.loads(SECCOMP.read_text())
    machine = next(each for each in profile["archMap"] if each["architecture"].endswith(platform.machine().upper()))
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": [machine["architecture"], *machine["subArchitectures"]],
        "syscalls": [
            {"names": rule["names"], "action": rule["action"], "args": rule["args"] or []}
            | ({"errnoRet": rule["errnoRet"]} if "errnoRet" in rule else {})
            for rule in profile["syscalls"]
            if _holds(rule)
        ],
    }


def _holds(rule: Mapping[str, Any]) -> bool:
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    if includes.get("caps"):
        return False
    if _ARCHITECTURE in excludes.get("arches", []):
        return False
    return _ARCHITECTURE in includes.get("arches", [_ARCHITECTURE])
