"""What nothing needs any more: which blobs no row names, and which rows name blobs that are gone."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select, union
from sqlalchemy.orm import Session

from store.tables import Artifact, EscapeVector, SavedRun, StoredReport

# Within the number of parameters that one statement of either database may have.
BATCH = 500
PAGE = 5_000


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


def named_blobs(session: Session, *, after: str = "") -> list[str]:
    """The next thousands of blobs that an artifact or a saved run names, each once, in the order of their names."""
    named = union(
        select(Artifact.id).where(Artifact.id > after), select(SavedRun.blob).where(SavedRun.blob > after)
    ).subquery()
    return list(session.scalars(select(named.c[0]).order_by(named.c[0]).limit(PAGE)))
