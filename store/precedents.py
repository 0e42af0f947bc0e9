"""What the latest jobs of a project took, for those who ask what another one will."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from saddlescope.contract.jobs import JobRequest, Usage
from saddlescope.contract.reports import Report
from saddlescope.contract.vocabulary import JobStatus
from store.tables import Job, StoredReport

NUM_LATEST = 20


@dataclass(frozen=True)
class Precedent:
    """A job that was run to its end."""

    request: JobRequest
    report: Report
    usage: Usage


def latest_precedents(session: Session, *, project: str) -> tuple[Precedent, ...]:
    """Of one project, the newest first; what was answered from another job's report took nothing and is no precedent."""
    query = (
        select(Job.request, StoredReport.report, Job.usage)
        .join(StoredReport, StoredReport.job_id == Job.id)
        .where(Job.project == project, Job.status == JobStatus.SUCCEEDED, Job.deduplicated_from.is_(None))
        .order_by(Job.id.desc())
        .limit(NUM_LATEST)
    )
    rows = session.execute(query)
    return tuple(Precedent(request, report, usage) for request, report, usage in rows if usage is not None)
