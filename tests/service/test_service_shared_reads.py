"""Reads that share a statement, on both databases: each answer is as if its reader had been alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from test_service_access import TOY

from saddlescope.contract.vocabulary import JobStatus
from service.parts import Parts
from service.shared_reads import SharedReads


@pytest.fixture
def jobs(client: TestClient) -> list[str]:
    return [client.post("/v1/jobs", json={**TOY, "force": True}).json()["id"] for _ in range(5)]


@pytest.fixture
def statements(parts: Parts) -> Iterator[list[str]]:
    said: list[str] = []

    def note(*arguments: object) -> None:
        said.append(str(arguments[2]))

    event.listen(parts.engine, "before_cursor_execute", note)
    yield said
    event.remove(parts.engine, "before_cursor_execute", note)


def test_three_hundred_readers_ask_a_few_times(parts: Parts, jobs: list[str], statements: list[str]) -> None:
    unknown = "job_" + "0" * 32

    async def ask() -> None:
        reads = SharedReads(parts.glances)
        asked = [*jobs, unknown] * 50
        rows = await asyncio.gather(*(reads.job(project="default", job_id=one) for one in asked))
        assert [None if row is None else row.id for row in rows] == [*jobs, None] * 50
        assert await reads.job(project="another", job_id=jobs[0]) is None

    asyncio.run(ask())
    assert 2 <= sum("jobs" in statement for statement in statements) <= 6


def test_an_answer_is_never_older_than_its_question(parts: Parts, client: TestClient, jobs: list[str]) -> None:
    is_reading, may_end = threading.Event(), threading.Event()

    def hold(*arguments: object) -> None:
        if "FROM jobs" in str(arguments[2]) and not is_reading.is_set():
            is_reading.set()
            assert may_end.wait(60)

    async def ask() -> None:
        reads = SharedReads(parts.glances)
        event.listen(parts.engine, "after_cursor_execute", hold)  # it has seen the job as it was
        before = asyncio.create_task(reads.job(project="default", job_id=jobs[0]))
        assert await asyncio.to_thread(is_reading.wait, 60)
        assert client.post(f"/v1/jobs/{jobs[0]}/cancel").json()["status"] == "cancelled"
        after = asyncio.create_task(reads.job(project="default", job_id=jobs[0]))
        await asyncio.sleep(0.05)
        may_end.set()
        assert (await before).status is JobStatus.QUEUED
        assert (await after).status is JobStatus.CANCELLED

    asyncio.run(ask())


def test_a_reader_who_goes_away_takes_nobody_along(parts: Parts, jobs: list[str]) -> None:
    async def ask() -> None:
        reads = SharedReads(parts.glances)
        leaving, *staying = [asyncio.create_task(reads.job(project="default", job_id=one)) for one in jobs]
        await asyncio.sleep(0)
        leaving.cancel()
        assert [row.id for row in await asyncio.gather(*staying)] == jobs[1:]

    asyncio.run(ask())


def test_an_outage_is_told_to_every_reader_and_ends(parts: Parts, jobs: list[str]) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("SELECT", None, Exception("gone"))

    async def ask() -> None:
        reads = SharedReads(parts.glances)
        event.listen(parts.engine, "before_cursor_execute", fail)
        asked = (reads.job(project="default", job_id=one) for one in jobs)
        told = await asyncio.gather(*asked, return_exceptions=True)
        event.remove(parts.engine, "before_cursor_execute", fail)
        assert {type(one) for one in told} == {OperationalError}
        assert (await reads.job(project="default", job_id=jobs[0])).id == jobs[0]

    asyncio.run(ask())
