"""How many jobs are where, for operators: a handful of queries whose cost goes with the jobs that are alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from saddlescope.contract.vocabulary import JobStatus
from saddlescope.contract.webhooks import DeliveryStatus
from store.database import database_now
from store.moments import now
from store.tables import Delivery, Job

_COUNTED = select(Job.status, func.count().label("num_jobs")).group_by(Job.status)
_ALIVE = (
    select(Job.queue, Job.status, func.count().label("num_jobs"))
    .where(Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)))
    .group_by(Job.queue, Job.status)
)
_OLDEST = (
    select(Job.queue, func.min(Job.not_before).label("since"))
    .where(Job.status == JobStatus.QUEUED, Job.not_before <= now())
    .group_by(Job.queue)
)
_OVERDUE = select(func.count()).where(Delivery.status == DeliveryStatus.PENDING, Delivery.next_at <= now())
_LAPSED = select(func.count()).where(Job.status == JobStatus.RUNNING, Job.lease_until <= now())


@dataclass(frozen=True)
class QueueCensus:
    """One queue: its jobs, and how long the longest-waiting one has been eligible."""

    queue: str
    num_queued: int
    num_running: int
    oldest_seconds: float


def count_by_status(session: Session, *, project: str | None = None) -> Mapping[JobStatus, int]:
    """Jobs in every state, those with none included, of one project or of all. An index alone answers it."""
    query = _COUNTED if project is None else _COUNTED.where(Job.project == project)
    counted = {row.status: row.num_jobs for row in session.execute(query)}
    return {status: counted.get(status, 0) for status in JobStatus}


def take_census(session: Session) -> tuple[QueueCensus, ...]:
    """Every queue that has queued or running jobs, by name."""
    counted = {(row.queue, row.status): row.num_jobs for row in session.execute(_ALIVE)}
    here = database_now(session)
    ages = {row.queue: (here - row.since).total_seconds() for row in session.execute(_OLDEST)}
    return tuple(
        QueueCensus(
            queue=queue,
            num_queued=counted.get((queue, JobStatus.QUEUED), 0),
            num_running=counted.get((queue, JobStatus.RUNNING), 0),
            oldest_seconds=max(0.0, ages.get(queue, 0.0)),
        )
        for queue in sorted({queue for queue, _ in counted})
    )


def count_lapsed(session: Session) -> int:
    """Running jobs whose lease has lapsed and that the reconciler has not taken back yet."""
    return session.scalar(_LAPSED) or 0


def count_overdue_deliveries(session: Session) -> int:
    """Messages to webhooks whose time has come and that have not left."""
    return session.scalar(_OVERDUE) or 0
