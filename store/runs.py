"""Training runs: the jobs of one run in the order of its steps, with the numbers of its chart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from saddlescope.contract.vocabulary import JobStatus, Verdict
from store.numbers import NUMBER_COLUMNS, REPORTS, ReportNumbers, complete
from store.records import JOBS
from store.tables import Job


@dataclass(frozen=True)
class RunRow:
    id: str
    name: str | None
    num_jobs: int
    last_step: int | None
    first_created_at: datetime
    last_created_at: datetime


@dataclass(frozen=True)
class NamedRun:
    """A run, and the name that its newest job gave it."""

    id: str
    name: str | None


@dataclass(frozen=True)
class RunPoint:
    """What a chart of a run says of one of its jobs."""

    id: str
    status: JobStatus
    verdict: Verdict | None
    step: int | None
    name: str | None
    created_at: datetime
    numbers: ReportNumbers | None


def list_runs(session: Session, *, project: str, limit: int) -> tuple[RunRow, ...]:
    """The project's runs, the one with the newest job first."""
    runs = (
        select(
            Job.run_id,
            func.count().label("num_jobs"),
            func.max(Job.run_step).label("last_step"),
            func.min(Job.id).label("first"),
            func.max(Job.id).label("last"),
        )
        .where(Job.project == project, Job.run_id.is_not(None))
        .group_by(Job.run_id)
        .order_by(func.max(Job.id).desc())
        .limit(limit)
        .subquery()
    )
    # What is not in the index is read of two jobs a run, not of all: identifiers sort by creation.
    first, last = aliased(Job), aliased(Job)
    rows = session.execute(
        select(
            runs.c.run_id,
            func.coalesce(last.run_name, first.run_name).label("name"),
            runs.c.num_jobs,
            runs.c.last_step,
            first.created_at.label("first_created_at"),
            last.created_at.label("last_created_at"),
        )
        .join(first, first.id == runs.c.first)
        .join(last, last.id == runs.c.last)
        .order_by(runs.c.last.desc())
    )
    return tuple(
        RunRow(row.run_id, row.name, row.num_jobs, row.last_step, row.first_created_at, row.last_created_at)
        for row in rows
    )


def name_runs(session: Session, *, project: str, limit: int) -> tuple[NamedRun, ...]:
    """The project's runs, the one with the newest job first: all that a choice among them has to say."""
    newest = (
        select(func.max(Job.id).label("id"))
        .where(Job.project == project, Job.run_id.is_not(None))
        .group_by(Job.run_id)
        .order_by(func.max(Job.id).desc())
        .limit(limit)
        .subquery()
    )
    rows = session.execute(
        select(JOBS.c.run_id, JOBS.c.run_name).join(newest, newest.c.id == JOBS.c.id).order_by(JOBS.c.id.desc())
    )
    return tuple(NamedRun(row.run_id, row.run_name) for row in rows)


def run_points(session: Session, *, project: str, run: str, limit: int) -> tuple[RunPoint, ...]:
    """The jobs of a run by step (those without one last), then by creation; at most `limit`, the latest."""
    own = (JOBS.c.id, JOBS.c.status, JOBS.c.verdict, JOBS.c.run_step, JOBS.c.run_name, JOBS.c.created_at)
    rows = session.execute(
        select(*own, REPORTS.c.job_id.label("report"), *NUMBER_COLUMNS)
        .outerjoin(REPORTS, REPORTS.c.job_id == JOBS.c.id)
        .where(JOBS.c.project == project, JOBS.c.run_id == run)
        .order_by(JOBS.c.run_step.desc().nulls_first(), JOBS.c.id.desc())
        .limit(limit)
    ).all()[::-1]
    numbers = complete(session, {row.id: row for row in rows if row.report is not None})
    return tuple(
        RunPoint(
            id=row.id,
            status=JobStatus(row.status),
            verdict=None if row.verdict is None else Verdict(row.verdict),
            step=row.run_step,
            name=row.run_name,
            created_at=row.created_at,
            numbers=numbers.get(row.id),
        )
        for row in rows
    )
