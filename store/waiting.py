"""Why a queued job waits: it fits no worker that is there. Said in its row, so that whoever asks for the job reads it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from saddlescope.contract.vocabulary import JobStatus
from store.events import append_event
from store.presence import present_workers
from store.tables import Job
from store.transitions import Guard, queued

BATCH = 500


def explain_waiting(session: Session) -> list[str]:
    """Say of every queued job that no present worker can take why that is, and no longer of those that one can.

    Returns the jobs of which it was said for the first time.
    """
    served = _served_memory(session)
    stuck = and_(Job.status == JobStatus.QUEUED, _fits_nobody(served))
    session.execute(
        update(Job)
        .where(Job.status == JobStatus.QUEUED, Job.waiting_because.is_not(None), ~_fits_nobody(served))
        .values(waiting_because=None)
        .execution_options(synchronize_session=False)
    )
    rows = session.execute(
        select(Job.id, Job.queue, Job.memory_bytes)
        .where(stuck, Job.waiting_because.is_(None))
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        because = _because(row.queue, row.memory_bytes, served)
        session.execute(
            update(Job)
            .where(*queued(row.id))
            .values(waiting_because=because)
            .execution_options(synchronize_session=False)
        )
        append_event(session, row.id, "job.waiting", {"because": because})
    return [row.id for row in rows]


def _served_memory(session: Session) -> dict[str, int | None]:
    """The most that a job of each queue may take on a worker that is there; None where one does not say."""
    served: dict[str, int | None] = {}
    for worker in present_workers(session):
        for queue in worker.queues:
            most = served.get(queue, 0)
            served[queue] = None if most is None or worker.memory_bytes is None else max(most, worker.memory_bytes)
    return served


def _fits_nobody(served: Mapping[str, int | None]) -> Guard:
    # A job of unknown size fits everywhere.
    size = func.coalesce(Job.memory_bytes, 0)
    too_large = [and_(Job.queue == queue, size > most) for queue, most in served.items() if most is not None]
    return or_(Job.queue.not_in(served), *too_large)


def _because(queue: str, memory_bytes: int | None, served: Mapping[str, int | None]) -> str:
    if queue not in served:
        return f"no worker of the queue {queue!r} is there; start one, or submit to a queue that is served"
    return (
        f"it needs at least {_gibibytes(memory_bytes or 0)}, and the largest worker of the queue {queue!r} gives a job "
        f"{_gibibytes(served[queue] or 0)}; start a larger worker"
    )


def _gibibytes(amount: int) -> str:
    return f"{amount / 2**30:.3g} GiB"
