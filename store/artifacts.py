"""Which project may use which blob. The same bytes in two projects are two artifacts, and neither sees the other's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from store import tables
from store.blobs import Blob
from store.moments import now
from store.projects import ensure_project
from store.quotas import hold_to_quota
from store.upserts import insert_ignoring


@dataclass(frozen=True)
class ArtifactRow:
    project: str
    id: str
    size: int
    created_at: datetime


def record_artifact(session: Session, *, project: str, blob: Blob, default_quota_bytes: int | None = None) -> bool:
    """Give a project a blob that is already durable; True if it did not have it before.

    Raises:
        QuotaExceeded: if it did not and may not store that much.
    """
    ensure_project(session, project)
    created = session.execute(
        insert_ignoring(session, tables.Artifact)
        .values(project=project, id=blob.id, size=blob.size, created_at=now())
        .returning(tables.Artifact.id)
    )
    is_new = created.first() is not None
    if is_new:
        hold_to_quota(session, project, default_bytes=default_quota_bytes)
    return is_new


def find_artifact(session: Session, *, project: str, id: str) -> ArtifactRow | None:  # noqa: A002 - the contract's word
    row = session.get(tables.Artifact, (project, id), populate_existing=True)
    return None if row is None else ArtifactRow(row.project, row.id, row.size, row.created_at)


def missing_artifacts(session: Session, *, project: str, ids: Collection[str]) -> frozenset[str]:
    """Those of the identifiers that the project does not have."""
    known = session.scalars(
        select(tables.Artifact.id).where(tables.Artifact.project == project, tables.Artifact.id.in_(ids))
    )
    return frozenset(ids) - frozenset(known)
