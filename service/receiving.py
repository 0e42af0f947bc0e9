"""The bytes of a resumable upload: onto the disk, into the database as durable, and at the end an artifact."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from starlette.concurrency import run_in_threadpool

from service.bodies import pour
from service.parts import Parts
from service.problems import (
    ChecksumMismatch,
    DigestMismatch,
    NotFound,
    OffsetMismatch,
    StorageFull,
    UploadExpired,
    UploadLocked,
    quota_told,
)
from service.tus import Checksum
from store import blobs
from store.staging import StagedFile, UploadBusy, UploadLost
from store.uploads import UploadRow, advance_upload, delete_upload, find_upload, finish_upload

# After so many bytes they are made durable and the database is told, so that a crash costs no more than these.
DURABLE_BYTES = 64 * 2**20


async def receive(
    parts: Parts, row: UploadRow, chunks: AsyncIterator[bytes], *, offset: int, checksum: Checksum | None
) -> UploadRow:
    """Append a body to an upload, and finish it with its last byte. What arrived of a body that was cut is kept.

    With a checksum, though, a body is kept whole or not at all: of a part nobody knows whether it is right.

    Raises:
        UploadLocked: if another request is writing to it.
        OffsetMismatch: if the body does not begin at the first byte that is missing.
        ChecksumMismatch: if the body has another checksum.
        DigestMismatch: if the whole has another hash than was declared; it is gone then.
        StorageFull, QuotaExceeded, NotFound, UploadExpired
    """
    try:
        with _opened(parts, row) as file:
            row = await run_in_threadpool(_resume, parts, row, file)
            _check_offset(row, offset)
            body = _Body(parts, row, file, checksum)
            async with parts.receptions.arriving(row.id) as arrival:
                try:
                    await pour(arrival.heard(chunks), body.write, max_bytes=row.size - row.offset)
                    body.is_whole = True
                finally:
                    await run_in_threadpool(body.close)
                return await run_in_threadpool(_finish, parts, row, file)
    except UploadLost:
        row = await run_in_threadpool(_without_bytes, parts, row)
        _check_offset(row, offset)
        return row


def resume(parts: Parts, row: UploadRow) -> UploadRow:
    """Finish an upload of which every byte came before the process that received them died."""
    if row.artifact is not None or row.offset < row.size:
        return row
    try:
        with _opened(parts, row) as file:
            return _finish(parts, _resume(parts, row, file), file)
    except UploadLost:
        return _without_bytes(parts, row)


def discard(parts: Parts, row: UploadRow) -> None:
    """The row first: a file without a row is swept, a row without a file would have to be explained."""
    with parts.sessions.begin() as session:
        delete_upload(session, row.id)
    parts.staging.discard(row.id)


class _Body:
    """Writes one body. `write` and `close` run on threads, one at a time."""

    def __init__(self, parts: Parts, row: UploadRow, file: StagedFile, checksum: Checksum | None) -> None:
        self._parts = parts
        self._row = row
        self._file = file
        self._checksum = checksum
        self._hash = None if checksum is None else checksum.start()
        self._durable = row.offset
        self._syncing: Future[None] | None = None
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self.is_whole = False

    def write(self, block: bytes) -> None:
        with _full_disk_told():
            self._file.write(block)
        if self._hash is not None:
            self._hash.update(block)
        elif self._file.offset - self._durable >= DURABLE_BYTES and (self._syncing is None or self._syncing.done()):
            self._wait_for_sync()
            # Beside the writing, because a disk that is told to sync answers late.
            self._syncing = self._syncer.submit(self._make_durable)

    def close(self) -> None:
        """Keep what arrived.

        Raises:
            ChecksumMismatch: if it is whole and not what was announced; it is taken back.
        """
        try:
            self._wait_for_sync()
        finally:
            self._syncer.shutdown()
        if not self._is_as_announced():
            self._file.roll_back()
            if self.is_whole:
                raise ChecksumMismatch("The body has another checksum; nothing of it was kept.")
        if self._file.offset > self._durable:
            self._make_durable()

    def _is_as_announced(self) -> bool:
        if self._checksum is None or self._hash is None:
            return True
        return self.is_whole and self._hash.digest() == self._checksum.digest

    def _wait_for_sync(self) -> None:
        if self._syncing is not None:
            self._syncing.result()
            self._syncing = None

    def _make_durable(self) -> None:
        with _full_disk_told():
            offset = self._file.sync()
        self._parts.metrics.uploaded.inc(offset - self._durable)
        self._durable = offset
        with self._parts.sessions.begin() as session:
            advance_upload(
                session, self._row.id, offset=offset, lifetime_seconds=self._parts.settings.upload_lifetime_seconds
            )


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except blobs.StorageFull:
        raise StorageFull("The disk of this service is full; what arrived before is kept.") from None


@contextmanager
def _opened(parts: Parts, row: UploadRow) -> Iterator[StagedFile]:
    try:
        with parts.staging.open(row.id) as file:
            yield file
    except UploadBusy:
        raise UploadLocked("Another request is sending bytes of this upload.") from None


def _check_offset(row: UploadRow, offset: int) -> None:
    if row.offset != offset:
        raise OffsetMismatch(
            f"The next byte of this upload is number {row.offset}.", headers={"upload-offset": str(row.offset)}
        )


def _current(parts: Parts, row: UploadRow) -> UploadRow:
    with parts.sessions() as session:
        current = find_upload(session, project=row.project, upload_id=row.id)
    if current is None:
        raise NotFound("This upload is gone; begin a new one.")
    if current.is_expired:
        raise UploadExpired("The time to go on with this upload is over; begin a new one.")
    return current


def _resume(parts: Parts, row: UploadRow, file: StagedFile) -> UploadRow:
    """The upload as it is now that nobody else writes to it."""
    current = _current(parts, row)
    if current.artifact is None:
        file.resume(current.offset)
    return current


def _without_bytes(parts: Parts, row: UploadRow) -> UploadRow:
    """An upload whose staged bytes are gone: it has become an artifact meanwhile, or is lost."""
    current = _current(parts, row)
    if current.artifact is None:
        discard(parts, current)
        raise NotFound("The bytes of this upload are gone; begin a new one.")
    return current


def _finish(parts: Parts, row: UploadRow, file: StagedFile) -> UploadRow:
    current = _current(parts, row)
    if current.artifact is not None or current.offset < current.size:
        return current
    try:
        with _full_disk_told():
            blob = file.store_in(parts.blobs, current.expected)
    except blobs.DigestMismatch as wrong:
        discard(parts, current)
        raise DigestMismatch(f"The upload hashes to {wrong.actual}, not to what was declared; it is gone.") from None
    with quota_told(), parts.sessions.begin() as session:
        finished = finish_upload(session, current, blob)
    parts.staging.discard(row.id)
    return finished
