"""Blobs in a bucket of S3 and alike, under the same keys as in a folder: `<prefix>/sha256/ab/abcd…`.

A writer spools to the local disk and the commit puts the whole under its final name. The hash is known before the first
byte leaves, so that the bucket holds nothing under a temporary name and nothing that was announced wrongly.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, final
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from store.blob_cache import BlobCache
from store.blob_writing import Blob, BlobWriter, StorageUnavailable, StoredBlob, blob_key, spooled, sweep

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

PART_BYTES = 16 * 2**20
NUM_PARTS_AT_ONCE = 4
READ_BYTES = 8 * 2**20
PROBE = "probe"
# An endpoint of plain http is the operator's choice, in the URL or in AWS_ENDPOINT_URL.
CLIENT: ClientConfig = {"allow_http": True, "connect_timeout": "3s", "read_timeout": "30s", "timeout": "5m"}
_PARAMETERS = frozenset({"endpoint", "region", "virtual_hosted"})


@final
class BucketBlobs:
    """Blobs in one bucket; `folder` is local, for what is being written and for the copies that runners read."""

    def __init__(self, bucket: S3Store, folder: Path, *, cache_bytes: int) -> None:
        self.folder = folder
        self._bucket = bucket
        self._temporary = folder / "tmp"
        self._temporary.mkdir(parents=True, exist_ok=True)
        self._cache = BlobCache(folder / "cache", max_bytes=cache_bytes)

    def writer(self) -> AbstractContextManager[BlobWriter]:
        """A writer; without a commit nothing of it stays.

        Raises:
            StorageFull: if no local file can be made.
        """
        return spooled(self._temporary, self.adopt)

    def put(self, content: bytes, *, expected: str | None = None) -> Blob:
        """Store bytes that are in memory; raises what `BlobWriter.commit` raises."""
        with self.writer() as writer:
            writer.write(content)
            return writer.commit(expected)

    def open(self, blob_id: str) -> BinaryIO:
        """Read the blob, range by range; FileNotFoundError if it is not there."""
        return io.BufferedReader(_Ranges(self._bucket, blob_key(blob_id), self.size(blob_id)), READ_BYTES)

    @contextmanager
    def local(self, blob_id: str, *, between: Callable[[], None] | None = None) -> Iterator[Path]:
        """A checked local copy that stays while the block runs; `between` is called after each part of a fetch.

        Raises:
            FileNotFoundError: if the bucket does not have it.
            DigestMismatch: if the object is damaged.
        """

        def fetch(writer: BlobWriter) -> None:
            with self.open(blob_id) as source:
                while part := source.read(READ_BYTES):
                    writer.write(part)
                    if between is not None:
                        between()

        with self._cache.holding(blob_id, fetch) as path:
            yield path

    def exists(self, blob_id: str) -> bool:
        try:
            self.size(blob_id)
        except FileNotFoundError:
            return False
        return True

    def size(self, blob_id: str) -> int:
        """Bytes of the blob; FileNotFoundError if it is not there."""
        with failure_named():
            return obstore.head(self._bucket, blob_key(blob_id))["size"]

    def delete(self, blob_id: str) -> None:
        """Forget a blob; only for one that no artifact names. Deleting what is not there is no error on S3."""
        with failure_named():
            obstore.delete(self._bucket, blob_key(blob_id))

    def aged(self, *, older_than_seconds: float) -> Iterator[str]:
        """The blobs that nobody has written for so long, in no order."""
        before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        return (blob.id for blob in self.walk() if blob.stored_at < before)

    def discard(self, blob_id: str, *, older_than_seconds: float) -> bool:
        """Delete a blob unless somebody has written it lately.

        Buckets know no deletion by age: bytes that come anew between the look and the deletion, some milliseconds, are
        lost, after they have been there for all of that age without a name.
        """
        try:
            with failure_named():
                written_at = obstore.head(self._bucket, blob_key(blob_id))["last_modified"]
        except FileNotFoundError:
            return False
        if written_at >= datetime.now(UTC) - timedelta(seconds=older_than_seconds):
            return False
        self.delete(blob_id)
        return True

    def walk(self) -> Iterator[StoredBlob]:
        """Every blob that is stored, in no order."""
        with failure_named():
            for page in obstore.list(self._bucket, "sha256"):
                for found in page:
                    blob_id = f"sha256:{found['path'].rpartition('/')[2]}"
                    yield StoredBlob(blob_id, found["size"], found["last_modified"])

    def adopt(self, file: Path, blob_id: str) -> None:
        """Put a file under the name of its hash; it appears there whole or not at all.

        Also when the bucket has it: what is written again must be young again, or a collector of garbage that has
        looked at it before takes it away.
        """
        with _writing():
            obstore.put(self._bucket, blob_key(blob_id), file, chunk_size=PART_BYTES, max_concurrency=NUM_PARTS_AT_ONCE)

    def probe(self) -> None:
        """Overwrite one object of no meaning; raises what a write raises."""
        with _writing():
            obstore.put(self._bucket, PROBE, b"")

    def sweep_temporary(self, *, older_than_seconds: float) -> int:
        """Delete leftovers of crashed writers; returns how many."""
        return sweep(self._temporary, older_than_seconds=older_than_seconds)


def open_bucket(url: str, folder: Path, *, cache_bytes: int) -> BucketBlobs:
    """Blobs at `s3://bucket/prefix?endpoint=…&region=…`; credentials come from the AWS_* variables or the machine's role.

    Raises:
        ValueError: for an address without a bucket, with credentials, or with a parameter that is not known.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise ValueError("write s3://bucket/prefix, and give credentials by the AWS_* variables")
    parameters = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if unknown := sorted(set(parameters) - _PARAMETERS):
        # Credentials among them: an address is shown in process lists and configuration pages.
        raise ValueError(f"an s3:// address takes {', '.join(sorted(_PARAMETERS))}, not {', '.join(unknown)}")
    config: S3Config = {}
    if "endpoint" in parameters:
        config["endpoint"] = parameters["endpoint"]
    if "region" in parameters:
        config["region"] = parameters["region"]
    if "virtual_hosted" in parameters:
        config["virtual_hosted_style_request"] = parameters["virtual_hosted"] == "true"
    retry: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=10)}
    with failure_named():
        bucket = S3Store(
            parts.hostname,
            prefix=parts.path.strip("/") or None,
            config=config,
            client_options=CLIENT,
            retry_config=retry,
        )
    return BucketBlobs(bucket, folder, cache_bytes=cache_bytes)


class _Ranges(io.RawIOBase):
    """An object as a seekable file: each read is one request for a range."""

    def __init__(self, bucket: S3Store, key: str, size: int) -> None:
        super().__init__()
        self._bucket = bucket
        self._key = key
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # BufferedReader gives a memoryview
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        with failure_named():
            part = obstore.get_range(self._bucket, self._key, start=self._position, end=end)
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


@contextmanager
def failure_named() -> Iterator[None]:
    """Tell obstore's failures as StorageUnavailable and FileNotFoundError."""
    # By name alone, and without the cause: obstore's own words quote addresses and whole answers.
    try:
        yield
    except BaseError as failure:
        raise StorageUnavailable(type(failure).__name__) from None
    except FileNotFoundError:
        raise FileNotFoundError("the bucket has no such object") from None


@contextmanager
def _writing() -> Iterator[None]:
    try:
        with failure_named():
            yield
    except FileNotFoundError:
        raise StorageUnavailable("NoSuchBucket") from None
