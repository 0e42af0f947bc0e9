"""INSERT … ON CONFLICT, which SQLite and PostgreSQL spell alike and SQLAlchemy types apart."""

from __future__ import annotations

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from store.tables import Table


def insert_or(session: Session, table: type[Table]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT of the session's database that knows `on_conflict_do_update`."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def insert_ignoring(session: Session, table: type[Table]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that leaves a row with the same key alone; RETURNING then gives nothing."""
    return insert_or(session, table).on_conflict_do_nothing()
