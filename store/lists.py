"""Lists of jobs with the numbers of their reports: by creation, by one of the numbers, and by run. Pages by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session

from saddlescope.contract.vocabulary import Verdict
from store.filters import JobFilters, filtered
from store.jobs import Cursor, Order, Page, list_jobs
from store.numbers import NUMBER_COLUMNS, REPORTS, ReportNumbers, complete, find_numbers
from store.records import JOB_COLUMNS, JOBS, JobRow, job_row

_BATCH = 500  # of the variables of a statement


class SortKey(StrEnum):
    """What a list is sorted by; a list by a number holds the jobs that have it."""

    CREATED = "created"
    LOSS = "loss"
    GRADIENT_NORM = "gradient_norm"
    MINIMUM_RATIO = "minimum_ratio"
    LAMBDA_MIN = "lambda_min"
    LAMBDA_MAX = "lambda_max"


@dataclass(frozen=True)
class ListedJob:
    job: JobRow
    numbers: ReportNumbers | None


@dataclass(frozen=True)
class MeasuredJob:
    """A job with a report, as a point of a picture."""

    id: str
    verdict: Verdict
    run_id: str | None
    run_step: int | None
    run_name: str | None
    numbers: ReportNumbers


@dataclass(frozen=True)
class ListedRun:
    """The jobs of a run that the filters let through, and the newest of them."""

    id: str
    num_jobs: int
    last_step: int | None
    newest: ListedJob


def list_sorted(
    session: Session,
    *,
    project: str,
    filters: JobFilters,
    sort: SortKey,
    order: Order,
    limit: int,
    after: Cursor | None = None,
) -> Page[ListedJob]:
    """One page of jobs. What comes or goes between two pages shifts nothing.

    Raises:
        LookupError: if the list goes by a number and the job of the cursor has none.
    """
    if sort is SortKey.CREATED:
        page = list_jobs(session, project=project, filters=filters, limit=limit, after=after, order=order)
        return Page(items=_with_numbers(session, page.items), has_more=page.has_more, next=page.next)
    number = REPORTS.c[sort.value]
    place = tuple_(number, REPORTS.c.job_id)
    query = _having_number(project, filters)
    if after is not None:
        value = session.scalar(select(number).where(REPORTS.c.job_id == after.job_id))
        if value is None:
            raise LookupError(after.job_id)
        here = (value, after.job_id)
        query = query.where(place < here if order is Order.NEWEST_FIRST else place > here)
    if order is Order.NEWEST_FIRST:
        query = query.order_by(number.desc(), REPORTS.c.job_id.desc())
    else:
        query = query.order_by(number, REPORTS.c.job_id)
    found = session.scalars(query.limit(limit + 1)).all()
    items = find_listed(session, project=project, ids=found[:limit])
    has_more = len(found) > limit
    return Page(items=items, has_more=has_more, next=Cursor(items[-1].job.id) if has_more else None)


def list_grouped(
    session: Session, *, project: str, filters: JobFilters, limit: int, after: Cursor | None = None
) -> Page[ListedRun]:
    """One page of runs, the one with the newest job first; its cursor is the newest job of the last run."""
    newest = func.max(JOBS.c.id)
    query = filtered(
        select(
            JOBS.c.run_id,
            func.count().label("num_jobs"),
            func.max(JOBS.c.run_step).label("last_step"),
            newest.label("newest"),
        ),
        project,
        filters,
    )
    query = query.where(JOBS.c.run_id.is_not(None)).group_by(JOBS.c.run_id).order_by(newest.desc())
    if after is not None:
        query = query.having(newest < after.job_id)
    groups = session.execute(query.limit(limit + 1)).all()
    shown = groups[:limit]
    jobs = {
        listed.job.id: listed for listed in find_listed(session, project=project, ids=[row.newest for row in shown])
    }
    items = tuple(ListedRun(row.run_id, row.num_jobs, row.last_step, jobs[row.newest]) for row in shown)
    has_more = len(groups) > limit
    return Page(items=items, has_more=has_more, next=Cursor(items[-1].newest.job.id) if has_more else None)


def list_measured(session: Session, *, project: str, filters: JobFilters, limit: int) -> tuple[str, ...]:
    """The ids of the newest jobs that have a report, at most `limit`."""
    query = filtered(select(JOBS.c.id), project, filters).where(JOBS.c.verdict.is_not(None))
    return tuple(session.scalars(query.order_by(JOBS.c.id.desc()).limit(limit)))


def find_measured(session: Session, *, project: str, ids: Sequence[str]) -> tuple[MeasuredJob, ...]:
    """Those of some jobs that the project has and that have a report, in the order of the ids."""
    # Of thousands of jobs a picture needs these columns alone.
    own = (JOBS.c.id, JOBS.c.verdict, JOBS.c.run_id, JOBS.c.run_step, JOBS.c.run_name)
    query = select(*own, *NUMBER_COLUMNS).join(REPORTS, REPORTS.c.job_id == JOBS.c.id).where(JOBS.c.project == project)
    rows = {
        row.id: row
        for start in range(0, len(ids), _BATCH)
        for row in session.execute(query.where(JOBS.c.id.in_(ids[start : start + _BATCH])))
    }
    numbers = complete(session, rows)
    return tuple(
        MeasuredJob(row.id, Verdict(row.verdict), row.run_id, row.run_step, row.run_name, numbers[row.id])
        for row in (rows[job_id] for job_id in ids if job_id in rows)
    )


def count_measured(session: Session, *, project: str, filters: JobFilters) -> int:
    """How many jobs have a report."""
    return (
        session.scalar(
            filtered(select(func.count()).select_from(JOBS), project, filters).where(JOBS.c.verdict.is_not(None))
        )
        or 0
    )


def _having_number(project: str, filters: JobFilters) -> Select[str]:
    """The ids of jobs with a report."""
    if filters == JobFilters():
        # Keeps SQLite on the index of the number: it would read the project's jobs and sort them.
        own = select(JOBS.c.id).where(JOBS.c.id == REPORTS.c.job_id, JOBS.c.project == project)
        return select(REPORTS.c.job_id).where(own.exists())
    return filtered(select(REPORTS.c.job_id).join(JOBS, JOBS.c.id == REPORTS.c.job_id), project, filters)


def find_listed(session: Session, *, project: str, ids: Sequence[str]) -> tuple[ListedJob, ...]:
    """Those of some jobs that the project has, in the order of the ids."""
    rows = session.execute(select(*JOB_COLUMNS).where(JOBS.c.project == project, JOBS.c.id.in_(ids)))
    found = {row.id: job_row(row) for row in rows}
    return _with_numbers(session, [found[job_id] for job_id in ids if job_id in found])


def _with_numbers(session: Session, jobs: Sequence[JobRow]) -> tuple[ListedJob, ...]:
    numbers = find_numbers(session, [job.id for job in jobs])
    return tuple(ListedJob(job, numbers.get(job.id)) for job in jobs)
