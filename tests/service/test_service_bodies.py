"""How a body is handed over: in order, without a gap, and nothing after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from starlette.requests import ClientDisconnect

from service.bodies import BLOCK_BYTES, pour
from service.problems import ArtifactTooLarge, StorageFull

CHUNKS = [bytes([number]) * size for number, size in enumerate([1, 300_000, 900_000, 5, 2_000_000, 700_000] * 3)]


async def sent(chunks: Sequence[bytes], *, is_cut: bool = False) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if is_cut:
        raise ClientDisconnect


def test_every_byte_is_written_once_and_in_order() -> None:
    for chunks in (CHUNKS, [b"x"] * 100, [bytes(10)] * (3 * BLOCK_BYTES // 10), []):
        written = bytearray()
        asyncio.run(pour(sent(chunks), written.extend, max_bytes=10**8))
        assert written == b"".join(chunks)


def test_what_came_before_the_cut_is_written() -> None:
    written = bytearray()
    with pytest.raises(ClientDisconnect):
        asyncio.run(pour(sent(CHUNKS, is_cut=True), written.extend, max_bytes=10**8))
    assert written == b"".join(CHUNKS)


def test_a_body_over_the_limit_is_never_written_beyond_it() -> None:
    written = bytearray()
    with pytest.raises(ArtifactTooLarge):
        asyncio.run(pour(sent(CHUNKS), written.extend, max_bytes=2_000_000))
    assert written == b"".join(CHUNKS)[: len(written)]
    assert len(written) <= 2_000_000


def test_nothing_follows_a_block_that_failed() -> None:
    written = bytearray()

    def half_and_fail_once(block: bytes) -> None:
        is_first = not written
        written.extend(block[: len(block) // 2] if is_first else block)
        if is_first:
            raise StorageFull("for a moment")

    with pytest.raises(StorageFull):
        asyncio.run(pour(sent([bytes(BLOCK_BYTES)] * 4), half_and_fail_once, max_bytes=10**8))
    assert len(written) == BLOCK_BYTES // 2
