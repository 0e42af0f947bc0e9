"""Which jobs of a project a list shows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import CompoundSelect, Select, func, select, union

from saddlescope.contract.vocabulary import JobStatus, Verdict
from store.records import JOBS
from store.tables import JobLabel

Query = TypeVar("Query", bound=Select[*tuple[object, ...]])


@dataclass(frozen=True)
class JobFilters:
    """All of them must hold; those that are absent do."""

    status: JobStatus | None = None
    verdict: Verdict | None = None
    run: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    created_after: datetime | None = None
    words: str | None = None
    """A part of the job's id, of its run's id or name, or one whole `key:value` of its labels."""


def filtered(query: Query, project: str, filters: JobFilters) -> Query:
    """A query of jobs, held to a project and to its filters."""
    query = query.where(JOBS.c.project == project)
    if filters.status is not None:
        query = query.where(JOBS.c.status == filters.status)
    if filters.verdict is not None:
        query = query.where(JOBS.c.verdict == filters.verdict)
    if filters.run is not None:
        query = query.where(JOBS.c.run_id == filters.run)
    if filters.created_after is not None:
        query = query.where(JOBS.c.created_at > filters.created_after)
    for label in filters.labels:
        query = query.where(JOBS.c.id.in_(_labelled(*label)))
    if filters.words is not None:
        query = query.where(JOBS.c.id.in_(_told(project, filters.words)))
    return query


def label_digest(key: str, value: str) -> str:
    """The name of a label in its index; JSON keeps `a:b` apart from `a` and `:b`."""
    return hashlib.sha256(json.dumps([key, value]).encode()).hexdigest()


def _labelled(key: str, value: str) -> Select[str]:
    return select(JobLabel.job_id).where(JobLabel.digest == label_digest(key, value))


def _told(project: str, words: str) -> CompoundSelect[str]:
    """Each of its parts is answered by an index alone, however many jobs there are."""
    key, colon, value = words.partition(":")
    own = select(JOBS.c.id).where(JOBS.c.project == project)
    newest = select(JOBS.c.run_id).where(
        JOBS.c.id.in_(
            select(func.max(JOBS.c.id))
            .where(JOBS.c.project == project, JOBS.c.run_id.is_not(None))
            .group_by(JOBS.c.run_id)
        ),
        JOBS.c.run_name.icontains(words, autoescape=True),
    )
    parts = [
        own.where(JOBS.c.id.contains(words.removeprefix("job_").lower(), autoescape=True)),
        own.where(JOBS.c.run_id.is_not(None), JOBS.c.run_id.icontains(words, autoescape=True)),
        own.where(JOBS.c.run_id.in_(newest)),
    ]
    return union(*parts, _labelled(key, value)) if colon else union(*parts)
