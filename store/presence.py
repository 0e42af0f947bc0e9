"""Which workers are there: for /readyz, and for the choice of a queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
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
    started_at: datetime
    seen_at: datetime


def announce_worker(session: Session, *, name: str, queues: Sequence[str], device: str, sandbox: str) -> None:
    """Say that a worker has started; a worker of the same name before it is replaced."""
    insert = insert_or(session, Worker).values(
        name=name, queues=list(queues), device=device, sandbox=sandbox, started_at=now(), seen_at=now()
    )
    new = insert.excluded
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "queues": new.queues,
                "device": new.device,
                "sandbox": new.sandbox,
                "started_at": new.started_at,
                "seen_at": new.seen_at,
            },
        )
    )


def worker_seen(session: Session, name: str) -> None:
    """Say that the worker is still there."""
    worker = session.get(Worker, name, with_for_update=True)
    if worker is not None:
        worker.seen_at = session.execute(select(now())).scalar_one()
        session.flush()


def retire_worker(session: Session, name: str) -> None:
    session.execute(delete(Worker).where(Worker.name == name))


def present_workers(session: Session, *, within_seconds: float = PRESENT_SECONDS) -> tuple[WorkerRow, ...]:
    """The workers that were seen lately."""
    rows = session.scalars(
        select(Worker).where(Worker.seen_at > seconds_from_now(-within_seconds)).order_by(Worker.name),
        execution_options={"populate_existing": True},
    )
    return tuple(
        WorkerRow(row.name, tuple(row.queues), row.device, row.sandbox, row.started_at, row.seen_at) for row in rows
    )
