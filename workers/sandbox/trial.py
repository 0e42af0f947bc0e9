"""The attack on oneself: before a worker takes jobs, locked processes try everything that the lock forbids.

Levels: `strict` means that every layer holds, `standard` that system calls are filtered; at both, every forbidden action
was stopped, and the work of an analysis went on. Everything else is `basic`.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import tempfile
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, TypeVar

from saddlescope.contract.vocabulary import SandboxLevel
from workers.protocol import Attempt, Limits, Sandbox
from workers.sandbox import kernel, policy
from workers.sandbox.attacks import ACTIONS, TOO_MUCH_MEMORY, Scene, open_scene
from workers.sandbox.layers import LAYERS, OPTIONAL, Cell, Confinement, can_become_another_user, lock

_SECONDS = 20.0
_MEMORY_BYTES = 2 * 2**30
_LOCKED = "locked"
DONE = "done"

S = TypeVar("S")


def prove(device: str) -> Sandbox:
    """The strongest lock that this machine allows, and how it stood every attack.

    Costs one fork per layer and action: cheap in a process that has not loaded torch. The caller must have one thread.
    """
    folder = Path(tempfile.mkdtemp(prefix="saddlescope-trial-"))
    try:
        with open_scene(folder, memory_bytes=2 * _MEMORY_BYTES) as scene:
            cell, missing = _strongest(device, scene)
            # CUDA maps terabytes of addresses that are no memory, so there is no limit to test.
            names = [name for name in ACTIONS if device == "cpu" or name != TOO_MUCH_MEMORY]
            attempts = tuple(_attempt(cell, name, ACTIONS[name], scene) for name in names)
    finally:
        shutil.rmtree(folder)
    return Sandbox(level=_level(cell, attempts), layers=_names(cell), missing=missing, attempts=attempts)


def confirm(cell: Cell, sandbox: Sandbox) -> tuple[Cell, Sandbox]:
    """Whether an analysis works in the cell, tried from the process that forks runners; if not, the level is `basic`."""
    trouble = _trouble(cell, compute, cell.device)
    if trouble is None:
        return cell, sandbox
    # A lock in which nothing can be computed is no use. It is off, and the level says so.
    missing = dict.fromkeys(sorted(cell.layers), f"an analysis does not work in it: {trouble}")
    open_cell = replace(cell, layers=frozenset())
    return open_cell, Sandbox(
        level=SandboxLevel.BASIC, layers=_names(open_cell), missing=sandbox.missing | missing, attempts=()
    )


def make_cell(device: str, layers: Collection[str] = (), meters: frozenset[int] = frozenset()) -> Cell:
    """A cell with those of the layers that are optional."""
    folder = tempfile.mkdtemp(prefix="saddlescope-root-")
    os.chmod(folder, 0o555)  # noqa: S103 - an empty folder, for every user
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.rmdir(folder)
    return Cell(
        device=device,
        layers=OPTIONAL.intersection(layers),
        root=root,
        system_calls=_filter(device),
        meters=meters,
    )


def _strongest(device: str, scene: Scene) -> tuple[Cell, dict[str, str]]:
    cell, missing = make_cell(device), dict[str, str]()
    for layer in LAYERS:
        if layer.is_optional:
            richer = replace(cell, layers=cell.layers | {layer.name})
            trouble = _unavailable(richer, layer.name) or _trouble(richer, _nothing, scene)
            if trouble is None:
                cell = richer
            else:
                missing[layer.name] = trouble
    return cell, missing


def _names(cell: Cell) -> tuple[str, ...]:
    return tuple(layer.name for layer in LAYERS if not layer.is_optional or layer.name in cell.layers)


def _filter(device: str) -> bytes:
    try:
        return policy.system_call_filter(kernel.this_machine(), device)
    except OSError:
        return b""  # no numbers for this machine: the layer's own attempt will say so


def _unavailable(cell: Cell, layer: str) -> str | None:
    if layer != "another_user":
        return None
    if cell.device != "cpu":
        return "the device may belong to the worker's user"
    return None if can_become_another_user() else "the worker is not root, and needs no other user"


def _level(cell: Cell, attempts: tuple[Attempt, ...]) -> SandboxLevel:
    if "few_system_calls" not in cell.layers or not all(attempt.is_stopped for attempt in attempts):
        return SandboxLevel.BASIC
    return SandboxLevel.STRICT if cell.layers >= OPTIONAL - {"another_user"} else SandboxLevel.STANDARD


def _trouble(cell: Cell, act: Callable[[S], None], scene: S) -> str | None:
    """Why the action cannot be done in the cell; None if it can."""
    how = _attempt(cell, "", act, scene).how
    return None if how == DONE else how


def _nothing(scene: Scene) -> None:
    del scene


def compute(device: str) -> None:
    """What an analysis needs: threads, a product of matrices, a convolution, a Hessian and its eigenvalues."""
    import torch  # noqa: PLC0415
    from torch.nn.functional import conv2d  # noqa: PLC0415

    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(0)
    square = torch.randn(256, 256, generator=generator).to(device)
    conv2d(square[None, None] @ square, square[None, None, :3, :3]).sum().item()
    hessian = torch.func.hessian(lambda point: (1 - point[0] * point[1]) ** 2)(
        torch.zeros(2, dtype=torch.float64, device=device)
    )
    if torch.linalg.eigvalsh(hessian).tolist() != [-2.0, 2.0]:
        raise ArithmeticError(f"the Hessian of the toy is {hessian.tolist()}")


def _attempt(cell: Cell, name: str, act: Callable[[S], None], scene: S) -> Attempt:
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _try(cell, act, scene, telling=writing, parent=parent)
    os.close(writing)
    words = _hear(reading, child)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    locked, _, rest = words.decode().partition("\n")
    if locked != _LOCKED:
        return Attempt(action=name, is_stopped=False, how=f"the lock failed: {locked or _ending(status)}")
    if rest not in ("", DONE):
        return Attempt(action=name, is_stopped=True, how=rest)
    if status == 0:  # a program that was executed says nothing more
        return Attempt(action=name, is_stopped=False, how=DONE)
    is_violation = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS
    return Attempt(action=name, is_stopped=is_violation, how=_ending(status))


def _try(cell: Cell, act: Callable[[S], None], scene: S, *, telling: int, parent: int) -> NoReturn:
    try:
        os.setsid()
        limits = Limits(memory_bytes=_MEMORY_BYTES if cell.device == "cpu" else None, file_bytes=2**20, threads=2)
        lock(Confinement(cell=cell, limits=limits, parent=parent, descriptors=frozenset({telling})))
        os.write(telling, f"{_LOCKED}\n".encode())
        act(scene)
    except OSError as refusal:
        os.write(telling, f"refused: {errno.errorcode.get(refusal.errno or 0, refusal)}".encode())
    except (ValueError, MemoryError) as refusal:  # how Python words a refused setrlimit and mmap
        os.write(telling, f"refused: {refusal}".encode())
    else:
        os.write(telling, DONE.encode())
        os._exit(0)
    finally:
        os._exit(1)  # reached by an exception that is no refusal: a forked copy must not go on as its parent


def _hear(reading: int, child: int) -> bytes:
    words = b""
    while select.select([reading], [], [], _SECONDS)[0]:
        chunk = os.read(reading, 4096)
        if not chunk:
            return words
        words += chunk
    os.kill(child, signal.SIGKILL)
    return words


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
