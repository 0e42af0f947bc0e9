"""What a runner locks itself into before it reads a byte: a table of layers, applied in order.

Every layer either holds afterwards or raises; there is no silent fallback.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workers.protocol import Limits

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True)
class Confinement:
    """What the layers need to know about the process that they confine."""

    limits: Limits
    parent: int


@dataclass(frozen=True)
class Layer:
    name: str
    apply: Callable[[Confinement], None]


def lock(confinement: Confinement) -> tuple[str, ...]:
    """Apply every layer; gives their names.

    Raises:
        OSError: if the kernel refuses a layer.
    """
    for layer in LAYERS:
        layer.apply(confinement)
    return tuple(layer.name for layer in LAYERS)


def _die_with_parent(confinement: Confinement) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died between the fork and the line above; then no signal will ever come.
    if os.getppid() != confinement.parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _no_new_privileges(confinement: Confinement) -> None:
    del confinement
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _private_files(confinement: Confinement) -> None:
    del confinement
    os.umask(0o077)


def _first_to_go(confinement: Confinement) -> None:
    """When memory runs out, the kernel takes the runner, and not the worker beside it."""
    del confinement
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _resource_limits(confinement: Confinement) -> None:
    limits = confinement.limits
    _cap(resource.RLIMIT_CORE, 0)
    _cap(resource.RLIMIT_NOFILE, limits.open_files)
    _cap(resource.RLIMIT_FSIZE, limits.file_bytes)
    if limits.memory_bytes is not None:
        _cap(resource.RLIMIT_AS, _mapped_bytes() + limits.memory_bytes)


def _cap(kind: int, amount: int) -> None:
    _, hard = resource.getrlimit(kind)
    capped = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(kind, (capped, capped))


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


LAYERS: tuple[Layer, ...] = (
    Layer("die_with_parent", _die_with_parent),
    Layer("no_new_privileges", _no_new_privileges),
    Layer("private_files", _private_files),
    Layer("first_to_go", _first_to_go),
    Layer("resource_limits", _resource_limits),
)

LEVEL = "basic"
"""What the layers above add up to: `strict`, `standard` or `basic`."""
