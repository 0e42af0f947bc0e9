"""System calls that Python has no name for, by number; a refusal is an `OSError`."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache

from workers.sandbox.calls import Machine, machine

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000

Argument = int | bytes | ctypes.Array[ctypes.c_char] | ctypes.Structure


def call(number: int, *arguments: Argument) -> int:
    """The result of a system call; structures and buffers are passed by their address.

    Raises:
        OSError: if the kernel refuses.
    """
    result: int = _libc().syscall(ctypes.c_long(number), *map(_passed, arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def this_machine() -> Machine:
    """Raises OSError on a machine whose numbers are not known."""
    known = machine()
    if known is None:
        raise OSError(errno.ENOSYS, f"the sandbox has no system call numbers for {os.uname().machine}")
    return known


def prctl(option: int, *arguments: int) -> None:
    """Raises OSError if the kernel refuses."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    if _libc().prctl(ctypes.c_int(option), *map(ctypes.c_ulong, padded)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Raises OSError if the kernel refuses."""
    if _libc().unshare(ctypes.c_int(flags)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare({flags:#x}): {os.strerror(code)}")


def _passed(argument: Argument) -> object:
    if isinstance(argument, int):
        return ctypes.c_ulong(argument & (2**64 - 1))
    if isinstance(argument, bytes):
        return ctypes.c_char_p(argument)
    return ctypes.byref(argument)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
