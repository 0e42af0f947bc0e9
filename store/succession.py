"""A worker that is known to be dead need not be waited for: its successor takes its jobs before their leases lapse."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from saddlescope.contract.vocabulary import JobStatus
from store.presence import retire_worker
from store.reconciling import WORKER_LOST
from store.tables import Job
from store.transitions import requeue_or_end


def bury_workers(session: Session, names: Collection[str]) -> list[str]:
    """Forget workers whose processes are proved dead, and queue their jobs again; returns those that are queued.

    The others ended as they do when a lease lapses: cancelled, past their deadline, or after the last attempt.
    """
    for name in names:
        retire_worker(session, name)
    held = session.execute(
        select(Job.id, Job.fence, Job.attempt)
        .where(Job.status == JobStatus.RUNNING, Job.worker.in_(names))
        .with_for_update(skip_locked=True)
    ).all()
    back = []
    for job in held:
        guards = (Job.status == JobStatus.RUNNING, Job.fence == job.fence)
        if requeue_or_end(session, job.id, *guards, attempt=job.attempt, error=WORKER_LOST) is JobStatus.QUEUED:
            back.append(job.id)
    return back
