"""What nothing needs any more: which blobs no row names, and which rows name blobs that are gone."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables import Artifact, EscapeVector, SavedRun, StoredReport

# Within the number of parameters that one statement of either database may have.
BATCH = 500


def unnamed_blobs(session: Session, blobs: Collection[str]) -> frozenset[str]:
    """Those of at most `BATCH` blobs that no artifact, no answer and no saved run names."""
    left = frozenset(blobs)
    # Artifacts first: their index answers for nearly all, and an answer's blobs are artifacts of its project.
    for column in (
        Artifact.id,
        SavedRun.blob,
        StoredReport.spectrum_blob,
        StoredReport.landscape_blob,
        EscapeVector.blob,
    ):
        if left:
            left -= frozenset(session.scalars(select(column).where(column.in_(left))))
    return left


def named_blobs(session: Session, *, page: int = 10_000) -> Iterator[str]:
    """Every blob that an artifact or a saved run names, each once, in the order of their names."""
    last = ""
    while names := session.scalars(
        select(Artifact.id).where(Artifact.id > last).distinct().order_by(Artifact.id).limit(page)
    ).all():
        yield from names
        last = names[-1]
    yield from session.scalars(select(SavedRun.blob).order_by(SavedRun.blob)).all()
