"""Blobs of an object store on the local disk of a worker: fetched once, checked, and the least recently used dropped.

Several processes may share the folder. A blob in use is locked (shared) by its users and never dropped under them; the
locks go with the processes, however they end.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, final

from store.blob_folder import FolderBlobs
from store.blob_writing import BlobWriter, blob_key, spooled

DAY_SECONDS = 86_400


@final
class BlobCache:
    """Local copies of at most `max_bytes`, not counting those in use."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._copies = FolderBlobs(folder)
        self._copies.sweep_temporary(older_than_seconds=DAY_SECONDS)
        self._gate = folder / "gate.lock"
        self._gate.touch()

    @contextmanager
    def holding(self, blob_id: str, fetch: Callable[[BlobWriter], None]) -> Iterator[Path]:
        """A local copy that stays while the block runs. `fetch` writes the bytes if there is none.

        Raises:
            DigestMismatch: if what was fetched is not what the name says; nothing of it is kept.
            StorageFull: if the disk has no space.
        """
        held = self._hold(blob_id)
        while held is None:
            with spooled(self._copies.folder / "tmp", self._admit) as writer:
                fetch(writer)
                writer.commit(expected=blob_id)
            held = self._hold(blob_id)
        try:
            yield self._copies.path(blob_id)
        finally:
            held.close()
            self._shrink()

    def _hold(self, blob_id: str) -> BinaryIO | None:
        with self._alone():
            try:
                file = self._copies.open(blob_id)
            except FileNotFoundError:
                return None
            fcntl.flock(file, fcntl.LOCK_SH)
            # Not the kernel's own idea of now, which moves in steps of milliseconds.
            os.utime(file.fileno(), ns=(time.time_ns(), time.time_ns()))
            return file

    def _admit(self, temporary: Path, blob_id: str) -> None:
        with self._alone():
            # Never over a copy in use: its lock is on the file that lies there.
            if not self._copies.exists(blob_id):
                self._copies.adopt(temporary, blob_id)

    def _shrink(self) -> None:
        with self._alone():
            copies = sorted(self._copies.walk(), key=lambda copy: copy.stored_at)
            excess = sum(copy.size for copy in copies) - self.max_bytes
            for copy in copies:
                if excess <= 0:
                    return
                if self._drop(self._copies.folder / blob_key(copy.id)):
                    excess -= copy.size

    def _drop(self, path: Path) -> bool:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            path.unlink()
            return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._gate.open("rb") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield
