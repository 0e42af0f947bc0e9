"""Waiting for a job without holding a thread or a connection of the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from fastapi import Request

from service.shared_reads import shared_reads
from store.records import JobRow

_FIRST_PAUSE_SECONDS = 0.02
_LAST_PAUSE_SECONDS = 0.25
_GROWTH = 1.1


async def pauses(seconds: float) -> AsyncIterator[None]:
    """Sleep in growing pauses: short jobs answer at once, long ones cost four queries a second."""
    ends, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while (left := ends - time.monotonic()) > 0:
        await asyncio.sleep(min(pause, left))
        pause = min(pause * _GROWTH, _LAST_PAUSE_SECONDS)
        yield


async def wait_for(request: Request, row: JobRow, *, seconds: float, until: Callable[[JobRow], bool]) -> JobRow:
    """The job as soon as `until` holds, as it is after `seconds`, or as it is when the caller has gone away."""
    if until(row):
        return row
    reads = shared_reads(request)
    async for _ in pauses(seconds):
        found = await reads.job(project=row.project, job_id=row.id)
        if found is None:
            return row
        row = found
        if until(row) or await request.is_disconnected():
            return row
    return row


def is_done(row: JobRow) -> bool:
    return row.status.is_terminal
