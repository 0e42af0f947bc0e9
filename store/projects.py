"""Projects: the border that no job, artifact or key crosses."""

from __future__ import annotations

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from store import tables
from store.moments import now
from store.upserts import insert_ignoring

PROJECTS = tables.Table.metadata.tables["projects"]
FIND_PROJECT = select(PROJECTS.c.name).where(PROJECTS.c.name == bindparam("project"))


def ensure_project(session: Session, name: str) -> None:
    """Make the project unless it is there."""
    if session.execute(FIND_PROJECT, {"project": name}).first() is None:
        session.execute(insert_ignoring(session, tables.Project).values(name=name, created_at=now()))
