"""The history of a job: durable, and numbered under the lock of the job's row, so that a reader can resume."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from store import tables
from store.identifiers import new_id

INSERT_EVENT = insert(tables.Table.metadata.tables["events"])


@dataclass(frozen=True)
class EventRow:
    id: str
    job_id: str
    type: str
    created_at: datetime
    data: dict[str, JsonValue]


# `type` and `id` are the words of the contract.
def append_event(session: Session, job_id: str, type: str, data: dict[str, JsonValue]) -> EventRow:  # noqa: A002
    """Append to a job's history, in the caller's transaction."""
    # Whoever appends holds the job's row until its commit: numbers are without gaps and in the order of the commits.
    session.execute(select(tables.Job.id).where(tables.Job.id == job_id).with_for_update())
    last = session.scalar(select(func.max(tables.Event.number)).where(tables.Event.job_id == job_id))
    event = tables.Event(id=new_id("evt"), job_id=job_id, number=(last or 0) + 1, type=type, data=data)
    session.add(event)
    session.flush()
    return _row(event)


def first_event(session: Session, job_id: str, type: str, data: dict[str, JsonValue]) -> None:  # noqa: A002
    """Begin the history of a job that is inserted in this transaction, so that nobody else can append to it."""
    session.execute(INSERT_EVENT, {"id": new_id("evt"), "job_id": job_id, "number": 1, "type": type, "data": data})


def list_events(session: Session, job_id: str, after_id: str | None = None) -> tuple[EventRow, ...]:
    """The job's history from the beginning, or what came after one entry; all of it when the entry is not the job's.

    Whether the caller may see the job is for the caller to ask first (`find_job`).
    """
    query = select(tables.Event).where(tables.Event.job_id == job_id).order_by(tables.Event.number)
    if after_id is not None:
        seen = select(tables.Event.number).where(tables.Event.job_id == job_id, tables.Event.id == after_id)
        query = query.where(tables.Event.number > func.coalesce(seen.scalar_subquery(), 0))
    return tuple(_row(event) for event in session.scalars(query))


def _row(event: tables.Event) -> EventRow:
    return EventRow(event.id, event.job_id, event.type, event.created_at, event.data)
