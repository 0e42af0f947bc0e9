"""Landlock: a process gives up every file below no rule, by system calls alone (linux/landlock.h, versions 1 to 7)."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.sandbox import kernel

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_IOCTL_DEVICE = 1 << 15
# Rights over files by the version that brought them: the first thirteen, renaming across folders, truncation, devices' ioctl.
_FILE_RIGHTS = {1: 0x1FFF, 2: 1 << 13, 3: 1 << 14, 5: _IOCTL_DEVICE}
_BIND_AND_CONNECT = {4: 0b11}
_ABSTRACT_SOCKETS_AND_SIGNALS = {6: 0b11}
_FILE_ONLY = _EXECUTE | _WRITE | _READ | 1 << 14 | _IOCTL_DEVICE


@dataclass(frozen=True)
class Beneath:
    """What stays possible below a path; a path that is not there is passed over."""

    path: Path
    is_writable: bool = False


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr"""

    _fields_ = [("files", ctypes.c_uint64), ("ports", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    """struct landlock_path_beneath_attr"""

    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("descriptor", ctypes.c_int32)]


def version() -> int:
    """The version that the kernel speaks.

    Raises:
        OSError: if it has no Landlock or it is switched off.
    """
    return kernel.call(kernel.this_machine().numbers["landlock_create_ruleset"], 0, 0, _CREATE_RULESET_VERSION)


def restrict(kept: Sequence[Beneath] = ()) -> None:
    """Give up every file, port, abstract socket and foreign process that this kernel's Landlock knows, except what is kept.

    Files that are open stay open. Needs no_new_privs.

    Raises:
        OSError: if the kernel refuses.
    """
    numbers, spoken = kernel.this_machine().numbers, version()
    files = _rights(_FILE_RIGHTS, spoken)
    attributes = _Ruleset(files, _rights(_BIND_AND_CONNECT, spoken), _rights(_ABSTRACT_SOCKETS_AND_SIGNALS, spoken))
    size = 8 if spoken < 4 else 16 if spoken < 6 else 24
    ruleset = kernel.call(numbers["landlock_create_ruleset"], attributes, size, 0)
    try:
        for beneath in kept:
            if beneath.path.exists():
                _keep(ruleset, beneath, files)
        kernel.call(numbers["landlock_restrict_self"], ruleset, 0)
    finally:
        os.close(ruleset)


def _rights(by_version: dict[int, int], spoken: int) -> int:
    return sum(rights for since, rights in by_version.items() if since <= spoken)


def _keep(ruleset: int, beneath: Beneath, handled: int) -> None:
    descriptor = os.open(beneath.path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _READ | _LIST | _EXECUTE | (_WRITE | _IOCTL_DEVICE if beneath.is_writable else 0)
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_ONLY
        number = kernel.this_machine().numbers["landlock_add_rule"]
        kernel.call(number, ruleset, _RULE_PATH_BENEATH, _PathBeneath(rights & handled, descriptor), 0)
    finally:
        os.close(descriptor)
