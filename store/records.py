"""What the rest of the program sees of a job's row: frozen, typed, free of the session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import Row

from saddlescope.contract.jobs import JobRequest, Partial, Progress, Run, Usage
from saddlescope.contract.vocabulary import FailureCode, JobStatus, Verdict
from store import tables


@dataclass(frozen=True)
class JobError:
    """Why a job failed; the service makes a problem object of it."""

    code: FailureCode
    detail: str
    pointer: str | None


@dataclass(frozen=True)
class JobRow:
    id: str
    project: str
    status: JobStatus
    verdict: Verdict | None
    error: JobError | None
    run: Run | None
    labels: dict[str, str]
    metadata: dict[str, JsonValue]
    progress: Progress | None
    partial: Partial | None
    usage: Usage | None
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    fence: int
    worker: str | None
    created_at: datetime
    not_before: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    lease_until: datetime | None
    cancel_requested_at: datetime | None
    fingerprint: str
    traceparent: str | None
    retry_of: str | None


@dataclass(frozen=True)
class Claim:
    """A worker's right to a job, until another claim has a higher fence."""

    job_id: str
    project: str
    fence: int
    attempt: int
    request: JobRequest
    deadline_at: datetime | None
    traceparent: str | None
    worker: str


JOBS = tables.Table.metadata.tables["jobs"]
# All but the request. Reading columns costs a third of loading a mapped object, and most of what is asked is a job.
JOB_COLUMNS = tuple(
    column.label("details") if column.name == "metadata" else column for column in JOBS.c if column.name != "request"
)


def job_row(job: tables.Job | Row[tuple[object, ...]]) -> JobRow:
    """The value of a mapped object, or of a row of JOB_COLUMNS."""
    return JobRow(
        id=job.id,
        project=job.project,
        status=JobStatus(job.status),
        verdict=None if job.verdict is None else Verdict(job.verdict),
        error=_error(job),
        run=None if job.run_id is None else Run(id=job.run_id, step=job.run_step, name=job.run_name),
        labels=job.labels,
        metadata=job.details,
        progress=job.progress,
        partial=job.partial,
        usage=job.usage,
        queue=job.queue,
        priority=job.priority,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        fence=job.fence,
        worker=job.worker,
        created_at=job.created_at,
        not_before=job.not_before,
        started_at=job.started_at,
        finished_at=job.finished_at,
        deadline_at=job.deadline_at,
        lease_until=job.lease_until,
        cancel_requested_at=job.cancel_requested_at,
        fingerprint=job.fingerprint,
        traceparent=job.traceparent,
        retry_of=job.retry_of,
    )


def _error(job: tables.Job | Row[tuple[object, ...]]) -> JobError | None:
    if job.error_code is None:
        return None
    return JobError(FailureCode(job.error_code), job.error_detail or "", job.error_pointer)
