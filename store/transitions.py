"""The guarded UPDATEs that move a job from state to state, each with its event and the end of its attempt.

A guard is part of the UPDATE's WHERE, so a transition either happens in one statement or changes nothing at all.
"""

from __future__ import annotations

from pydantic import JsonValue
from sqlalchemy import ColumnElement, or_, update
from sqlalchemy.orm import Session

from saddlescope.contract.jobs import Usage
from saddlescope.contract.vocabulary import FailureCode, JobStatus
from saddlescope.contract.webhooks import WebhookEvent
from store.events import append_event
from store.messages import enqueue_deliveries
from store.moments import now, seconds_from_now
from store.records import Claim, JobError
from store.tables import Attempt, Job

BACKOFF_SECONDS = 5
BACKOFF_GROWTH = 3
DEADLINE_BEFORE_START = JobError(
    FailureCode.DEADLINE_EXCEEDED,
    "the deadline passed before a worker was free to start the job; submit it with a longer Cancel-After",
    None,
)
DEADLINE_AFTER_START = JobError(
    FailureCode.DEADLINE_EXCEEDED,
    "the deadline passed after the job was started and before it was done; submit it with a longer Cancel-After",
    None,
)

Guard = ColumnElement[bool]


def held(claim: Claim) -> tuple[Guard, ...]:
    """True while no other worker has claimed the job and it has not ended."""
    return (Job.id == claim.job_id, Job.fence == claim.fence, Job.status == JobStatus.RUNNING)


def queued(job_id: str) -> tuple[Guard, ...]:
    return (Job.id == job_id, Job.status == JobStatus.QUEUED)


def before_deadline() -> Guard:
    return or_(Job.deadline_at.is_(None), Job.deadline_at > now())


def backoff_seconds(attempt: int) -> int:
    """How long a job rests after its n-th attempt has failed: 5 s, 15 s, …"""
    return int(BACKOFF_SECONDS * BACKOFF_GROWTH ** (attempt - 1))


def end(
    session: Session,
    job_id: str,
    *guards: Guard,
    status: JobStatus,
    error: JobError | None = None,
    verdict: str | None = None,
    usage: Usage | None = None,
) -> bool:
    """Enter a terminal state if every guard holds; there is no way out of it."""
    ended = session.execute(
        update(Job)
        .where(Job.id == job_id, *guards)
        .values(
            status=status,
            finished_at=now(),
            lease_until=None,
            waiting_because=None,
            verdict=verdict,
            usage=usage,
            error_code=None if error is None else error.code,
            error_detail=None if error is None else error.detail,
            error_pointer=None if error is None else error.pointer,
        )
        .returning(Job.fence)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if ended is None:
        return False
    data: dict[str, JsonValue] = {}
    if verdict is not None:
        data = {"verdict": verdict}
    if error is not None:
        data = {"code": error.code, "detail": error.detail}
    if error is not None and error.code is FailureCode.DEADLINE_EXCEEDED:
        data["started"] = ended.fence > 0
    close_attempt(session, job_id, ended.fence, outcome=status if error is None else error.code, error=error)
    append_event(session, job_id, f"job.{status}", data)
    enqueue_deliveries(session, job_id, WebhookEvent(f"job.{status}"))
    return True


def requeue(session: Session, job_id: str, *guards: Guard, attempt: int, error: JobError) -> bool:
    """Queue the job once more after a rest, if every guard holds, attempts remain, and it is still wanted."""
    seconds = backoff_seconds(attempt)
    requeued = session.execute(
        update(Job)
        .where(
            Job.id == job_id,
            *guards,
            Job.attempt < Job.max_attempts,
            Job.cancel_requested_at.is_(None),
            before_deadline(),
        )
        .values(
            status=JobStatus.QUEUED,
            not_before=seconds_from_now(seconds),
            dispatched_at=None,
            lease_until=None,
            worker=None,
            started_at=None,
            progress=None,
            partial=None,
        )
        .returning(Job.fence)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if requeued is None:
        return False
    close_attempt(session, job_id, requeued.fence, outcome=error.code, error=error)
    append_event(
        session,
        job_id,
        "job.requeued",
        {"code": error.code, "detail": error.detail, "attempt": attempt, "backoff_seconds": seconds},
    )
    return True


def requeue_or_end(
    session: Session, job_id: str, *guards: Guard, attempt: int, error: JobError, usage: Usage | None = None
) -> JobStatus | None:
    """After a fault that another attempt may not meet: the state the job went to, or None if a guard did not hold."""
    if requeue(session, job_id, *guards, attempt=attempt, error=error):
        return JobStatus.QUEUED
    if end(session, job_id, *guards, Job.cancel_requested_at.is_not(None), status=JobStatus.CANCELLED, usage=usage):
        return JobStatus.CANCELLED
    late = end(
        session,
        job_id,
        *guards,
        Job.deadline_at <= now(),
        status=JobStatus.FAILED,
        error=DEADLINE_AFTER_START,
        usage=usage,
    )
    if late or end(session, job_id, *guards, status=JobStatus.FAILED, error=error, usage=usage):
        return JobStatus.FAILED
    return None


def close_attempt(session: Session, job_id: str, fence: int, *, outcome: str, error: JobError | None) -> None:
    """Write down how the claim with this fence ended; a job that was never claimed has none."""
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.fence == fence, Attempt.finished_at.is_(None))
        .values(finished_at=now(), outcome=outcome, detail=None if error is None else error.detail)
        .execution_options(synchronize_session=False)
    )


def keep_errors(session: Session, claim: Claim, errors: str) -> None:
    """Keep the last words of an attempt, for those who run the service."""
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == claim.job_id, Attempt.fence == claim.fence)
        .values(errors=errors)
        .execution_options(synchronize_session=False)
    )


def storable(text: str) -> str:
    """PostgreSQL has no text with NUL, and a fault may quote hostile bytes."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
