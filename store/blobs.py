"""Bytes named by their SHA-256: written once, never changed, durable before they are acknowledged.

Where they lie is one choice (`open_blobs`): a folder, or a bucket of S3 and alike.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from store.blob_folder import FolderBlobs
from store.blob_writing import (
    Blob,
    BlobError,
    BlobWriter,
    DigestMismatch,
    StorageFull,
    StorageUnavailable,
    StoredBlob,
    full_storage_named,
    sync_folder,
)

__all__ = [
    "CACHE_BYTES",
    "Blob",
    "BlobError",
    "BlobStore",
    "BlobWriter",
    "DigestMismatch",
    "StorageFull",
    "StorageUnavailable",
    "StoredBlob",
    "full_storage_named",
    "open_blobs",
    "sync_folder",
]

CACHE_BYTES = 32 * 2**30


class BlobStore(Protocol):
    """Every method but the first may raise StorageUnavailable; a name that is no hash is a ValueError."""

    @property
    def folder(self) -> Path:
        """A folder of this machine, in whose file system `adopt` finds its files."""

    def writer(self) -> AbstractContextManager[BlobWriter]:
        """A writer; without a commit nothing of it stays."""

    def put(self, content: bytes, *, expected: str | None = None) -> Blob:
        """Store bytes that are in memory."""

    def open(self, blob_id: str) -> BinaryIO:
        """A seekable file of the blob; FileNotFoundError if it is not there."""

    def local(self, blob_id: str, *, between: Callable[[], None] | None = None) -> AbstractContextManager[Path]:
        """A file of this machine that stays while the block runs; FileNotFoundError if there is no such blob.

        `between` is called after each part of a fetch, and may raise to end it.
        """

    def exists(self, blob_id: str) -> bool: ...

    def size(self, blob_id: str) -> int:
        """Bytes of the blob; FileNotFoundError if it is not there."""

    def delete(self, blob_id: str) -> None:
        """Forget a blob; only for one that no artifact names."""

    def walk(self) -> Iterator[StoredBlob]:
        """Every blob that is stored, in no order: for audits and the collection of garbage."""

    def aged(self, *, older_than_seconds: float) -> Iterator[str]:
        """The blobs that nobody has written for so long, in no order."""

    def discard(self, blob_id: str, *, older_than_seconds: float) -> bool:
        """Delete a blob unless somebody has written it lately; whoever writes it meanwhile keeps it."""

    def adopt(self, file: Path, blob_id: str) -> None:
        """Store a synced file below `folder` under its hash; the caller has computed that.

        The file is gone afterwards or may be deleted.
        """

    def probe(self) -> None:
        """Raise what a write would raise now."""

    def sweep_temporary(self, *, older_than_seconds: float) -> int:
        """Delete leftovers of crashed writers; returns how many."""


def open_blobs(location: str | Path, *, local: Path | None = None, cache_bytes: int = CACHE_BYTES) -> BlobStore:
    """The blob store at a path, a `file://` URL, or `s3://bucket/prefix?endpoint=…&region=…`.

    `local` is a folder for what an object store needs on this machine: writes under way, and copies for runners of at
    most `cache_bytes`. Without it, a private folder among the system's temporary ones.

    Raises:
        ValueError: for any other scheme.
    """
    if isinstance(location, Path) or "://" not in location:
        return FolderBlobs(Path(location).resolve())
    url = urlsplit(location)
    match url.scheme:
        case "file":
            return FolderBlobs(Path(unquote(url.path)))
        case "s3":
            # An extra: who keeps blobs in a folder need not install it.
            from store.blob_bucket import open_bucket  # noqa: PLC0415

            return open_bucket(location, _private(local), cache_bytes=cache_bytes)
        case other:
            raise ValueError(f"blobs at {other}:// are not supported; give a folder, a file:/// or an s3:// URL")


def _private(folder: Path | None) -> Path:
    if folder is None:
        folder = Path(tempfile.gettempdir()) / f"saddlescope-{os.getuid()}-blobs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A folder among the temporary ones may have been laid there by someone else, or lead elsewhere.
    if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
        raise ValueError(f"{folder} belongs to another user; name another folder")
    return folder
