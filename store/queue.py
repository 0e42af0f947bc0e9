"""The state machine of a job. SQL is the truth: the broker only says where to look.

              insert_job
                  │ a
                  ▼     b claim_job
              ┌────────┐──────────────▶┌─────────┐
              │ queued │               │ running │──┐ c heartbeat (the lease is renewed)
              └────────┘◀──────────────└─────────┘◀─┘
               │     │   d finish_failed  │  │  │
               │     │     (retryable)    │  │  │ g finish_succeeded
             h │   i │   e requeue_lapsed │  │  └───────────────────▶ succeeded
               │     │   f release        │  │ j finish_failed, requeue_lapsed at the last attempt
               │     └────────────────────┼──┴──────────────────────▶ failed
               └──────────────────────────┴─────────────────────────▶ cancelled
                                       k finish_cancelled

    b  fence + 1, attempt + 1, a lease on the database's clock       h  request_cancel: at once
    d  after a backoff, while attempts remain                        i  expire_deadlines: deadline_exceeded
    e  like d, with the code worker_lost                             k  also d, e, f once a cancel was requested
    f  at once, and the attempt is not counted

Every arrow is one UPDATE that names the state it leaves and, from `running`, the fence of the claim. A worker that
lost its lease holds an old fence and changes nothing. The right-hand states have no way out. Each arrow but c appends
an event in the same transaction; c does when the progress is worth one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from saddlescope.contract.jobs import Partial, Progress, Usage
from saddlescope.contract.limits import LEASE_SECONDS
from saddlescope.contract.reports import Report
from saddlescope.contract.vocabulary import FailureCode, JobStatus
from store.blobs import Blob
from store.claims import claim_job
from store.events import append_event
from store.moments import now, seconds_from_now
from store.reconciling import PendingJob, expire_deadlines, mark_dispatched, requeue_lapsed, undispatched_jobs
from store.records import Claim, JobError, JobRow, job_row
from store.reports import record_report
from store.tables import Attempt, Job
from store.transitions import end, held, keep_errors, queued, requeue_or_end, storable

__all__ = [
    "Claim",
    "Instruction",
    "PendingJob",
    "claim_job",
    "expire_deadlines",
    "finish_cancelled",
    "finish_failed",
    "finish_succeeded",
    "heartbeat",
    "mark_dispatched",
    "release",
    "request_cancel",
    "requeue_lapsed",
    "undispatched_jobs",
]

PROGRESS_EVENT_FRACTION = 0.1


class Instruction(StrEnum):
    """What the answer to a heartbeat tells the worker to do."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    DEADLINE = "deadline"
    LOST = "lost"


def heartbeat(
    session: Session,
    claim: Claim,
    *,
    progress: Progress | None = None,
    partial: Partial | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> Instruction:
    """Renew the lease and publish how far the job is; what is None keeps its last value.

    A lease that has lapsed meanwhile is renewed like any other, as long as nobody else has taken the job. Progress is
    dated by the database's clock, whatever the worker's says.
    """
    before = session.execute(
        select(Job.progress, now().label("moment")).where(*held(claim)).with_for_update()
    ).one_or_none()
    if before is None:
        return Instruction.LOST
    renewal = update(Job).where(*held(claim)).values(lease_until=seconds_from_now(lease_seconds))
    if progress is not None:
        progress = progress.model_copy(update={"updated_at": before.moment})
        renewal = renewal.values(progress=progress)
    if partial is not None:
        renewal = renewal.values(partial=partial)
    cancel_requested_at, is_late = session.execute(
        renewal.returning(Job.cancel_requested_at, Job.deadline_at <= now()).execution_options(
            synchronize_session=False
        )
    ).one()
    if progress is not None and _is_worth_an_event(before.progress, progress):
        append_event(session, claim.job_id, "job.progress", progress.model_dump(mode="json"))
    if cancel_requested_at is not None:
        return Instruction.CANCEL
    return Instruction.DEADLINE if is_late else Instruction.CONTINUE


def finish_succeeded(
    session: Session,
    claim: Claim,
    *,
    report: Report,
    spectrum_blob: Blob,
    landscape_blob: Blob | None,
    escape_blobs: Sequence[Blob],
    usage: Usage | None,
) -> bool:
    """Store the answer with its blobs; False for a worker that lost the job, and then nothing is stored."""
    done = end(session, claim.job_id, *held(claim), status=JobStatus.SUCCEEDED, verdict=report.verdict, usage=usage)
    if done:
        record_report(
            session,
            project=claim.project,
            job_id=claim.job_id,
            report=report,
            spectrum=spectrum_blob,
            landscape=landscape_blob,
            escapes=escape_blobs,
        )
    return done


def finish_failed(
    session: Session,
    claim: Claim,
    *,
    code: FailureCode,
    detail: str,
    retryable: bool,
    usage: Usage | None = None,
    pointer: str | None = None,
    errors: str = "",
) -> bool:
    """End the job with a problem, or queue it again if another attempt may do better; False for a lost claim.

    `errors` is what the attempt said last on its standard error; it is kept with the attempt.
    """
    error = JobError(code, storable(detail), pointer)
    if not retryable:
        done = end(session, claim.job_id, *held(claim), status=JobStatus.FAILED, error=error, usage=usage)
    else:
        went_to = requeue_or_end(session, claim.job_id, *held(claim), attempt=claim.attempt, error=error, usage=usage)
        done = went_to is not None
    if done and errors:
        keep_errors(session, claim, storable(errors))
    return done


def finish_cancelled(session: Session, claim: Claim, *, usage: Usage | None = None) -> bool:
    return end(session, claim.job_id, *held(claim), status=JobStatus.CANCELLED, usage=usage)


def release(session: Session, claim: Claim) -> bool:
    """Give the job back because the worker must go: it is queued at once and the attempt is not counted."""
    if end(session, claim.job_id, *held(claim), Job.cancel_requested_at.is_not(None), status=JobStatus.CANCELLED):
        return True
    released = session.execute(
        update(Job)
        .where(*held(claim))
        .values(
            status=JobStatus.QUEUED,
            attempt=Job.attempt - 1,
            not_before=now(),
            dispatched_at=None,
            lease_until=None,
            worker=None,
            started_at=None,
            progress=None,
            partial=None,
        )
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if released is None:
        return False
    session.execute(delete(Attempt).where(Attempt.job_id == claim.job_id, Attempt.fence == claim.fence))
    append_event(session, claim.job_id, "job.released", {"worker": claim.worker})
    return True


def request_cancel(session: Session, *, project: str, job_id: str) -> JobRow | None:
    """Cancel a queued job at once and a running one at its next heartbeat; an ended one stays as it is."""
    own = Job.project == project
    if not end(session, job_id, own, *queued(job_id), status=JobStatus.CANCELLED):
        requested = session.execute(
            update(Job)
            .where(Job.id == job_id, own, Job.status == JobStatus.RUNNING, Job.cancel_requested_at.is_(None))
            .values(cancel_requested_at=now())
            .returning(Job.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if requested is not None:
            append_event(session, job_id, "job.cancel_requested", {})
    job = session.scalars(
        select(Job).where(Job.id == job_id, own), execution_options={"populate_existing": True}
    ).one_or_none()
    return None if job is None else job_row(job)


def _is_worth_an_event(before: Progress | None, after: Progress) -> bool:
    # Heartbeats come every few seconds for hours; history keeps a new stage and every tenth of the way.
    if before is None or before.stage is not after.stage:
        return True
    return int(after.fraction / PROGRESS_EVENT_FRACTION) > int(before.fraction / PROGRESS_EVENT_FRACTION)
