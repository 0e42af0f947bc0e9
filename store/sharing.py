"""Work that is done once: a question that the project has had answered gets the same answer under a job of its own."""

from __future__ import annotations

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from saddlescope.contract.vocabulary import Caution, JobStatus
from store.numbers import number_columns
from store.records import JobRow
from store.tables import EscapeVector, StoredReport
from store.transitions import end, queued


def share_answer(session: Session, *, job_id: str, twin: JobRow) -> None:
    """End a job that was just queued with the answer of its finished twin: the same report, the same blobs.

    The job keeps its own run, labels and history; what it says of its answer is where it comes from.
    """
    stored = session.scalars(select(StoredReport).where(StoredReport.job_id == twin.id)).one()
    if not end(session, job_id, *queued(job_id), status=JobStatus.SUCCEEDED, verdict=twin.verdict):
        raise ValueError(f"{job_id} is not queued: only a new job can share an answer")
    session.add(
        StoredReport(
            job_id=job_id,
            **number_columns(stored.report),
            spectrum_blob=stored.spectrum_blob,
            landscape_blob=stored.landscape_blob,
            report=stored.report.model_copy(update={"job": job_id}),
        )
    )
    session.flush()
    vectors = select(literal(job_id), EscapeVector.number, EscapeVector.blob).where(EscapeVector.job_id == twin.id)
    session.execute(insert(EscapeVector).from_select(["job_id", "number", "blob"], vectors))


def was_cut_short(session: Session, job_id: str) -> bool:
    """Whether the job's deadline left something out of its report; asked without a deadline, more would have come."""
    report = session.scalars(select(StoredReport.report).where(StoredReport.job_id == job_id)).one()
    return any(warning.code is Caution.CUT_SHORT for warning in report.warnings)
