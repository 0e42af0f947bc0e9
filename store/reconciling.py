"""What nobody asked for but time brings about: lost messages, lapsed leases, deadlines. Each function is idempotent."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from saddlescope.contract.vocabulary import FailureCode, JobStatus
from store.moments import now, seconds_from_now
from store.records import JobError
from store.tables import Job
from store.transitions import DEADLINE_PASSED, before_deadline, end, queued, requeue_or_end

# A broker that forgot its messages is made good after this long; a message too many finds nothing to claim.
RESEND_SECONDS = 600
BATCH = 500
WORKER_LOST = JobError(
    FailureCode.WORKER_LOST, "the worker stopped answering; submit the job again when the service is well", None
)


@dataclass(frozen=True)
class PendingJob:
    """A queued job whose workers should hear of it."""

    id: str
    queue: str


def mark_dispatched(session: Session, *job_ids: str) -> None:
    """Remember that the broker has taken the messages of these jobs."""
    session.execute(
        update(Job)
        .where(Job.id.in_(job_ids), Job.status == JobStatus.QUEUED)
        .values(dispatched_at=now())
        .execution_options(synchronize_session=False)
    )


def undispatched_jobs(
    session: Session, older_than_seconds: float, *, resend_seconds: float = RESEND_SECONDS, limit: int = BATCH
) -> tuple[PendingJob, ...]:
    """Jobs that could run but of which no message is known to have left, or left too long ago to be trusted."""
    unsent = and_(Job.dispatched_at.is_(None), Job.not_before <= seconds_from_now(-older_than_seconds))
    stale = and_(Job.not_before <= now(), Job.dispatched_at <= seconds_from_now(-resend_seconds))
    rows = session.execute(
        select(Job.id, Job.queue)
        .where(Job.status == JobStatus.QUEUED, or_(unsent, stale), before_deadline())
        .order_by(Job.priority.desc(), Job.id)
        .limit(limit)
    )
    return tuple(PendingJob(row.id, row.queue) for row in rows)


def requeue_lapsed(session: Session) -> list[str]:
    """Take running jobs from workers whose lease has lapsed; returns those that are queued again.

    The others ended: cancelled if that was asked for, failed at the deadline or after the last attempt.
    """
    lapsed = session.execute(
        select(Job.id, Job.fence, Job.attempt)
        .where(Job.status == JobStatus.RUNNING, Job.lease_until <= now())
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    back = []
    for job in lapsed:
        # The rows are held until the commit, so no heartbeat comes between the look and the UPDATE.
        guards = (Job.status == JobStatus.RUNNING, Job.fence == job.fence)
        if requeue_or_end(session, job.id, *guards, attempt=job.attempt, error=WORKER_LOST) is JobStatus.QUEUED:
            back.append(job.id)
    return back


def expire_deadlines(session: Session) -> list[str]:
    """Fail queued jobs whose deadline has passed; running ones hear of it at their next heartbeat."""
    late = session.scalars(
        select(Job.id)
        .where(Job.status == JobStatus.QUEUED, Job.deadline_at <= now())
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    return [
        job_id
        for job_id in late
        if end(
            session,
            job_id,
            *queued(job_id),
            status=JobStatus.FAILED,
            error=DEADLINE_PASSED,
        )
    ]
