"""Uploads in progress: one file each, beside the blobs, so that the last step is a rename and not a copy.

A staged file is at least as long as its durable offset, which is in the database; what lies behind it may be anything,
and the next writer cuts it off.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import final

from store.blob_writing import full_storage_named, sync_folder
from store.blobs import Blob, BlobStore, DigestMismatch
from store.identifiers import new_id

# A running hash is 200 bytes; an upload whose hash was dropped is read once more at its end.
MAX_RUNNING_HASHES = 4_096
READ_BYTES = 2**20


class UploadBusy(Exception):
    """Another request is writing to this upload."""


class UploadLost(Exception):
    """The staged bytes are not there any more."""


@final
class Staging:
    """The folder of the uploads in progress, shared by every process that is given it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._hashes: OrderedDict[str, tuple[int, hashlib._Hash]] = OrderedDict()
        self._lock = threading.Lock()

    def create(self, upload_id: str) -> None:
        """Make room for an upload.

        Raises:
            StorageFull: if no file can be made.
        """
        with full_storage_named():
            self._path(upload_id).open("xb").close()
            sync_folder(self.folder)
        self.remember_hash(upload_id, 0, hashlib.sha256())

    @contextmanager
    def open(self, upload_id: str) -> Iterator[StagedFile]:
        """The staged file, for one writer at a time among all processes.

        Raises:
            UploadBusy: if there is a writer.
            UploadLost: if there is no file.
        """
        try:
            file = FileIO(self._path(upload_id), "r+")
        except FileNotFoundError:
            raise UploadLost from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UploadBusy from None
            staged = StagedFile(self, upload_id, file)
            try:
                yield staged
            finally:
                staged.release()

    def discard(self, upload_id: str) -> None:
        """Forget the staged bytes; does nothing if there are none."""
        with self._lock:
            self._hashes.pop(upload_id, None)
        self._path(upload_id).unlink(missing_ok=True)

    def staged_ids(self, *, older_than: float) -> list[str]:
        """Uploads whose file was last written before the time, in seconds of the clock."""
        found = []
        for path in self.folder.iterdir():
            try:
                if path.stat().st_mtime < older_than:
                    found.append(path.name)
            except FileNotFoundError:
                continue  # finished between the listing and the look
        return found

    def remember_hash(self, upload_id: str, offset: int, running: hashlib._Hash) -> None:
        with self._lock:
            self._hashes[upload_id] = (offset, running)
            self._hashes.move_to_end(upload_id)
            if len(self._hashes) > MAX_RUNNING_HASHES:
                self._hashes.popitem(last=False)

    def take_hash(self, upload_id: str, offset: int) -> hashlib._Hash | None:
        """The hash of the first `offset` bytes, if this process has it."""
        with self._lock:
            known = self._hashes.pop(upload_id, None)
        return known[1] if known is not None and known[0] == offset else None

    def _path(self, upload_id: str) -> Path:
        return self.folder / upload_id


@final
class StagedFile:
    """The bytes of one upload, held by one writer; made by `Staging.open`."""

    def __init__(self, staging: Staging, upload_id: str, file: FileIO) -> None:
        self._staging = staging
        self._id = upload_id
        self._file = file
        self._running: hashlib._Hash | None = None
        self._start: tuple[int, hashlib._Hash | None] = (0, None)
        self.offset = 0

    def resume(self, offset: int) -> None:
        """Go on behind the durable offset; whatever lies there is cut off.

        Raises:
            UploadLost: if the file is shorter.
        """
        if os.fstat(self._file.fileno()).st_size < offset:
            raise UploadLost
        self._file.truncate(offset)
        self._file.seek(offset)
        self._running = self._staging.take_hash(self._id, offset)
        self._start = (offset, None if self._running is None else self._running.copy())
        self.offset = offset

    def roll_back(self) -> None:
        """Take back everything since `resume`."""
        self.offset, self._running = self._start
        self._file.truncate(self.offset)
        self._file.seek(self.offset)

    def write(self, block: bytes) -> None:
        """Append a block.

        Raises:
            StorageFull: if the disk has no space for all of it; what found space is kept.
        """
        left = memoryview(block)
        with full_storage_named():
            while left:
                written = self._file.write(left)
                if self._running is not None:
                    self._running.update(left[:written])
                self.offset += written
                left = left[written:]

    def sync(self) -> int:
        """Make what was written before this call durable; returns the offset up to which that is so."""
        offset = self.offset
        with full_storage_named():
            os.fdatasync(self._file.fileno())
        return offset

    def release(self) -> None:
        """Leave the running hash for the next writer of this process."""
        if self._running is not None:
            self._staging.remember_hash(self._id, self.offset, self._running)

    def store_in(self, blobs: BlobStore, expected: str | None) -> Blob:
        """Give the bytes their place among the blobs, and leave them staged until the database knows of it.

        Bytes that an earlier process received are read and hashed again.

        Raises:
            DigestMismatch: if `expected` is given and is another identifier.
            StorageFull: if there is no room for a name.
            StorageUnavailable: if an object store does not take them.
        """
        blob = Blob(id=f"sha256:{self._digest()}", size=self.offset)
        if expected is not None and expected != blob.id:
            raise DigestMismatch(expected, blob.id)
        with full_storage_named():
            # Young, however long the last byte is ago: a collector of garbage spares what was written lately.
            os.utime(self._file.fileno())
            os.fsync(self._file.fileno())
            # Staged under two names until then: an adopted file may be gone, and the process may die.
            second_name = self._staging.folder / new_id("tmp")
            os.link(self._staging.folder / self._id, second_name)
            try:
                blobs.adopt(second_name, blob.id)
            finally:
                second_name.unlink(missing_ok=True)
        return blob

    def _digest(self) -> str:
        if self._running is None:
            self._running = hashlib.sha256()
            self._file.seek(0)
            while block := self._file.read(READ_BYTES):
                self._running.update(block)
        digest = self._running.hexdigest()
        self._running = None
        return digest


def open_staging(blobs: BlobStore) -> Staging:
    """The uploads in progress of a blob store."""
    return Staging(blobs.folder / "uploads")
