"""The layers of the lock, a table that is applied in order.

A layer of the lock that was asked for either holds afterwards or raises: nothing is left out in silence.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import saddlescope
from workers.protocol import Limits
from workers.sandbox import kernel, landlock, policy

_NOBODY = 65534
# CAP_KILL, CAP_SETGID, CAP_SETUID: without the first, the fork server could not kill a runner of another user.
_BECOMING_ANOTHER = 1 << 5 | 1 << 6 | 1 << 7
_CAPABILITY_VERSION = 0x2008_0522
_THREADS_BESIDE_THE_POOLS = 64

# What a CUDA driver and the libraries that it loads open while they work.
_CUDA_READS = (
    *("/usr", "/lib", "/lib64", "/opt", "/etc/ld.so.cache", "/sys"),
    *("/proc/self", "/proc/driver", "/proc/devices", "/proc/modules", "/proc/meminfo", "/proc/cpuinfo"),
)
_CUDA_WRITES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-caps", "/dev/null")


@dataclass(frozen=True)
class Cell:
    """What is the same for every runner of a fork server, and made before the fork.

    Attributes:
        device: `cpu`, or a CUDA device, whose driver needs files and calls of its own.
        layers: names of the optional layers that hold on this machine.
        root: descriptor of an empty folder that has no name any more; where a namespace allows it, all the files there are.
        system_calls: the filter.
        meters: descriptors that tell how much memory there is.
    """

    device: str
    layers: frozenset[str]
    root: int
    system_calls: bytes
    meters: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Confinement:
    """One runner in its cell.

    Attributes:
        limits: what it may take.
        parent: the process that it dies with.
        descriptors: open files that it keeps, beside its standard streams.
    """

    cell: Cell
    limits: Limits
    parent: int
    descriptors: frozenset[int]


@dataclass(frozen=True)
class Layer:
    """One layer; an optional one is applied where the confinement names it."""

    name: str
    apply: Callable[[Confinement], None]
    is_optional: bool = False


def lock(confinement: Confinement) -> None:
    """Apply every layer of the confinement. The process must have one thread.

    Raises:
        OSError: if the kernel refuses a layer.
    """
    for layer in LAYERS:
        if not layer.is_optional or layer.name in confinement.cell.layers:
            layer.apply(confinement)


def _first_to_go(confinement: Confinement) -> None:
    """When memory runs out, the kernel takes the runner, and not the worker beside it."""
    del confinement
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(descriptor, b"1000")
    os.close(descriptor)


def _private_files(confinement: Confinement) -> None:
    del confinement
    os.umask(0o077)


def _resource_limits(confinement: Confinement) -> None:
    limits = confinement.limits
    _cap(resource.RLIMIT_CORE, 0)
    _cap(resource.RLIMIT_NOFILE, limits.open_files)
    _cap(resource.RLIMIT_FSIZE, limits.file_bytes)
    if limits.memory_bytes is not None:
        _cap(resource.RLIMIT_AS, _mapped_bytes() + limits.memory_bytes)


def _few_descriptors(confinement: Confinement) -> None:
    kept = sorted({0, 1, 2, confinement.cell.root} | confinement.cell.meters | confinement.descriptors)
    for before, after in zip(kept, [*kept[1:], 2**31 - 1], strict=True):
        os.closerange(before + 1, after)


def _no_new_privileges(confinement: Confinement) -> None:
    del confinement
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def _no_files(confinement: Confinement) -> None:
    if confinement.cell.device == "cpu":
        landlock.restrict()
        return
    written = (*map(Path, _CUDA_WRITES), *Path("/dev").glob("nvidia[0-9]*"))
    # The interpreter, its libraries and our own code; never sys.path, which may begin with the folder of the data.
    own = (Path(saddlescope.__file__).parent, Path(__file__).parent.parent)
    read = (*map(Path, (*_CUDA_READS, sys.prefix, sys.base_prefix)), *own)
    landlock.restrict([*(landlock.Beneath(path, is_writable=True) for path in written), *map(landlock.Beneath, read)])


def _another_user(confinement: Confinement) -> None:
    del confinement
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _own_namespaces(confinement: Confinement) -> None:
    """A user without a name outside, no network, no shared memory of others, and an empty file system."""
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    # Counted within the new namespace, so that other processes of the same user take nothing away.
    _cap(resource.RLIMIT_NPROC, 4 * confinement.limits.threads + _THREADS_BESIDE_THE_POOLS)
    if confinement.cell.device == "cpu":
        os.fchdir(confinement.cell.root)
        os.chroot(".")
    os.close(confinement.cell.root)


def _no_capabilities(confinement: Confinement) -> None:
    del confinement
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(_CAPABILITY_VERSION.to_bytes(4, "little") + bytes(4), 8)
    kernel.call(kernel.this_machine().numbers["capset"], header, bytes(24))


def _not_dumpable(confinement: Confinement) -> None:
    """No other process of the same user may trace it or read its memory."""
    del confinement
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def _die_with_parent(confinement: Confinement) -> None:
    # After the layers that change the user: the kernel forgets this at such a change.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died between the fork and the line above; then no signal will ever come.
    if os.getppid() != confinement.parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _few_system_calls(confinement: Confinement) -> None:
    # Filters add up. The short one depends on the process; the long one was made before the fork, for all.
    policy.install(policy.signals_to_itself(kernel.this_machine(), os.getpid()))
    policy.install(confinement.cell.system_calls)


def can_become_another_user() -> bool:
    """Whether this process has the capabilities to give its runners another user, and to end them."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return effective & _BECOMING_ANOTHER == _BECOMING_ANOTHER


def _cap(kind: int, amount: int) -> None:
    _, hard = resource.getrlimit(kind)
    capped = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(kind, (capped, capped))


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


LAYERS: tuple[Layer, ...] = (
    Layer("first_to_go", _first_to_go),
    Layer("private_files", _private_files),
    Layer("resource_limits", _resource_limits),
    Layer("few_descriptors", _few_descriptors),
    Layer("no_new_privileges", _no_new_privileges),
    Layer("no_files", _no_files, is_optional=True),
    Layer("another_user", _another_user, is_optional=True),
    Layer("own_namespaces", _own_namespaces, is_optional=True),
    Layer("no_capabilities", _no_capabilities, is_optional=True),
    Layer("not_dumpable", _not_dumpable),
    Layer("die_with_parent", _die_with_parent),
    Layer("few_system_calls", _few_system_calls, is_optional=True),
)

OPTIONAL = frozenset(layer.name for layer in LAYERS if layer.is_optional)
"""Layers that some machines refuse."""
