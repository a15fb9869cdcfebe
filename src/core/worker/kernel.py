"""What Python's library has no words for: prctl and raw system calls, by ctypes.

Nothing is decided here. Every function raises OSError with the kernel's reason.
"""

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(number: int, *arguments: object) -> int:
    """Call the kernel. Plain numbers are passed as 64 bits: flags and sizes, never a negative descriptor."""
    wide = (ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments)
    return _checked(_libc.syscall(ctypes.c_long(number), *wide), f"system call {number}")


def prctl(option: int, value: int, pointer: object = None) -> int:
    """Call prctl(2) with one number and, where it takes one, a pointer."""
    none = ctypes.c_ulong(0)
    third = none if pointer is None else pointer
    return _checked(_libc.prctl(option, ctypes.c_ulong(value), third, none, none), f"prctl {option}")


def no_new_privileges() -> None:
    """From here on no program that we become can have more rights than we have; Landlock and seccomp ask for it."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with(parent: int, *, with_signal: int) -> None:
    """Have the kernel send us `with_signal` when the thread of `parent` that started us is gone.

    A change of uid makes the kernel forget it (prctl(2)): ask again after one.
    """
    prctl(_PR_SET_PDEATHSIG, with_signal)
    if os.getppid() != parent:  # it was gone before we asked
        os.kill(os.getpid(), with_signal)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
