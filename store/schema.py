"""A database that can be worked with, or one sentence that says why not, without a password, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util import CommandError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from store.database import migrate, pending_revisions


class DatabaseNotReadyError(Exception):
    """The database cannot be worked with; the message is for the operator."""


def bring_to_newest_schema(url: str) -> None:
    """Migrate. Raises DatabaseNotReadyError."""
    with _told(url):
        try:
            migrate(url)
        except CommandError:
            raise DatabaseNotReadyError(
                f"{named(url)} has a newer schema than this version knows; start the version that made it, or a later one"
            ) from None


def require_newest_schema(url: str) -> None:
    """For those who do not migrate. Raises DatabaseNotReadyError; a newer schema works with the code before it."""
    with _told(url):
        try:
            pending = pending_revisions(url)
        except CommandError:
            return
    if pending:
        raise DatabaseNotReadyError(
            f"{named(url)} lacks {len(pending)} schema versions; start the service first, or run `python -m store migrate`"
        )


def named(url: str) -> str:
    """A database by its place, without what opens it."""
    parts = make_url(url)
    if parts.get_backend_name() == "sqlite":
        return f"the database {parts.database}"
    place = f"{parts.host or 'this machine'}:{parts.port}" if parts.port else parts.host or "this machine"
    return f"the database {parts.database or ''} at {place}"


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except ArgumentError:
        raise DatabaseNotReadyError(
            "SADDLESCOPE_DATABASE_URL cannot be read; write sqlite:////path or postgresql+psycopg://user:password@host/name"
        ) from None
    except OperationalError as failure:
        raise DatabaseNotReadyError(
            f"{named(url)} does not answer ({_first_line(failure)}); start it, or mend SADDLESCOPE_DATABASE_URL"
        ) from None
    except DBAPIError as failure:
        raise DatabaseNotReadyError(f"{named(url)} refuses: {_first_line(failure)}") from None
    except SQLAlchemyError as failure:
        raise DatabaseNotReadyError(f"{named(url)} cannot be used: {type(failure).__name__}") from None


def _first_line(failure: DBAPIError) -> str:
    return next(iter(str(failure.orig).splitlines()), type(failure).__name__)
