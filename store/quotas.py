"""How many bytes a project may store: what it has uploaded, and what it has announced and not sent yet."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from saddlescope.contract.vocabulary import JobStatus
from store.projects import ensure_project
from store.tables import Artifact, Job, Project, Upload


class QuotaExceeded(Exception):
    """A project would store more than it may."""

    def __init__(self, *, used: int, quota_bytes: int) -> None:
        super().__init__(f"{used} bytes would be stored or announced; the project may have {quota_bytes}")
        self.used = used
        self.quota_bytes = quota_bytes


@dataclass(frozen=True)
class ProjectStorage:
    project: str
    used_bytes: int
    quota_bytes: int | None
    """The project's own quota; None where the default is in force."""


def hold_to_quota(session: Session, project: str, *, default_bytes: int | None, extra_bytes: int = 0) -> None:
    """Refuse what was inserted in this transaction, with `extra_bytes` more, if it is over the project's quota.

    The project's row is locked before the bytes are counted, so that of two transactions the second sees the first.

    Raises:
        QuotaExceeded: for the caller's transaction to be rolled back.
    """
    own = session.execute(select(Project.quota_bytes).where(Project.name == project)).scalar_one_or_none()
    quota = default_bytes if own is None else own
    if quota is None:
        return
    # Not FOR UPDATE: the row that was inserted holds a key-share lock of its project, and two of those would block each other.
    session.execute(select(Project.name).where(Project.name == project).with_for_update(key_share=True))
    used = used_bytes(session, project) + extra_bytes
    if used > quota:
        raise QuotaExceeded(used=used, quota_bytes=quota)


def used_bytes(session: Session, project: str) -> int:
    """Bytes of the project's artifacts, and of its uploads that are not finished, as announced."""
    stored = select(func.coalesce(func.sum(Artifact.size), 0)).where(Artifact.project == project)
    announced = select(func.coalesce(func.sum(Upload.size), 0)).where(
        Upload.project == project, Upload.artifact.is_(None)
    )
    return int(session.execute(stored).scalar_one()) + int(session.execute(announced).scalar_one())


def has_as_many_queued(session: Session, project: str, num_jobs: int) -> bool:
    """Whether so many jobs of the project wait; no more rows of the index are read than that."""
    waiting = (
        select(Job.id).where(Job.project == project, Job.status == JobStatus.QUEUED).order_by(Job.id).limit(num_jobs)
    )
    return int(session.execute(select(func.count()).select_from(waiting.subquery())).scalar_one()) >= num_jobs


def set_quota(session: Session, project: str, quota_bytes: int | None) -> None:
    """Give a project a quota of its own, or None for the default; the project is made if it is not there."""
    ensure_project(session, project)
    session.execute(
        update(Project)
        .where(Project.name == project)
        .values(quota_bytes=quota_bytes)
        .execution_options(synchronize_session=False)
    )


def list_storage(session: Session) -> tuple[ProjectStorage, ...]:
    """Every project with what it stores and may store."""
    rows = session.execute(select(Project.name, Project.quota_bytes).order_by(Project.name)).all()
    return tuple(ProjectStorage(row.name, used_bytes(session, row.name), row.quota_bytes) for row in rows)
