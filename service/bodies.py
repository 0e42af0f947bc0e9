"""Request bodies: small ones into memory, large ones to disk in constant memory, both under a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from saddlescope.contract import limits
from service.problems import ArtifactTooLarge, BadRequest, RequestTooLarge, StorageFull
from store import blobs
from store.blobs import BlobStore, BlobWriter

# Large enough that the hop to a thread does not count, small enough for a thousand uploads at once.
BLOCK_BYTES = 2**20
_FEW_CHUNKS = 16


def announced_bytes(request: Request) -> int | None:
    """Content-Length, if there is one.

    Raises:
        BadRequest: if it is no number.
    """
    announced = request.headers.get("content-length")
    if announced is None:
        return None
    if not announced.isascii() or not announced.isdigit() or len(announced) > 19:
        raise BadRequest("Content-Length is not a number.")
    return int(announced)


async def read_document(request: Request) -> bytes:
    """The whole body, of at most `limits.MAX_REQUEST_BYTES`."""
    refused = RequestTooLarge(f"A JSON body has at most {limits.MAX_REQUEST_BYTES} bytes; upload tensors as artifacts.")
    if (announced_bytes(request) or 0) > limits.MAX_REQUEST_BYTES:
        raise refused
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.MAX_REQUEST_BYTES:
            raise refused
    return bytes(body)


class BlobSink:
    """Writes chunks to a blob in large blocks, off the event loop, and refuses more than a limit."""

    def __init__(self, writer: BlobWriter, *, max_bytes: int) -> None:
        self.writer = writer
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._block = bytearray()

    async def write(self, chunk: bytes) -> None:
        """Raises ArtifactTooLarge or StorageFull."""
        self.num_bytes += len(chunk)
        if self.num_bytes > self.max_bytes:
            raise ArtifactTooLarge(f"An artifact has at most {self.max_bytes} bytes on this service.")
        self._block += chunk
        if len(self._block) >= BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        block, self._block = bytes(self._block), bytearray()
        await run_in_threadpool(writing_to(self.writer), block)


@contextmanager
def new_writer(store: BlobStore) -> Iterator[BlobWriter]:
    """A writer of the store, with a disk on which no file can be made told as full."""
    with ExitStack() as stack:
        try:
            writer = stack.enter_context(store.writer())
        except blobs.StorageFull:
            raise StorageFull("The blob store has no room for this upload; nothing of it was kept.") from None
        yield writer


def writing_to(writer: BlobWriter) -> Callable[[bytes], None]:
    """The writer's `write`, with a full disk told as the problem that it is."""

    def write(block: bytes) -> None:
        try:
            writer.write(block)
        except blobs.StorageFull:
            raise StorageFull("The blob store has no room for this upload; nothing of it was kept.") from None

    return write


async def pour(chunks: AsyncIterator[bytes], write: Callable[[bytes], None], *, max_bytes: int) -> None:
    """Hand a body to `write` in large blocks, on a thread, while the next block arrives.

    What came of a body that is cut, or before a limit, is handed over too, and no block is being written any more when
    this returns or raises.

    Raises:
        ArtifactTooLarge: if the body has more than `max_bytes`; and what `write` raises.
    """
    blocks = _Blocks(write)
    num_bytes = 0
    try:
        async for chunk in chunks:
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise ArtifactTooLarge(f"The body has more than the {max_bytes} bytes that are taken here.")
            await blocks.add(chunk)
    finally:
        await blocks.close()


class _Blocks:
    """Collects chunks to blocks, of which one is being written while the next is collected."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._chunks: list[bytes] = []
        self._num_bytes = 0
        self._writing: asyncio.Task[None] | None = None

    async def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._num_bytes += len(chunk)
        if self._num_bytes >= BLOCK_BYTES:
            await self._written()
            self._begin()

    async def close(self) -> None:
        await self._written()
        if self._num_bytes:
            self._begin()
            await self._written()

    def _begin(self) -> None:
        chunks, self._chunks, self._num_bytes = self._chunks, [], 0
        # A fast sender's chunks are large, and copying them together would cost more than it saves.
        pieces = chunks if len(chunks) <= _FEW_CHUNKS else [b"".join(chunks)]
        self._writing = asyncio.create_task(run_in_threadpool(self._write_all, pieces))

    def _write_all(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._write(piece)

    async def _written(self) -> None:
        """Wait for the block that is being written, which goes on if the waiting is cancelled."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
            writing, self._writing = self._writing, None
            if writing.exception() is not None:
                # Of the failed block a part may have been written: nothing may follow it.
                self._chunks, self._num_bytes = [], 0
            writing.result()
