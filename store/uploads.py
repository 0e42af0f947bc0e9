"""Resumable uploads: how much of each is durable, until when it is kept, and which artifact it became."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from store.artifacts import record_artifact
from store.blobs import Blob
from store.identifiers import new_id
from store.moments import now, seconds_from_now
from store.projects import ensure_project
from store.quotas import hold_to_quota
from store.staging import Staging, UploadBusy, UploadLost
from store.tables import Upload

# A file without a row is that of an upload which is being created, or was cut between the two.
ORPHAN_SECONDS = 3_600.0
BATCH = 500


@dataclass(frozen=True)
class UploadRow:
    id: str
    project: str
    size: int
    offset: int
    """Bytes that are durable."""
    expected: str | None
    """The artifact that the whole was declared to be."""
    metadata: str | None
    """`Upload-Metadata` as it came."""
    artifact: str | None
    expires_at: datetime
    is_expired: bool


def create_upload(
    session: Session,
    *,
    project: str,
    size: int,
    expected: str | None,
    metadata: str | None,
    lifetime_seconds: float,
    default_quota_bytes: int | None,
) -> UploadRow:
    """Announce an upload; its whole size counts against the quota from now on.

    Raises:
        QuotaExceeded: if the project may not store that much.
    """
    ensure_project(session, project)
    upload = Upload(
        id=new_id("upl"),
        project=project,
        size=size,
        received=0,
        expected=expected,
        details=metadata,
        expires_at=seconds_from_now(lifetime_seconds),
    )
    session.add(upload)
    session.flush()
    hold_to_quota(session, project, default_bytes=default_quota_bytes)
    return _found(session, upload.id)


def find_upload(session: Session, *, project: str, upload_id: str) -> UploadRow | None:
    row = session.execute(_ROW.where(Upload.id == upload_id, Upload.project == project)).one_or_none()
    return None if row is None else UploadRow(*row)


def advance_upload(session: Session, upload_id: str, *, offset: int, lifetime_seconds: float) -> None:
    """Say that so many bytes are durable, and keep them for another while."""
    session.execute(
        update(Upload)
        .where(Upload.id == upload_id, Upload.received <= offset)
        .values(received=offset, expires_at=seconds_from_now(lifetime_seconds))
        .execution_options(synchronize_session=False)
    )


def finish_upload(session: Session, row: UploadRow, blob: Blob) -> UploadRow:
    """The upload is now an artifact of its project. Its room was counted when it was announced."""
    session.execute(
        update(Upload)
        .where(Upload.id == row.id)
        .values(received=blob.size, artifact=blob.id)
        .execution_options(synchronize_session=False)
    )
    record_artifact(session, project=row.project, blob=blob)
    return _found(session, row.id)


def delete_upload(session: Session, upload_id: str) -> None:
    session.execute(delete(Upload).where(Upload.id == upload_id))


def expire_uploads(session: Session, staging: Staging) -> list[str]:
    """Delete the uploads whose time has passed, and files that no upload owns; returns the deleted ones.

    Idempotent. An upload that is being written to is left alone: its time is prolonged.
    """
    late = session.scalars(select(Upload.id).where(Upload.expires_at <= now()).limit(BATCH)).all()
    expired = []
    for upload_id in late:
        try:
            with staging.open(upload_id):
                delete_upload(session, upload_id)
        except UploadLost:  # a finished upload has no staged bytes
            delete_upload(session, upload_id)
        except UploadBusy:
            continue
        expired.append(upload_id)
    left = staging.staged_ids(older_than=time.time() - ORPHAN_SECONDS)
    owned = set(session.scalars(select(Upload.id).where(Upload.id.in_(left), Upload.artifact.is_(None))))
    for upload_id in {*expired, *left} - owned:
        staging.discard(upload_id)
    return expired


_ROW = select(
    Upload.id,
    Upload.project,
    Upload.size,
    Upload.received,
    Upload.expected,
    Upload.details,
    Upload.artifact,
    Upload.expires_at,
    (Upload.expires_at <= now()).label("is_expired"),
)


def _found(session: Session, upload_id: str) -> UploadRow:
    return UploadRow(*session.execute(_ROW.where(Upload.id == upload_id)).one())
