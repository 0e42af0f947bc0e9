"""Engines, sessions and the schema's version, for SQLite and PostgreSQL."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from store.moments import now

BUSY_SECONDS = 30
# What a connection to PostgreSQL may cost, set here so that no server's defaults can make a request hang for ever. A
# statement that takes longer has met a lock or lacks an index; a transaction that idles is a bug, and holds rows.
POSTGRESQL_OPTIONS = {
    "statement_timeout": "30s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "60s",
}
CONNECT_SECONDS = 5
PING_AFTER_SECONDS = 1.0
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///file` or `postgresql+psycopg://…`. Its errors do not tell the values of a statement.

    Raises:
        ValueError: for any other database.
    """
    match make_url(url).get_backend_name():
        case "sqlite":
            return _open_sqlite(url)
        case "postgresql":
            return _open_postgresql(url)
        case other:
            raise ValueError(
                f"the database is {other!r}; use a URL that begins with sqlite:/// or postgresql+psycopg://"
            )


def close_engine(engine: Engine, *, patience_seconds: float = 5.0) -> None:
    """Close its connections, and wait for threads that still use one: given back later, it would stay open unseen."""
    ends = time.monotonic() + patience_seconds
    while isinstance(engine.pool, QueuePool) and engine.pool.checkedout() and time.monotonic() < ends:
        time.sleep(0.01)
    engine.dispose()


def on_outage(engine: Engine, tell: Callable[[], None]) -> None:
    """Call `tell` whenever a statement fails because the database is not there, or is not free in time."""

    def look(context: ExceptionContext) -> None:
        if isinstance(context.sqlalchemy_exception, OperationalError | InterfaceError):
            tell()

    event.listen(engine, "handle_error", look)


def open_sessions(engine: Engine) -> sessionmaker[Session]:
    """Sessions that hand out plain values.

    `with sessions.begin() as session` is a transaction that writes, `with sessions() as session` one that reads. On
    SQLite the first takes the write lock at once, so that what it reads still holds when it writes; the second takes
    none and waits for nobody.
    """
    sessions = sessionmaker(engine, expire_on_commit=False)
    if engine.dialect.name == "sqlite":
        event.listen(sessions, "after_begin", _lock_for_writing)
    return sessions


def open_glances(engine: Engine) -> sessionmaker[Session]:
    """Sessions for a read of one statement, which needs no transaction around it.

    On PostgreSQL that saves two of four round trips. SQLite has none to save.
    """
    if engine.dialect.name == "sqlite":
        return sessionmaker(engine, expire_on_commit=False)
    return sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False)


def migrate(url: str) -> None:
    """Bring the schema to the newest version; does nothing when it is there."""
    command.upgrade(alembic_config(url), "head")


def pending_revisions(url: str) -> tuple[str, ...]:
    """The versions of the schema that the database does not have yet; asks, and changes nothing."""
    script = ScriptDirectory.from_config(alembic_config(url))
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return tuple(revision.revision for revision in script.iterate_revisions("head", current or "base"))


def alembic_config(url: str) -> Config:
    """Alembic's configuration without a file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    return config


def database_now(session: Session) -> datetime:
    """The database's clock in UTC: the one clock by which leases and deadlines are measured."""
    return session.execute(select(now())).scalar_one()


def _open_postgresql(url: str) -> Engine:
    options = " ".join(f"-c {name}={value}" for name, value in POSTGRESQL_OPTIONS.items())
    engine = create_engine(
        url,
        pool_size=10,
        max_overflow=30,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "saddlescope",
            # What the operator writes into the URL comes last, and wins.
            "options": f"{options} {make_url(url).query.get('options', '')}".strip(),
        },
    )
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", partial(_ping_idle, engine))
    return engine


def _note_use(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _ping_idle(
    engine: Engine, connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection
) -> None:
    """A server that was restarted, or a balancer that has dropped the connection, costs a ping and not a request.

    Like `pool_pre_ping`, which pings each time; that is a quarter of what a read of one row costs.
    """
    if time.monotonic() - record.info.get("used_at", -math.inf) < PING_AFTER_SECONDS:
        return
    try:
        engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error:
        raise InvalidatePoolError from None  # its neighbours are as old, and the pool opens new ones


def is_disk_full(error: OperationalError) -> bool:
    """Whether a statement failed for want of space."""
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return getattr(error.orig, "sqlstate", None) == "53100"  # disk_full


def is_outage(error: OperationalError | InterfaceError) -> bool:
    """Whether a statement failed because the database is not there or is not free in time, and may be sent again.

    SQLite calls a statement that it does not understand by the same name.
    """
    if isinstance(error.orig, sqlite3.Error):
        primary = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the rest says more about it
        return primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    return True


def _open_sqlite(url: str) -> Engine:
    file = make_url(url).database
    if not file or file == ":memory:":
        raise ValueError("SQLite needs a file: what is in memory ends with the process")
    Path(file).resolve().parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url, connect_args={"timeout": BUSY_SECONDS}, pool_size=10, max_overflow=30, hide_parameters=True
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN comes late and never before a SELECT; _begin_sqlite takes its place (SQLAlchemy's recipe).
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL, not NORMAL: in WAL mode NORMAL may forget the last commits after a power cut, and a 202 is a promise.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _lock_for_writing(_: Session, transaction: SessionTransaction, connection: Connection) -> None:
    # A transaction that has read under a deferred BEGIN fails at its first write, without waiting, if another one
    # committed meanwhile (SQLITE_BUSY_SNAPSHOT). Nothing has run in this one yet, so it can begin anew.
    if transaction.origin is SessionTransactionOrigin.BEGIN:
        lock_sqlite(connection)


def lock_sqlite(connection: Connection) -> None:
    """Turn a transaction in which nothing has happened into the one that writes."""
    connection.exec_driver_sql("ROLLBACK")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
