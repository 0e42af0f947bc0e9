"""Reads of jobs that arrive at the same time share one statement, one connection and one hop to a thread."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, final

from fastapi import Depends, Request
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from store.jobs import find_jobs
from store.records import JobRow

_AT_ONCE = 128

_Found = dict[str, JobRow]


@dataclass(frozen=True)
class _Batch:
    job_ids: set[str]
    reading: asyncio.Task[_Found]


@final
class SharedReads:
    """While one batch is read, the next one gathers: whoever asks alone waits for nobody.

    An answer is never older than its question: a batch is closed before it is read.
    """

    def __init__(self, glances: sessionmaker[Session]) -> None:
        self._glances = glances
        self._turn = asyncio.Lock()
        self._gathering: _Batch | None = None

    async def job(self, *, project: str, job_id: str) -> JobRow | None:
        """The job as it is now; None if the project has no such job."""
        batch = self._gathering
        if batch is None or len(batch.job_ids) == _AT_ONCE:
            job_ids = set[str]()
            batch = self._gathering = _Batch(job_ids, asyncio.create_task(self._read(job_ids)))
        batch.job_ids.add(job_id)
        # A reader who goes away does not take the others' answer along.
        row = (await asyncio.shield(batch.reading)).get(job_id)
        return row if row is not None and row.project == project else None

    async def _read(self, job_ids: set[str]) -> _Found:
        async with self._turn:
            if self._gathering is not None and self._gathering.job_ids is job_ids:
                self._gathering = None
            return await run_in_threadpool(self._find, job_ids)

    def _find(self, job_ids: set[str]) -> _Found:
        with self._glances() as session:
            return find_jobs(session, job_ids)


def shared_reads(request: Request) -> SharedReads:
    """Those of the application."""
    reads: SharedReads = request.app.state.reads
    return reads


async def _shared_reads(request: Request) -> SharedReads:
    return shared_reads(request)


SharedReadsOf = Annotated[SharedReads, Depends(_shared_reads)]
