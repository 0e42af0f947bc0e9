"""Bytes named by their SHA-256 in a folder: written once, never changed, durable before they are acknowledged.

blobs/sha256/ab/abcd…    the blobs
blobs/tmp/…              what is being written; a crash leaves its leftovers here and nowhere else
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, final
from urllib.parse import unquote, urlsplit

from saddlescope.contract.limits import ARTIFACT_PATTERN
from store.identifiers import new_id


class BlobError(Exception):
    """BlobError
    ├── DigestMismatch   the bytes are not those that were announced
    └── StorageFull      no space is left for them
    """


class DigestMismatch(BlobError):
    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"the bytes hash to {actual}, not to {expected}; send the file again")
        self.expected = expected
        self.actual = actual


class StorageFull(BlobError):
    def __init__(self) -> None:
        super().__init__("the blob store has no space left; free some or attach a larger volume")


@dataclass(frozen=True)
class Blob:
    id: str
    size: int


@final
class BlobWriter:
    """Takes the bytes of one blob; made by `BlobStore.writer`."""

    def __init__(self, store: BlobStore, temporary: Path, file: FileIO) -> None:
        self._store = store
        self._temporary = temporary
        self._file = file
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
        with _full_storage_named():
            while left:  # a disk that is nearly full takes a part
                left = left[self._file.write(left) :]
        self._hash.update(chunk)
        self.size += len(chunk)

    def commit(self, expected: str | None = None) -> Blob:
        """Make the blob durable under its name and return it.

        Raises:
            DigestMismatch: if `expected` is given and is another identifier.
            StorageFull: if the last bytes find no space.
        """
        if expected is not None and expected != self.digest:
            raise DigestMismatch(expected, self.digest)
        with _full_storage_named():
            os.fsync(self._file.fileno())
            self._file.close()
            self._store.adopt(self._temporary, self.digest)
        return Blob(id=self.digest, size=self.size)


@final
class BlobStore:
    """Blobs in one folder, shared by every process that is given it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._temporary = folder / "tmp"
        self._temporary.mkdir(parents=True, exist_ok=True)
        (folder / "sha256").mkdir(exist_ok=True)

    @contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """A writer; without a commit nothing of it stays.

        Raises:
            StorageFull: if no file can be made.
        """
        temporary = self._temporary / new_id("tmp")
        with _full_storage_named():
            file = temporary.open("xb", buffering=0)
        try:
            with file:
                yield BlobWriter(self, temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    def put(self, content: bytes, *, expected: str | None = None) -> Blob:
        """Store bytes that are in memory; raises what `BlobWriter.commit` raises."""
        with self.writer() as writer:
            writer.write(content)
            return writer.commit(expected)

    def path(self, blob_id: str) -> Path:
        """Where the blob lies or would lie.

        Raises:
            ValueError: unless it is `sha256:` and 64 lower-case hexadecimal digits.
        """
        if not re.fullmatch(ARTIFACT_PATTERN, blob_id):
            raise ValueError(f"{blob_id[:80]!r} is no blob identifier")
        digest = blob_id.removeprefix("sha256:")
        return self.folder / "sha256" / digest[:2] / digest

    def open(self, blob_id: str) -> BinaryIO:
        """Read the blob; FileNotFoundError if it is not there."""
        return self.path(blob_id).open("rb")

    def exists(self, blob_id: str) -> bool:
        return self.path(blob_id).is_file()

    def delete(self, blob_id: str) -> None:
        """Forget a blob; only for one that no artifact names."""
        self.path(blob_id).unlink(missing_ok=True)

    def aged(self, *, older_than_seconds: float) -> Iterator[str]:
        """The blobs that nobody has written for so long, in no order."""
        before = time.time() - older_than_seconds
        for shelf in (self.folder / "sha256").iterdir():
            for path in shelf.iterdir():
                if _written_at(path) < before:
                    yield f"sha256:{path.name}"

    def discard(self, blob_id: str, *, older_than_seconds: float) -> bool:
        """Delete a blob unless somebody has written it lately; whoever writes it meanwhile keeps it.

        Taken aside first and looked at then: between a look and a deletion, the same bytes could have come anew.
        """
        path, aside = self.path(blob_id), self._temporary / new_id("old")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        if _written_at(aside) >= time.time() - older_than_seconds:
            aside.replace(path)
            return False
        aside.unlink()
        return True

    def adopt(self, temporary: Path, blob_id: str) -> None:
        """Give a synced file in the store's file system the name of its hash, durably."""
        target = self.path(blob_id)
        if not target.parent.exists():
            target.parent.mkdir(exist_ok=True)
            _sync_folder(target.parent.parent)
        # Renaming over an equal file is harmless: readers hold the old inode, and the bytes are the same.
        temporary.replace(target)
        _sync_folder(target.parent)

    def sweep_temporary(self, *, older_than_seconds: float) -> int:
        """Delete leftovers of crashed writers; returns how many. Running writers touch their file with every chunk."""
        before = time.time() - older_than_seconds
        num_swept = 0
        for leftover in self._temporary.iterdir():
            try:
                if leftover.stat().st_mtime < before:
                    leftover.unlink()
                    num_swept += 1
            except FileNotFoundError:
                continue  # its writer finished between the listing and the look
        return num_swept


def open_blobs(location: str | Path) -> BlobStore:
    """The blob store at a path or a `file://` URL.

    Raises:
        ValueError: for any other scheme.
    """
    if isinstance(location, Path) or "://" not in location:
        return BlobStore(Path(location).resolve())
    url = urlsplit(location)
    if url.scheme != "file":
        raise ValueError(f"blobs at {url.scheme}:// are not supported; give a folder or a file:/// URL")
    return BlobStore(Path(unquote(url.path)))


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf  # deleted by another at this moment


@contextmanager
def _full_storage_named() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull from failure
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
