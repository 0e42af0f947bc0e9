"""Bytes on their way into a blob store: into a local file first, hashed as they come, under their name at the commit."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import final

from saddlescope.contract.limits import ARTIFACT_PATTERN
from store.identifiers import new_id


class BlobError(Exception):
    """BlobError
    ├── DigestMismatch      the bytes are not those that were announced
    ├── StorageFull         no space is left for them
    └── StorageUnavailable  the object store does not answer, or refuses; another try may do better
    """


class DigestMismatch(BlobError):
    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"the bytes hash to {actual}, not to {expected}; send the file again")
        self.expected = expected
        self.actual = actual


class StorageFull(BlobError):
    def __init__(self) -> None:
        super().__init__("the blob store has no space left; free some or attach a larger volume")


class StorageUnavailable(BlobError):
    """Says what kind of failure it was and nothing of addresses, keys or signatures."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the blob store does not do its work ({reason}); try again")
        self.reason = reason


@dataclass(frozen=True)
class Blob:
    id: str
    size: int


@dataclass(frozen=True)
class StoredBlob:
    """What a walk through a store finds."""

    id: str
    size: int
    stored_at: datetime
    """By the store's clock; written again, it is young again."""


Adopt = Callable[[Path, str], None]


@final
class BlobWriter:
    """Takes the bytes of one blob; made by a store's `writer`."""

    def __init__(self, temporary: Path, file: FileIO, adopt: Adopt) -> None:
        self._temporary = temporary
        self._file = file
        self._adopt = adopt
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """The identifier of the bytes written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            StorageFull: if the disk or the quota has no space for it.
        """
        left = memoryview(chunk)
        with full_storage_named():
            while left:  # a disk that is nearly full takes a part
                left = left[self._file.write(left) :]
        self._hash.update(chunk)
        self.size += len(chunk)

    def commit(self, expected: str | None = None) -> Blob:
        """Make the blob durable under its name and return it.

        Raises:
            DigestMismatch: if `expected` is given and is another identifier.
            StorageFull: if the last bytes find no space.
            StorageUnavailable: if an object store does not take them.
        """
        if expected is not None and expected != self.digest:
            raise DigestMismatch(expected, self.digest)
        with full_storage_named():
            os.fsync(self._file.fileno())
            self._file.close()
            self._adopt(self._temporary, self.digest)
        return Blob(id=self.digest, size=self.size)


@contextmanager
def spooled(folder: Path, adopt: Adopt) -> Iterator[BlobWriter]:
    """A writer into a temporary file of the folder; without a commit nothing of it stays.

    Raises:
        StorageFull: if no file can be made.
    """
    temporary = folder / new_id("tmp")
    with full_storage_named():
        file = temporary.open("xb", buffering=0)
    try:
        with file:
            yield BlobWriter(temporary, file, adopt)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path, *, older_than_seconds: float) -> int:
    """Delete leftovers of crashed writers; returns how many. Running writers touch their file with every chunk."""
    before = time.time() - older_than_seconds
    num_swept = 0
    for leftover in folder.iterdir():
        try:
            if leftover.stat().st_mtime < before:
                leftover.unlink()
                num_swept += 1
        except FileNotFoundError:
            continue  # its writer finished between the listing and the look
    return num_swept


def blob_key(blob_id: str) -> str:
    """Where a blob lies in its store, a folder and a bucket alike: `sha256/ab/abcd…`.

    Raises:
        ValueError: unless it is `sha256:` and 64 lower-case hexadecimal digits.
    """
    if not re.fullmatch(ARTIFACT_PATTERN, blob_id):
        raise ValueError(f"{blob_id[:80]!r} is no blob identifier")
    digest = blob_id.removeprefix("sha256:")
    return f"sha256/{digest[:2]}/{digest}"


@contextmanager
def full_storage_named() -> Iterator[None]:
    """Tell a full disk or quota as StorageFull."""
    try:
        yield
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull from failure
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
