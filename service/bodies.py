"""Request bodies: small ones into memory, large ones to disk in constant memory, both under a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from saddlescope.contract import limits
from service.problems import ArtifactTooLarge, BadRequest, RequestTooLarge, StorageFull
from store import blobs
from store.blobs import BlobWriter

# Large enough that the hop to a thread does not count, small enough for a thousand uploads at once.
BLOCK_BYTES = 2**20


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
        try:
            await run_in_threadpool(self.writer.write, block)
        except blobs.StorageFull:
            raise StorageFull("The blob store has no room for this upload; nothing of it was kept.") from None


async def pour(chunks: AsyncIterator[bytes], sink: BlobSink) -> None:
    async for chunk in chunks:
        await sink.write(chunk)
    await sink.flush()
