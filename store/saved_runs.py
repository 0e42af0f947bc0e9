"""Where long jobs got to: one state a job, written under its fence, kept until the job ends."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from saddlescope.contract.vocabulary import JobStatus
from store.blobs import Blob
from store.moments import now
from store.records import Claim, SavedState
from store.tables import Job, SavedRun
from store.transitions import held

BATCH = 500
ENDED = tuple(status for status in JobStatus if status.is_terminal)


@dataclass(frozen=True)
class Recorded:
    """`replaced` is the blob of the state before, which nothing needs any more."""

    replaced: str | None


def is_held(session: Session, claim: Claim) -> bool:
    """Whether the worker has the job still."""
    return session.scalars(select(Job.id).where(*held(claim))).one_or_none() is not None


def record_saved_run(session: Session, claim: Claim, *, blob: Blob, matvecs: int) -> Recorded | None:
    """Keep a durable state for the job's next attempt; None for a worker that lost the job, and then nothing changes."""
    # Held until the commit, so that the job neither ends nor goes to another worker meanwhile.
    if session.scalars(select(Job.id).where(*held(claim)).with_for_update()).one_or_none() is None:
        return None
    row = session.get(SavedRun, claim.job_id, with_for_update=True)
    replaced = None
    if row is None:
        session.add(_row(claim, blob, matvecs))
    else:
        replaced = row.blob if row.blob != blob.id else None
        row.fence, row.blob, row.size, row.matvecs = claim.fence, blob.id, blob.size, matvecs
        row.saved_at = session.execute(select(now())).scalar_one()
    session.flush()
    return Recorded(replaced)


def find_saved_run(session: Session, job_id: str) -> SavedState | None:
    row = session.get(SavedRun, job_id, populate_existing=True)
    return None if row is None else SavedState(row.blob, row.size, row.matvecs)


def ended_with_state(session: Session) -> list[str]:
    """Jobs that have ended and whose state nobody will go on from."""
    query = select(SavedRun.job_id).join(Job, Job.id == SavedRun.job_id).where(Job.status.in_(ENDED)).limit(BATCH)
    return list(session.scalars(query))


def forget_saved_run(session: Session, job_id: str) -> str | None:
    """Forget the state of a job if the job has ended; gives the blob that it named."""
    has_ended = select(Job.id).where(Job.id == SavedRun.job_id, Job.status.in_(ENDED)).exists()
    return session.scalars(
        delete(SavedRun)
        .where(SavedRun.job_id == job_id, has_ended)
        .returning(SavedRun.blob)
        .execution_options(synchronize_session=False)
    ).one_or_none()


def _row(claim: Claim, blob: Blob, matvecs: int) -> SavedRun:
    return SavedRun(job_id=claim.job_id, fence=claim.fence, blob=blob.id, size=blob.size, matvecs=matvecs)
