"""How often a job was tried, and how each attempt ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from store import tables


@dataclass(frozen=True)
class AttemptRow:
    number: int
    worker: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    """`succeeded`, `cancelled`, or the code of what went wrong; None while it runs."""
    detail: str | None
    errors: str | None
    """The end of what the runner wrote on its standard error."""


def list_attempts(session: Session, job_id: str) -> tuple[AttemptRow, ...]:
    """From the first to the last. Whether the caller may see the job is for the caller to ask first (`find_job`)."""
    rows = session.scalars(
        select(tables.Attempt).where(tables.Attempt.job_id == job_id).order_by(tables.Attempt.number),
        execution_options={"populate_existing": True},
    )
    return tuple(
        AttemptRow(row.number, row.worker, row.started_at, row.finished_at, row.outcome, row.detail, row.errors)
        for row in rows
    )
