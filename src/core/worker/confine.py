"""Gives up, in the process itself, what a program that handles media must not have.

Rules are words, `name=value`, because they travel as arguments of a new process; core/worker/sandbox.py writes them.
The launcher (`main`) takes them and becomes the program. It starts as a process of its own, since Python code between
fork and exec in a process with threads may hang. It fails closed: a layer that was asked for and cannot be had means
that nothing is run.
"""

import os
import resource
import signal
from collections.abc import Sequence

from core.worker import kernel, landlock, seccomp

FAULT_EXIT = 125  # what a launcher that runs nothing exits with; the reason goes to the descriptor `fault=`

_RIGHTS = {
    "read": landlock.READ,
    "write": landlock.WRITE,
    "run": landlock.RUN,
    "device": landlock.DEVICE,
}
_LIMITS = {"nofile": resource.RLIMIT_NOFILE, "fsize": resource.RLIMIT_FSIZE}


def main(arguments: Sequence[str]) -> None:
    """`NAME=VALUE... -- PROGRAM ARGUMENT...`"""
    split = list(arguments).index("--")
    rules, command = arguments[:split], list(arguments[split + 1 :])
    fault = int(_all(rules, "fault")[0])
    os.set_inheritable(fault, False)  # so that its end, unwritten, says that the program was started
    try:
        program = os.open(command[0], os.O_PATH | os.O_CLOEXEC)
        apply(rules)
        _become(command, program)
    except Exception as error:
        os.write(fault, f"{type(error).__name__}: {error}\n".encode())
    os._exit(FAULT_EXIT)


def apply(rules: Sequence[str]) -> None:
    """Live by the rules from here on. Raises OSError when a layer cannot be had; then nothing may be run."""
    parent = int(_all(rules, "parent")[0])
    wanted = set(_all(rules, "layer"))
    files = landlock.prepare(_allowed(rules)) if "landlock" in wanted else None
    os.umask(0o022)
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and what is ignored stays so in the program
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    _limit(rules)
    for uid in _all(rules, "uid"):
        become_user(int(uid))
    kernel.die_with(parent, with_signal=signal.SIGKILL)  # after the change of uid, which makes the kernel forget it
    kernel.no_new_privileges()
    if files is not None:
        landlock.enforce(files)
    if "seccomp" in wanted:
        seccomp.enforce(memfd="memfd" in wanted)


def _allowed(rules: Sequence[str]) -> list[tuple[str, int]]:
    return [(path, rights) for name, rights in _RIGHTS.items() for path in _all(rules, name)]


def _limit(rules: Sequence[str]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, which in _LIMITS.items():
        for value in _all(rules, name):
            _, hard = resource.getrlimit(which)
            most = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
            resource.setrlimit(which, (most, most))


def become_user(uid: int) -> None:
    """Have this uid, its group and no other, and no way back. Raises OSError."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (uid, uid, uid) or os.getgroups():
        raise OSError(0, f"still not the user {uid}")


def _become(command: list[str], program: int) -> None:
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is what we want
    except PermissionError:  # the folders above it are closed to our new uid
        os.execv(f"/proc/self/fd/{program}", command)  # noqa: S606


def _all(rules: Sequence[str], name: str) -> list[str]:
    return [rule.partition("=")[2] for rule in rules if rule.startswith(f"{name}=")]
