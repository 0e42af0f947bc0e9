"""Which system calls a runner may make: all that computing needs, and nothing that reaches another file, process or host.

What libraries probe for and can do without is refused with an errno: to a runner there are no files. What no analysis ever
tries ends the process.
"""

from __future__ import annotations

import ctypes
import errno

from workers.sandbox import kernel
from workers.sandbox.assembler import ALLOW, KILL, Match, Rule, assemble, refuse
from workers.sandbox.calls import Machine

_SECCOMP_SET_MODE_FILTER = 1

# The most frequent first: the filter tries its rules in order.
_COMPUTING = """
futex sched_yield clock_gettime brk mmap munmap mremap mprotect madvise mincore getrandom gettimeofday time nanosleep
clock_nanosleep clock_getres sched_getaffinity getcpu getrusage sysinfo times uname rt_sigaction rt_sigprocmask rt_sigreturn
sigaltstack restart_syscall set_robust_list set_tid_address rseq exit exit_group
getpid getppid gettid getuid geteuid getgid getegid getrlimit getcwd
"""
_OPEN_DESCRIPTORS = "read write readv writev pread64 pwrite64 lseek close fstat ftruncate fsync fdatasync"
_FILE_NAMES = "open openat stat lstat newfstatat access faccessat readlink readlinkat"
# Newer forms of calls above, whose arguments a filter cannot see; C libraries go back to the old ones.
_OPAQUE = "clone3 openat2 statx faccessat2 membarrier"

_AT_EMPTY_PATH = 0x1000
_THREAD = 0x0001_0000 | 0x0000_0800 | 0x0000_0100  # CLONE_THREAD|CLONE_SIGHAND|CLONE_VM
_NEW_NAMESPACES = 0x7E02_0080  # every CLONE_NEW*
_FCNTL = (1, 2, 3, 1030)  # F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_PRCTL = (15, 16, 0x53_564D_41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_ARCH_PRCTL = (0x1021, 0x1022, 0x1023)  # ARCH_GET_XCOMP_SUPP, _GET_XCOMP_PERM, _REQ_XCOMP_PERM: the AMX registers

_DRIVER = """
ioctl poll ppoll eventfd2 pipe2 epoll_create1 epoll_ctl epoll_pwait mlock munlock get_mempolicy sched_setaffinity getdents64
"""


def system_call_filter(machine: Machine, device: str) -> bytes:
    """The filter of every runner; on CUDA it leaves names of files to Landlock, and lets the driver's calls through."""
    if device == "cpu":
        return assemble((*_common(), *_without_files()), machine=machine, default=KILL)
    rules = (*_common(), *_all(f"{_FILE_NAMES} {_DRIVER}", ALLOW), *_all(_OPAQUE, refuse(errno.ENOSYS)))
    return assemble(rules, machine=machine, default=refuse(errno.EPERM))


def signals_to_itself(machine: Machine, process: int) -> bytes:
    """A filter that lets signals go to this process alone, as raise and abort send them."""
    myself = (Match(0, process, 2**32 - 1),)
    rules = (Rule("tgkill", ALLOW, myself), Rule("kill", ALLOW, myself), Rule("tgkill", KILL), Rule("kill", KILL))
    return assemble(rules, machine=machine, default=ALLOW)


def install(program: bytes) -> None:
    """Raises OSError if the kernel does not take the filter."""
    number = kernel.this_machine().numbers["seccomp"]
    code = ctypes.create_string_buffer(program, len(program))
    kernel.call(number, _SECCOMP_SET_MODE_FILTER, 0, _Program(len(program) // 8, ctypes.addressof(code)))


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def _common() -> tuple[Rule, ...]:
    return (
        *_all(f"{_COMPUTING} {_OPEN_DESCRIPTORS} kill tgkill", ALLOW),
        Rule("clone", ALLOW, (Match(0, _THREAD, _THREAD | _NEW_NAMESPACES),)),
        Rule("prlimit64", ALLOW, (Match(0, 0, 2**32 - 1), Match(2, 0))),  # to read one's own limits
        *_one_of("fcntl", 1, _FCNTL),
        *_one_of("prctl", 0, _PRCTL),
        *_one_of("arch_prctl", 0, _ARCH_PRCTL),
    )


def _without_files() -> tuple[Rule, ...]:
    return (
        # How the C library asks for the status of an open file. A name beside the flag is looked up all the same: what
        # exists can be learned where there is no namespace, what it holds cannot.
        Rule("newfstatat", ALLOW, (Match(3, _AT_EMPTY_PATH, 2**32 - 1),)),
        *_all(_FILE_NAMES, refuse(errno.ENOENT)),
        *_all(_OPAQUE, refuse(errno.ENOSYS)),
        *_all("ioctl", refuse(errno.ENOTTY)),
        *_all("sched_setaffinity get_mempolicy", refuse(errno.EPERM)),
    )


def _all(calls: str, verdict: int) -> tuple[Rule, ...]:
    return tuple(Rule(call, verdict) for call in calls.split())


def _one_of(call: str, argument: int, values: tuple[int, ...]) -> tuple[Rule, ...]:
    allowed = tuple(Rule(call, ALLOW, (Match(argument, value, 2**32 - 1),)) for value in values)
    return (*allowed, Rule(call, refuse(errno.EPERM)))
