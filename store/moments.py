"""Instants in SQL: always UTC, always read from the database's clock when two machines are compared."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, DateTime, Dialect, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """A timezone-aware datetime in UTC; SQLite keeps it as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _SecondsFromNow(FunctionElement[datetime]):
    name = "seconds_from_now"
    type = Moment()
    inherit_cache = True


@compiles(_SecondsFromNow, "sqlite")
def _sqlite(element: _SecondsFromNow, compiler: SQLCompiler, **options: object) -> str:
    # Milliseconds are all that SQLite's clock gives; the zeros make the text as long as SQLAlchemy's own.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {compiler.process(element.clauses, **options)} || ' seconds')"


@compiles(_SecondsFromNow, "postgresql")
def _postgresql(element: _SecondsFromNow, compiler: SQLCompiler, **options: object) -> str:
    # Not now(): a transaction that waited long for a lock would hand out leases that start in the past.
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


def seconds_from_now(seconds: float) -> ColumnElement[datetime]:
    """The database's clock plus so many seconds (negative: the past), for use inside a statement."""
    return _SecondsFromNow(literal(float(seconds)))


def now() -> ColumnElement[datetime]:
    """The database's clock, for use inside a statement."""
    return seconds_from_now(0)
