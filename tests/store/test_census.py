"""Operators are told how many jobs are where, on both databases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.vocabulary import FailureCode, JobStatus
from saddlescope.contract.webhooks import WebhookEvent
from store import tables
from store.census import count_by_status, count_lapsed, count_overdue_deliveries, take_census
from store.database import pending_revisions
from store.messages import enqueue_test
from store.moments import seconds_from_now
from store.queue import claim_job, finish_failed
from store.records import JobRow
from store.webhooks import create_webhook

Submit = Callable[..., JobRow]


def test_a_census_counts_each_queue_and_tells_how_long_its_oldest_job_has_been_eligible(
    sessions: sessionmaker[Session], submit: Submit
) -> None:
    jobs = [submit(of={"queue": queue}) for queue in ("cpu", "cpu", "cpu", "gpu")]
    with sessions.begin() as session:
        for job, seconds in zip(jobs, (-50, -10, 60, -20), strict=True):
            session.execute(
                update(tables.Job).where(tables.Job.id == job.id).values(not_before=seconds_from_now(seconds))
            )
    with sessions.begin() as session:
        assert claim_job(session, job_id=jobs[3].id, queues=["gpu"], worker="w") is not None
    with sessions() as session:
        cpu, gpu = take_census(session)
    assert (cpu.queue, cpu.num_queued, cpu.num_running) == ("cpu", 3, 0)
    assert 50 <= cpu.oldest_seconds < 80
    assert (gpu.queue, gpu.num_queued, gpu.num_running, gpu.oldest_seconds) == ("gpu", 0, 1, 0.0)


def test_every_state_is_counted_also_when_nothing_is_in_it(sessions: sessionmaker[Session], submit: Submit) -> None:
    with sessions() as session:
        assert dict(count_by_status(session)) == dict.fromkeys(JobStatus, 0)
    submit()
    with sessions.begin() as session:
        claim = claim_job(session, job_id=None, queues=["cpu"], worker="w")
        assert claim is not None
        assert finish_failed(session, claim, code=FailureCode.INTERNAL, detail="", retryable=False)
    submit()
    with sessions() as session:
        counted = count_by_status(session)
    assert (counted[JobStatus.FAILED], counted[JobStatus.QUEUED], sum(counted.values())) == (1, 1, 2)


@pytest.mark.parametrize(("lease_seconds", "lapsed"), [(60, 0), (-1, 1)])
def test_a_lease_has_lapsed_when_its_time_is_over(
    sessions: sessionmaker[Session], submit: Submit, lease_seconds: float, lapsed: int
) -> None:
    submit()
    with sessions.begin() as session:
        claim_job(session, job_id=None, queues=["cpu"], worker="w", lease_seconds=lease_seconds)
    with sessions() as session:
        assert count_lapsed(session) == lapsed


def test_messages_that_are_due_are_counted_and_those_that_wait_are_not(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        assert count_overdue_deliveries(session) == 0
    with sessions.begin() as session:
        webhook = create_webhook(
            session, project="default", url="https://a.example/x", events=tuple(WebhookEvent), limit=1
        )
        for _ in range(3):
            enqueue_test(session, project="default", webhook_id=webhook.id, url=webhook.url)
        waiting = session.scalars(select(tables.Delivery)).first()
        assert waiting is not None
        waiting.next_at = session.scalar(select(seconds_from_now(60)))
    with sessions() as session:
        assert count_overdue_deliveries(session) == 2


def test_an_empty_database_lacks_every_version_and_a_migrated_one_none(empty_url: str, database_url: str) -> None:
    assert "0001" in pending_revisions(empty_url)[-1]
    assert pending_revisions(database_url) == ()
