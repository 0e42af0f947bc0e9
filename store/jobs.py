"""Jobs as the service sees them: insert, find, list, cancel. What workers do with them is in `queue`."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import JsonValue
from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.limits import MAX_ATTEMPTS
from saddlescope.contract.vocabulary import JobStatus
from store import tables
from store.events import QUEUED, first_event
from store.filters import JobFilters, filtered, label_digest
from store.idempotency import IdempotencyEntry, remember_key
from store.identifiers import new_id
from store.projects import ensure_project
from store.queue import request_cancel
from store.records import JOB_COLUMNS, JOBS, JobRow, job_row
from store.sharing import share_answer, was_cut_short

__all__ = [
    "Cursor",
    "JobFilters",
    "Order",
    "Page",
    "find_finished_twin",
    "find_job",
    "find_request",
    "insert_job",
    "label_digest",
    "list_jobs",
    "request_cancel",
]

DEFAULT_QUEUE = "cpu"
# Statements of the hot paths, built once: to build one costs more than to run it.
INSERT_JOB = insert(JOBS).returning(*JOB_COLUMNS)
INSERT_LABEL = insert(tables.Table.metadata.tables["job_labels"])
FIND_JOB = select(*JOB_COLUMNS).where(JOBS.c.project == bindparam("of_project"), JOBS.c.id == bindparam("job_id"))
FIND_JOBS = select(*JOB_COLUMNS).where(JOBS.c.id.in_(bindparam("job_ids", expanding=True)))
Item = TypeVar("Item")


class Order(StrEnum):
    NEWEST_FIRST = "desc"
    OLDEST_FIRST = "asc"


@dataclass(frozen=True)
class Cursor:
    """The place after one job in a list. Job identifiers sort by creation, so the identifier is the whole key."""

    job_id: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"job_[0-9a-f]{32}", self.job_id):
            raise ValueError("this is no cursor of a job list; take the one of the last answer's `next`")


@dataclass(frozen=True)
class Page(Generic[Item]):
    items: tuple[Item, ...]
    has_more: bool
    next: Cursor | None


def insert_job(
    session: Session,
    *,
    project: str,
    request: JobRequest,
    fingerprint: str,
    deadline_at: datetime | None = None,
    idempotency: IdempotencyEntry | None = None,
    traceparent: str | None = None,
    request_id: str | None = None,
    retry_of: str | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    memory_bytes: int | None = None,
    twin: JobRow | None = None,
) -> JobRow:
    """Insert a queued job, its idempotency key and its first event; with a finished `twin`, it ends at once as that did.

    Raises:
        KeyTaken: if the idempotency key is bound to another job; the transaction must then be rolled back.
    """
    ensure_project(session, project)
    values = {
        "id": new_id("job"),
        "project": project,
        "status": JobStatus.QUEUED,
        "queue": DEFAULT_QUEUE if request.queue == "auto" else request.queue,
        "priority": request.priority,
        "fence": 0,
        "attempt": 0,
        "max_attempts": max_attempts,
        "deadline_at": deadline_at,
        "run_id": None if request.run is None else request.run.id,
        "run_step": None if request.run is None else request.run.step,
        "run_name": None if request.run is None else request.run.name,
        "labels": request.labels,
        "metadata": request.metadata,
        "fingerprint": fingerprint,
        "traceparent": traceparent,
        "retry_of": retry_of,
        "callback_url": request.callback_url,
        "memory_bytes": memory_bytes,
        "deduplicated_from": None if twin is None else twin.deduplicated_from or twin.id,
        "request": request,
    }
    job = job_row(session.execute(INSERT_JOB, values).one())
    if request.labels:
        labels = [{"digest": label_digest(*label), "job_id": job.id} for label in request.labels.items()]
        session.execute(INSERT_LABEL, labels)
    if idempotency is not None:
        remember_key(session, project=project, entry=idempotency, job_id=job.id)
    told: dict[str, JsonValue] = {"queue": job.queue, "priority": job.priority}
    if request_id is not None:
        # The HTTP request that asked, so that a worker's log lines can name it; the message to the workers cannot.
        told["request_id"] = request_id
    if twin is None:
        first_event(session, job.id, QUEUED, told)
        return job
    first_event(session, job.id, QUEUED, {**told, "deduplicated_from": job.deduplicated_from})
    share_answer(session, job_id=job.id, twin=twin)
    return job_row(session.execute(FIND_JOB, {"of_project": project, "job_id": job.id}).one())


def find_job(session: Session, *, project: str, job_id: str) -> JobRow | None:
    job = session.execute(FIND_JOB, {"of_project": project, "job_id": job_id}).one_or_none()
    return None if job is None else job_row(job)


def find_jobs(session: Session, job_ids: Collection[str]) -> dict[str, JobRow]:
    """Those that are there, by their identifiers, whosever they are."""
    found = session.execute(FIND_JOBS, {"job_ids": list(job_ids)}).all()
    return {row.id: row for row in map(job_row, found)}


def find_request(session: Session, *, project: str, job_id: str) -> JobRequest | None:
    """What was asked, inline tensors included: for a retry and for the bundle."""
    return session.scalars(
        select(tables.Job.request).where(tables.Job.project == project, tables.Job.id == job_id)
    ).one_or_none()


def find_finished_twin(session: Session, *, project: str, fingerprint: str) -> JobRow | None:
    """The newest job of the project that answered the same question in full: not one that its deadline cut short."""
    found = session.execute(
        select(*JOB_COLUMNS)
        .where(
            JOBS.c.project == project,
            JOBS.c.fingerprint == fingerprint,
            JOBS.c.status == JobStatus.SUCCEEDED,
        )
        .order_by(JOBS.c.deadline_at.is_not(None), JOBS.c.id.desc())
        .limit(1)
    ).one_or_none()
    if found is None:
        return None
    job = job_row(found)
    return None if job.deadline_at is not None and was_cut_short(session, job.id) else job


def list_jobs(
    session: Session,
    *,
    project: str,
    filters: JobFilters | None = None,
    limit: int,
    after: Cursor | None = None,
    order: Order = Order.NEWEST_FIRST,
) -> Page[JobRow]:
    """One page of a project's jobs by creation. Jobs that come or go between two pages shift nothing."""
    query = filtered(select(*JOB_COLUMNS), project, filters or JobFilters())
    if order is Order.NEWEST_FIRST:
        query = query.order_by(JOBS.c.id.desc())
        query = query if after is None else query.where(JOBS.c.id < after.job_id)
    else:
        query = query.order_by(JOBS.c.id)
        query = query if after is None else query.where(JOBS.c.id > after.job_id)
    # One more than asked for tells whether there is a next page.
    found = session.execute(query.limit(limit + 1)).all()
    items = tuple(job_row(job) for job in found[:limit])
    has_more = len(found) > limit
    return Page(items=items, has_more=has_more, next=Cursor(items[-1].id) if has_more else None)
