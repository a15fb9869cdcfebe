"""Starts a program that handles media, tied to the worker that asked for it.

Run as a script (`python -I -S sandbox.py PARENT PROGRAM ARGUMENT...`), in the new process, between fork and exec: it
gives up what the program must not have and becomes the program. A script, because Python code between fork and exec
in a process with threads may hang.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38


def wrapped(argv: Sequence[str]) -> list[str]:
    """The command that starts `argv` under the rules of this module, as a child of the calling process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]


def environment(*, home: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The exact environment of the program: nothing of ours, so no secret of ours, gets in."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": home, "TMPDIR": home, **(extra or {})}


def die_with(parent: int, *, with_signal: int) -> None:
    """Have the kernel send us `with_signal` when the thread of `parent` that started us is gone."""
    _prctl(PR_SET_PDEATHSIG, with_signal)
    if os.getppid() != parent:  # it was gone before we asked
        os.kill(os.getpid(), with_signal)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _main(parent: str, program: str, *arguments: str) -> None:
    die_with(int(parent), with_signal=signal.SIGKILL)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.execv(program, [program, *arguments])  # noqa: S606 - no shell is what we want


if __name__ == "__main__":
    _main(*sys.argv[1:])
