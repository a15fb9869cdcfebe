"""Landlock: the files that a process may touch, by name, and nothing else.

Rules only ever take away, last for the life of the process, and are inherited. What a kernel cannot do yet is left
out: `abi` says how much it can. Numbers and layouts are those of linux/landlock.h.
"""

import ctypes
import os
import stat
from collections.abc import Iterable

from core.worker import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # the flag of create_ruleset that asks for the ABI
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_CHAR, MAKE_DIR, MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (1 << bit for bit in range(6, 13))
_REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = READ_FILE | READ_DIR
# No link, device, socket or pipe is ever made by a program that transcodes.
WRITE = READ | WRITE_FILE | TRUNCATE | REMOVE_FILE | REMOVE_DIR | MAKE_REG | MAKE_DIR
RUN = READ_FILE | EXECUTE
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV

_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # the others are about folders
_FILES_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP = 0b11  # bind and connect, since ABI 4
_SCOPES = 0b11  # abstract UNIX sockets and signals stay inside, since ABI 6


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def abi() -> int:
    """The version of the kernel's Landlock; 0 when it has none or it is switched off."""
    try:
        return kernel.syscall(_CREATE_RULESET, ctypes.c_void_p(None), 0, _VERSION)
    except OSError:
        return 0


def prepare(allowed: Iterable[tuple[str, int]]) -> int:
    """A descriptor of rules that allow each path, and what is below it, its rights. A path that is not there is left
    out. To be called while we may still reach them all."""
    version = abi()
    if not version:
        raise OSError(0, "this kernel has no Landlock")
    files = _FILES_BY_ABI[max(known for known in _FILES_BY_ABI if known <= version)]
    ruleset = _Ruleset(files, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = kernel.syscall(_CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    for path, rights in allowed:
        _allow(rules, path, rights & files)
    return rules


def enforce(rules: int) -> None:
    """Hold this thread, and what it starts or becomes, to the rules. Needs no_new_privs."""
    kernel.syscall(_RESTRICT_SELF, rules, 0)
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        beneath = _PathBeneath(rights, descriptor)
        kernel.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(descriptor)
