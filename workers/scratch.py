"""A folder for what jobs write before their answer is stored, and the proof that its worker is alive.

The folder bears the worker's name and is locked for as long as the process lives, however it ends. Whoever can lock a
folder has the proof that its worker is dead.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PREFIX = "saddlescope-worker-"


@dataclass(frozen=True)
class Scratch:
    folder: Path
    dead_workers: tuple[str, ...]
    """Names of workers on this machine that died without tidying up; their folders are swept."""


@contextmanager
def open_scratch(parent: Path | None, worker: str) -> Iterator[Scratch]:
    """A private folder for the worker of this process, gone afterwards."""
    root = Path(tempfile.gettempdir()) if parent is None else parent
    root.mkdir(parents=True, exist_ok=True)
    dead = sweep_dead(root)
    # Locked before it has its name, so that no other worker finds it unlocked.
    unnamed = Path(tempfile.mkdtemp(dir=root))
    descriptor = os.open(unnamed, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        folder = unnamed.rename(root / f"{PREFIX}{worker}")
        yield Scratch(folder=folder, dead_workers=dead)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def sweep_dead(root: Path) -> tuple[str, ...]:
    """Remove what dead workers left below `root`; gives their names."""
    return tuple(path.name.removeprefix(PREFIX) for path in sorted(root.glob(f"{PREFIX}*")) if _sweep(path))


def _sweep(folder: Path) -> bool:
    """Remove a folder whose worker is dead; False if it lives, or the folder is not ours to judge."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # another worker sweeps it at this moment, or it is another user's
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
