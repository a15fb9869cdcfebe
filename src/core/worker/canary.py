"""Proves at start that the containment holds: takes it on itself, tries to break out, and tells what got through.

A process of its own (`main`) that answers the first line that it is sent; core/worker/sandbox.py reads the answer.
Each try is one that succeeds where its layer is missing: what cannot be done anyhow proves nothing.
"""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from core.worker import confine, kernel, landlock, seccomp

_IO_URING_SETUP = 425


def main(arguments: Sequence[str]) -> None:
    """`MARKER PARENT UID`, with 0 for a uid that is to stay as it is."""
    marker, parent, uid = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    os.chdir(marker.parent)  # the folders above it may be closed to another uid, as they are for a task
    marker = Path(marker.name)
    kernel.no_new_privileges()
    uid = uid if uid and _works(lambda: confine.become_user(uid)) else 0
    blind = [] if _works(marker.read_bytes) else ["canary"]
    layers = {"landlock": landlock.abi(), "seccomp": int(seccomp.available())}
    confine.apply([f"parent={parent}", *(f"layer={name}" for name, there in layers.items() if there)])
    escaped = blind + [name for name, attempt in _attempts(marker, parent) if _works(attempt)]
    answer = "".join(f"{name}={value} " for name, value in {**layers, "uid": uid}.items())
    sys.stdin.readline()
    sys.stdout.write(f"{answer}escaped={','.join(escaped)}\n")


def _attempts(marker: Path, parent: int) -> list[tuple[str, Callable[[], object]]]:
    return [
        ("read", marker.read_bytes),
        ("write", lambda: marker.with_name("written").write_bytes(b"")),
        ("internet", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        ("unix", lambda: socket.socket(socket.AF_UNIX)),
        ("environ", Path(f"/proc/{parent}/environ").read_bytes),
        ("signal", lambda: os.kill(parent, 0)),
        ("fork", _fork),
        ("io_uring", lambda: kernel.syscall(_IO_URING_SETUP, 1, bytes(120))),
    ]


def _fork() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True
