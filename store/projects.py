"""Projects: the border that no job, artifact or key crosses."""

from __future__ import annotations

from sqlalchemy.orm import Session

from store import tables
from store.moments import now
from store.upserts import insert_ignoring


def ensure_project(session: Session, name: str) -> None:
    """Make the project unless it is there."""
    if session.get(tables.Project, name) is None:
        session.execute(insert_ignoring(session, tables.Project).values(name=name, created_at=now()))
