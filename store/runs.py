"""Training runs: the jobs of one run in the order of its steps, with the numbers of its chart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from store.numbers import ReportNumbers, find_numbers
from store.records import JOB_COLUMNS, JOBS, JobRow, job_row
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
class RunPoint:
    job: JobRow
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


def run_points(session: Session, *, project: str, run: str, limit: int) -> tuple[RunPoint, ...]:
    """The jobs of a run by step (those without one last), then by creation; at most `limit`, the latest."""
    rows = session.execute(
        select(*JOB_COLUMNS)
        .where(JOBS.c.project == project, JOBS.c.run_id == run)
        .order_by(JOBS.c.run_step.desc().nulls_first(), JOBS.c.id.desc())
        .limit(limit)
    )
    jobs = [job_row(job) for job in rows][::-1]
    numbers = find_numbers(session, [job.id for job in jobs])
    return tuple(RunPoint(job=job, numbers=numbers.get(job.id)) for job in jobs)
