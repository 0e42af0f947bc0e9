"""Which workers are there: for /readyz, and for the choice of a queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from store.moments import now, seconds_from_now
from store.tables import Worker
from store.upserts import insert_or

PRESENT_SECONDS = 60


@dataclass(frozen=True)
class WorkerRow:
    name: str
    queues: tuple[str, ...]
    device: str
    sandbox: str
    memory_bytes: int | None
    """What one of its jobs may take; None if nobody knows."""
    started_at: datetime
    seen_at: datetime


def announce_worker(
    session: Session,
    *,
    name: str,
    queues: Sequence[str],
    device: str,
    sandbox: str,
    memory_bytes: int | None = None,
) -> None:
    """Say that a worker has started; a worker of the same name before it is replaced."""
    insert = insert_or(session, Worker).values(
        name=name,
        queues=list(queues),
        device=device,
        sandbox=sandbox,
        memory_bytes=memory_bytes,
        started_at=now(),
        seen_at=now(),
    )
    new = insert.excluded
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "queues": new.queues,
                "device": new.device,
                "sandbox": new.sandbox,
                "memory_bytes": new.memory_bytes,
                "started_at": new.started_at,
                "seen_at": new.seen_at,
            },
        )
    )


def worker_seen(session: Session, name: str) -> datetime:
    """Say that the worker is still there; gives the moment on the database's clock."""
    session.execute(
        update(Worker).where(Worker.name == name).values(seen_at=now()).execution_options(synchronize_session=False)
    )
    return session.execute(select(now())).scalar_one()


def retire_worker(session: Session, name: str) -> None:
    session.execute(delete(Worker).where(Worker.name == name))


def forget_workers(session: Session, *, unseen_seconds: float) -> list[str]:
    """Forget workers that died without a word, long after the last job of theirs was taken from them."""
    gone = session.scalars(
        delete(Worker).where(Worker.seen_at <= seconds_from_now(-unseen_seconds)).returning(Worker.name)
    )
    return sorted(gone)


def present_workers(session: Session, *, within_seconds: float = PRESENT_SECONDS) -> tuple[WorkerRow, ...]:
    """The workers that were seen lately."""
    rows = session.scalars(
        select(Worker).where(Worker.seen_at > seconds_from_now(-within_seconds)).order_by(Worker.name),
        execution_options={"populate_existing": True},
    )
    return tuple(
        WorkerRow(row.name, tuple(row.queues), row.device, row.sandbox, row.memory_bytes, row.started_at, row.seen_at)
        for row in rows
    )
