"""seccomp: system calls that a program which transcodes has no use for are refused, with an error and not a kill.

So ffmpeg ends with a message that can be read. A list of what is denied, not of what is allowed: libraries and GPU
drivers differ too much for the other. Files are Landlock's affair; here are sockets, other processes, privileges, and
those changes to files that Landlock does not see (owner, mode, attributes).
"""

import ctypes
import errno
import os
from collections.abc import Iterator

from core.worker import kernel

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUALS, _AT_LEAST, _HAS_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_X32 = 0x40000000  # the bit of x86's second way to number system calls
_ARCHS = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_CLONE_THREAD = 0x10000
_PR_SET_PDEATHSIG, _PR_SET_PTRACER = 1, 0x59616D61

# name, then its number on x86_64 and on aarch64 (asm/unistd_64.h, asm-generic/unistd.h); - where it does not exist
_NUMBERS = """
socket 41 198        socketpair 53 199      connect 42 203        bind 49 200           listen 50 201
accept 43 202        accept4 288 242
io_uring_setup 425 425                      io_uring_enter 426 426                      io_uring_register 427 427

ptrace 101 117       process_vm_readv 310 270                     process_vm_writev 311 271
process_madvise 440 440                     kcmp 312 272          pidfd_open 434 434    pidfd_getfd 438 438
pidfd_send_signal 424 424                   kill 62 129           tkill 200 130         rt_sigqueueinfo 129 138
rt_tgsigqueueinfo 297 240                   setsid 112 157        setpgid 109 154
fork 57 -            vfork 58 -             execveat 322 281      personality 135 92

mount 165 40         umount2 166 39         pivot_root 155 41     chroot 161 51         move_mount 429 429
open_tree 428 428    fsopen 430 430         fsconfig 431 431      fsmount 432 432       fspick 433 433
mount_setattr 442 442                       unshare 272 97        setns 308 268         quotactl 179 60
acct 163 89          swapon 167 224         swapoff 168 225       reboot 169 142        syslog 103 116
fanotify_init 300 262                       name_to_handle_at 303 264                   open_by_handle_at 304 265

bpf 321 280          perf_event_open 298 241                      userfaultfd 323 282   keyctl 250 219
add_key 248 217      request_key 249 218    kexec_load 246 104    kexec_file_load 320 294
init_module 175 105  finit_module 313 273   delete_module 176 106 iopl 172 -            ioperm 173 -
settimeofday 164 170 clock_settime 227 112  adjtimex 159 171      clock_adjtime 305 266
sethostname 170 161  setdomainname 171 162  vhangup 153 58

setuid 105 146       setgid 106 144         setreuid 113 145      setregid 114 143      setresuid 117 147
setresgid 119 149    setfsuid 122 151       setfsgid 123 152      setgroups 116 159     capset 126 91

chmod 90 -           fchmod 91 52           fchmodat 268 53       fchmodat2 452 452     chown 92 -
fchown 93 55         lchown 94 -            fchownat 260 54       setxattr 188 5        lsetxattr 189 6
fsetxattr 190 7      removexattr 197 14     lremovexattr 198 15   fremovexattr 199 16   truncate 76 45
link 86 -            linkat 265 37          symlink 88 -          symlinkat 266 36      mknod 133 -
mknodat 259 33       utimensat 280 88       utime 132 -           utimes 235 -          futimesat 261 -

shmget 29 194        shmat 30 196           shmctl 31 195         msgget 68 186         msgsnd 69 189
msgrcv 70 188        semget 64 190          semop 65 193          mq_open 240 180       memfd_secret 447 447
"""
_DENIED = _NUMBERS.split()
_MEMFD_CREATE = (319, 279)  # a file that Landlock does not see, from which a program could be run
_CLONE, _CLONE3, _PRCTL, _TGKILL = (56, 220), (435, 435), (157, 167), (234, 131)


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction))]


def available() -> bool:
    """Whether this kernel has filters and we have a list for this machine; asks without setting one."""
    try:
        kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER)
    except OSError as error:
        return error.errno == errno.EFAULT and os.uname().machine in _ARCHS
    return False


def enforce(*, memfd: bool) -> None:
    """Hold this thread, and what it starts or becomes, to the list. Needs no_new_privs.

    `memfd` allows memory files, for a GPU's driver.
    """
    filter_ = list(_filter(memfd=memfd))
    instructions = (_Instruction * len(filter_))(*(_Instruction(*each) for each in filter_))
    program = _Program(len(filter_), instructions)
    kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program))


def _filter(*, memfd: bool) -> Iterator[tuple[int, int, int, int]]:
    """The program of the filter. Jumps are forward, by so many instructions; each part ends in an answer."""
    arch, column = _arch()
    yield _LOAD, 0, 0, _ARCH
    yield _EQUALS, 1, 0, arch
    yield _RETURN, 0, 0, _KILL_PROCESS
    yield _LOAD, 0, 0, _NUMBER
    yield _AT_LEAST, 0, 1, _X32
    yield _refuse(errno.ENOSYS)
    for number in _denied(column, memfd=memfd):
        yield _EQUALS, 0, 1, number
        yield _refuse(errno.EPERM)
    # Its flags lie in memory, where a filter cannot look; libc falls back on clone.
    yield _EQUALS, 0, 1, _CLONE3[column]
    yield _refuse(errno.ENOSYS)
    yield from _only(_CLONE[column], _HAS_BIT, _CLONE_THREAD)  # threads, no processes
    yield from _only(_TGKILL[column], _EQUALS, os.getpid())  # abort() signals itself
    yield _EQUALS, 0, 5, _PRCTL[column]
    yield _LOAD, 0, 0, _FIRST_ARGUMENT
    yield _EQUALS, 1, 0, _PR_SET_PDEATHSIG
    yield _EQUALS, 0, 1, _PR_SET_PTRACER
    yield _refuse(errno.EPERM)
    yield _RETURN, 0, 0, _ALLOW
    yield _RETURN, 0, 0, _ALLOW


def _only(number: int, test: int, value: int) -> Iterator[tuple[int, int, int, int]]:
    """Allow the call only where its first argument passes the test."""
    yield _EQUALS, 0, 4, number
    yield _LOAD, 0, 0, _FIRST_ARGUMENT
    yield test, 1, 0, value
    yield _refuse(errno.EPERM)
    yield _RETURN, 0, 0, _ALLOW


def _refuse(number: int) -> tuple[int, int, int, int]:
    return _RETURN, 0, 0, _ERRNO | number


def _arch() -> tuple[int, int]:
    machine = os.uname().machine
    if machine not in _ARCHS:
        raise OSError(0, f"no list of system calls for {machine}")
    return _ARCHS[machine]


def _denied(column: int, *, memfd: bool) -> Iterator[int]:
    for number in _DENIED[1 + column :: 3]:
        if number != "-":
            yield int(number)
    if not memfd:
        yield _MEMFD_CREATE[column]
