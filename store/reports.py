"""The answers of finished jobs: the report as a value, the large arrays as blobs of the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from saddlescope.contract.reports import Report
from store import tables
from store.artifacts import record_artifact
from store.blobs import Blob
from store.numbers import number_columns


@dataclass(frozen=True)
class StoredReport:
    report: Report
    spectrum_blob: str
    landscape_blob: str | None
    escape_blobs: tuple[str, ...]


def record_report(
    session: Session,
    *,
    project: str,
    job_id: str,
    report: Report,
    spectrum: Blob,
    landscape: Blob | None,
    escapes: Sequence[Blob],
) -> None:
    """Store the answer of a job that ends in this transaction, and make its blobs artifacts of the project.

    Raises:
        ValueError: unless every escape has its vector.
    """
    if len(escapes) != len(report.escapes):
        raise ValueError(f"{len(escapes)} vectors for {len(report.escapes)} escapes")
    for blob in (spectrum, *escapes, *(() if landscape is None else (landscape,))):
        record_artifact(session, project=project, blob=blob)
    vectors = tuple(
        escape.model_copy(update={"vector": blob.id}) for escape, blob in zip(report.escapes, escapes, strict=True)
    )
    session.add(
        tables.StoredReport(
            job_id=job_id,
            **number_columns(report),
            spectrum_blob=spectrum.id,
            landscape_blob=None if landscape is None else landscape.id,
            report=report.model_copy(update={"job": job_id, "escapes": vectors}),
        )
    )
    session.flush()
    session.add_all(
        tables.EscapeVector(job_id=job_id, number=number, blob=blob.id) for number, blob in enumerate(escapes)
    )
    session.flush()


def find_report(session: Session, *, project: str, job_id: str) -> StoredReport | None:
    """The answer of a project's job; None until it has succeeded."""
    stored = session.scalars(
        select(tables.StoredReport)
        .join(tables.Job, tables.Job.id == tables.StoredReport.job_id)
        .where(tables.Job.project == project, tables.Job.id == job_id)
    ).one_or_none()
    if stored is None:
        return None
    vectors = session.scalars(
        select(tables.EscapeVector.blob)
        .where(tables.EscapeVector.job_id == job_id)
        .order_by(tables.EscapeVector.number)
    )
    return StoredReport(stored.report, stored.spectrum_blob, stored.landscape_blob, tuple(vectors))
