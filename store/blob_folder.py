"""Blobs in a folder: written once, never changed, durable before they are acknowledged.

sha256/ab/abcd…    the blobs
uploads/…          uploads that are not complete
tmp/…              what is being written; a crash leaves its leftovers here and nowhere else
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, final

from store.blob_writing import Blob, BlobWriter, StoredBlob, blob_key, spooled, sweep, sync_folder
from store.identifiers import new_id


@final
class FolderBlobs:
    """Blobs in one folder, shared by every process that is given it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._temporary = folder / "tmp"
        self._temporary.mkdir(parents=True, exist_ok=True)
        (folder / "sha256").mkdir(exist_ok=True)

    def writer(self) -> AbstractContextManager[BlobWriter]:
        """A writer; without a commit nothing of it stays.

        Raises:
            StorageFull: if no file can be made.
        """
        return spooled(self._temporary, self.adopt)

    def put(self, content: bytes, *, expected: str | None = None) -> Blob:
        """Store bytes that are in memory; raises what `BlobWriter.commit` raises."""
        with self.writer() as writer:
            writer.write(content)
            return writer.commit(expected)

    def path(self, blob_id: str) -> Path:
        """Where the blob lies or would lie; ValueError for what is no identifier."""
        return self.folder / blob_key(blob_id)

    def open(self, blob_id: str) -> BinaryIO:
        """Read the blob; FileNotFoundError if it is not there."""
        return self.path(blob_id).open("rb")

    @contextmanager
    def local(self, blob_id: str, *, between: Callable[[], None] | None = None) -> Iterator[Path]:
        """The blob's own file: nothing is fetched, so there is nothing to do `between` chunks."""
        path = self.path(blob_id)
        path.stat()
        yield path

    def exists(self, blob_id: str) -> bool:
        return self.path(blob_id).is_file()

    def size(self, blob_id: str) -> int:
        """Bytes of the blob; FileNotFoundError if it is not there."""
        return self.path(blob_id).stat().st_size

    def delete(self, blob_id: str) -> None:
        """Forget a blob; only for one that no artifact names."""
        self.path(blob_id).unlink(missing_ok=True)

    def walk(self) -> Iterator[StoredBlob]:
        """Every blob that is stored, in no order."""
        for shelf in (self.folder / "sha256").iterdir():
            for path in shelf.iterdir():
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # deleted between the listing and the look
                yield StoredBlob(f"sha256:{path.name}", status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def aged(self, *, older_than_seconds: float) -> Iterator[str]:
        """The blobs that nobody has written for so long, in no order."""
        before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        return (blob.id for blob in self.walk() if blob.stored_at < before)

    def discard(self, blob_id: str, *, older_than_seconds: float) -> bool:
        """Delete a blob unless somebody has written it lately; whoever writes it meanwhile keeps it.

        Taken aside first and looked at then: between a look and a deletion, the same bytes could have come anew.
        """
        path, aside = self.path(blob_id), self._temporary / new_id("old")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        if aside.stat().st_mtime >= time.time() - older_than_seconds:
            aside.replace(path)
            return False
        aside.unlink(missing_ok=True)  # a sweep of leftovers may have been faster
        return True

    def adopt(self, file: Path, blob_id: str) -> None:
        """Give a synced file in the store's file system the name of its hash, durably."""
        target = self.path(blob_id)
        if not target.parent.exists():
            target.parent.mkdir(exist_ok=True)
            sync_folder(target.parent.parent)
        # Renaming over an equal file is harmless: readers hold the old inode, and the bytes are the same.
        file.replace(target)
        sync_folder(target.parent)

    def probe(self) -> None:
        """Write and forget a byte; raises what a write raises."""
        with self.writer() as writer:
            writer.write(b"?")

    def sweep_temporary(self, *, older_than_seconds: float) -> int:
        """Delete leftovers of crashed writers; returns how many."""
        return sweep(self._temporary, older_than_seconds=older_than_seconds)
