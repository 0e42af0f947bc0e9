"""Alembic's entry: runs the versions against the database whose URL is in the configuration's attributes.

All versions of one call are one transaction, and only one process at a time is in it.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from store.database import lock_sqlite, open_engine
from store.tables import Table

MIGRATION_LOCK = 0x5ADD1E


def leave_references_alone(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # SQLite changes a table by copying it and dropping the old one, which would take the rows that refer to it along.
    connection.cursor().execute("PRAGMA foreign_keys=OFF")


def lock(connection: Connection) -> None:
    connection.begin()
    if connection.dialect.name == "postgresql":
        # A large table is rewritten for as long as it takes.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
    if connection.dialect.name == "sqlite":
        lock_sqlite(connection)
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")


def run() -> None:
    engine = open_engine(context.config.attributes["url"])
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", leave_references_alone)
    try:
        with engine.connect() as connection:
            lock(connection)
            context.configure(
                connection=connection, target_metadata=Table.metadata, render_as_batch=True, transactional_ddl=True
            )
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
    finally:
        engine.dispose()


run()
