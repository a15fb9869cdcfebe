"""Sees what a program does outside its folder: files opened or made, sockets, connections.

A folder outside holds bait, open to everybody, and inotify tells of each opening; listeners on loopback count who
comes; a thread looks at the descriptors of whatever runs in the task's folder.
"""

import contextlib
import ctypes
import os
import re
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_ACCESS, _MODIFY, _OPEN, _CREATE, _DELETE = 0x1, 0x2, 0x20, 0x100, 0x200
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)
SECRET = "a-secret-that-nobody-may-see"


class Outside:
    """What must not be touched. `port` is where both a TCP and a UDP listener wait."""

    def __init__(self, folder: Path, tcp: socket.socket, udp: socket.socket) -> None:
        self.folder = folder
        self.port = tcp.getsockname()[1]
        self._tcp, self._udp = tcp, udp
        self._inotify = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        _libc.inotify_add_watch(self._inotify, os.fsencode(folder), _ACCESS | _MODIFY | _OPEN | _CREATE | _DELETE)

    def __enter__(self) -> Self:
        return self

    def touched(self) -> set[str]:
        """What happened since the last call."""
        return self._files() | self._callers()

    def _files(self) -> set[str]:
        with contextlib.suppress(BlockingIOError):
            data, names = os.read(self._inotify, 1 << 20), set()
            while data:
                _, _, _, length = _EVENT.unpack_from(data)
                name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode() or "the folder"
                names.add(f"file: {name}")
                data = data[_EVENT.size + length :]
            return names
        return set()

    def _callers(self) -> set[str]:
        found = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                self._tcp.accept()[0].close()
                found.add("net: a connection")
        with contextlib.suppress(BlockingIOError):
            while self._udp.recv(65536):
                found.add("net: a packet")
        return found

    def close(self) -> None:
        os.close(self._inotify)

    def aimed(self, command: str) -> str:
        """The command with its targets replaced by ours."""
        secret, here = str(self.folder / "secret.txt"), f"127.0.0.1:{self.port}"
        for old, new in (
            (r"\.\./\.\./etc/passwd", os.path.relpath(secret, "/x/y")),
            (r"/etc/(passwd|hostname)", secret),
            (r"(?<=[:= ])(/etc|/media)(?=[ \"':]|$)", str(self.folder)),
            (r"/tmp/ffsvc", f"{self.folder}/ffsvc"),
            (r"(?<![/\w])other\.mp4", str(self.folder / "other.mp4")),
            (r"169\.254\.169\.254|media\.example\.com", here),
            (r"https://", "http://"),
            (r"127\.0\.0\.1(\\*):\d+(?!\?listen)", rf"127.0.0.1\1:{self.port}"),
        ):
            command = re.sub(old, new.replace("\\1", "\\g<1>"), command)
        return command


@contextlib.contextmanager
def outside() -> Iterator[Outside]:
    """Bait and listeners, gone afterwards. Not in pytest's folders: those are closed to another uid."""
    with tempfile.TemporaryDirectory(prefix="outside.") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "secret.txt").write_text(f"{SECRET}\n")
        tcp, udp = _pair(stack)
        folder.chmod(0o777)
        watched = Outside(folder, tcp, udp)
        stack.callback(watched.close)
        yield watched


def _pair(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    tcp = stack.enter_context(socket.socket())
    udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    tcp.bind(("127.0.0.1", 0))
    udp.bind(tcp.getsockname())
    tcp.listen(100)
    tcp.setblocking(False)
    udp.setblocking(False)
    return tcp, udp


@contextlib.contextmanager
def effects_of(folder: Path, outside: Outside) -> Iterator[tuple[set[str], threading.Event]]:
    """What is touched outside while the context lasts, and the sockets in processes whose working directory is
    `folder`; the event is set as soon as there is anything."""
    seen: set[str] = set()
    noticed, over = threading.Event(), threading.Event()

    def look() -> None:
        seen.update(_sockets(folder), outside.touched())
        if seen:
            noticed.set()

    def look_on() -> None:
        while not over.wait(0.02):
            look()

    thread = threading.Thread(target=look_on)
    thread.start()
    try:
        yield seen, noticed
    finally:
        over.set()
        thread.join()
        look()


def _sockets(folder: Path) -> set[str]:
    paths = [path for process in inhabitants(folder) for path in _descriptors(process)]
    return {"net: a socket" for path in paths if path.startswith("socket:")}


def inhabitants(folder: Path) -> list[int]:
    """The processes whose working directory is `folder`."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if Path(entry.path, "cwd").readlink() == folder:
                    found.append(int(entry.name))
    return found


def _descriptors(process: int) -> list[str]:
    with contextlib.suppress(OSError):
        # Between fork and exec a process still has the descriptors of ours.
        if not Path(f"/proc/{process}/exe").readlink().name.startswith("python"):
            return [str(path.readlink()) for path in Path(f"/proc/{process}/fd").iterdir()]
    return []
