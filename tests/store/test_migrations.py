"""The migrations build the schema of `store.tables`, go back, and keep what is stored."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.orm import Session, sessionmaker

from store.database import alembic_config, migrate, open_engine
from store.jobs import find_job
from store.queue import claim_job
from store.records import JobRow
from store.tables import Table


def test_the_migrated_schema_is_that_of_the_tables(empty_url: str) -> None:
    migrate(empty_url)
    engine = open_engine(empty_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []
        migrated = {table: checks(connection, table) for table in Table.metadata.tables}
    with engine.begin() as connection:
        Table.metadata.drop_all(connection)
        Table.metadata.create_all(connection)
    with engine.connect() as connection:  # the comparison above does not look at CHECK constraints
        assert migrated == {table: checks(connection, table) for table in Table.metadata.tables}
        assert len(migrated["jobs"]) == 6
    engine.dispose()


def checks(connection: object, table: str) -> set[tuple[str, str]]:
    return {(check["name"], check["sqltext"]) for check in inspect(connection).get_check_constraints(table)}


def test_a_downgrade_removes_all_that_the_upgrade_made_however_full(
    database_url: str, sessions: sessionmaker[Session], submit: Callable[..., JobRow]
) -> None:
    before = submit(of={"labels": {"team": "vision"}})
    with sessions.begin() as session:
        assert claim_job(session, job_id=None, queues=["cpu"], worker="w") is not None
    command.downgrade(alembic_config(database_url), "base")
    engine = open_engine(database_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    migrate(database_url)
    after = submit()
    with sessions() as session:
        assert find_job(session, project="default", job_id=before.id) is None
        assert find_job(session, project="default", job_id=after.id) == after


def test_an_upgrade_leaves_the_rows_alone(
    database_url: str, sessions: sessionmaker[Session], submit: Callable[..., JobRow]
) -> None:
    job = submit(of={"labels": {"team": "vision"}})
    migrate(database_url)
    with sessions() as session:
        assert find_job(session, project="default", job_id=job.id) == job


def test_processes_that_migrate_at_once_do_it_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(run_migrate, empty_url) for _ in range(4)]
    assert [run.result() for run in runs] == [0] * 4
    engine = open_engine(empty_url)
    assert "jobs" in inspect(engine).get_table_names()
    engine.dispose()


def run_migrate(url: str) -> int:
    environment = os.environ | {"SADDLESCOPE_DATABASE_URL": url}
    root = Path(__file__).resolve().parents[2]
    return subprocess.run([sys.executable, "-m", "store", "migrate"], env=environment, cwd=root, check=False).returncode


def test_every_step_goes_up_and_down_with_data_in_it(
    database_url: str, sessions: sessionmaker[Session], submit: Callable[..., JobRow]
) -> None:
    steps = [step.revision for step in ScriptDirectory.from_config(alembic_config(database_url)).walk_revisions()]
    job = submit(of={"labels": {"team": "vision"}, "run": {"id": "r", "step": 1}})
    for oldest in steps[1:]:
        command.downgrade(alembic_config(database_url), oldest)
        engine = open_engine(database_url)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT id FROM jobs")).scalars().all() == [job.id]
        engine.dispose()
        migrate(database_url)
        with sessions() as session:
            assert find_job(session, project="default", job_id=job.id) == job
