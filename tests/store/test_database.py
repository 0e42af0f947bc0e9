"""Transactions and clocks: what the rest of the store relies on."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from store import tables
from store.database import PING_AFTER_SECONDS, POSTGRESQL_OPTIONS, close_engine, database_now, open_engine, open_glances
from store.identifiers import new_id, uuid7
from store.jobs import find_job
from store.records import JobRow

Sessions = sessionmaker[Session]


def test_the_clock_is_utc_and_moves_within_a_transaction(sessions: Sessions) -> None:
    with sessions.begin() as session:
        first = database_now(session)
        time.sleep(0.01)
        assert database_now(session) > first
    assert first.tzinfo is UTC
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_moment_comes_back_from_any_time_zone_as_the_same_instant(
    sessions: Sessions, submit: Callable[..., JobRow]
) -> None:
    moment = datetime(2031, 5, 6, 23, 59, 59, 123456, tzinfo=timezone(timedelta(hours=-7)))
    job = submit(deadline_at=moment)
    with sessions() as session:
        session.execute(text("SELECT 1"))
        deadline = find_job(session, project="default", job_id=job.id).deadline_at
    assert deadline == moment
    assert deadline.tzinfo is UTC
    with pytest.raises(Exception, match="no time zone"), sessions.begin() as session:
        session.execute(update(tables.Job).values(deadline_at=datetime(2031, 5, 6)))


def test_writers_that_read_first_wait_for_each_other(sessions: Sessions, submit: Callable[..., JobRow]) -> None:
    """A read, a pause and a write in each transaction: no write is lost and none fails on a stale snapshot."""
    job = submit()

    def add(_: int) -> None:
        for _ in range(5):
            with sessions.begin() as session:
                query = select(tables.Job.priority).where(tables.Job.id == job.id).with_for_update()
                priority = session.scalars(query).one()
                time.sleep(0.002)
                session.execute(update(tables.Job).values(priority=priority + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    with sessions() as session:
        assert find_job(session, project="default", job_id=job.id).priority == 20


def test_a_reader_does_not_wait_for_a_writer(sessions: Sessions, submit: Callable[..., JobRow]) -> None:
    job = submit()
    with sessions.begin() as writer:
        writer.execute(update(tables.Job).values(priority=7))
        with sessions() as reader:
            started = time.monotonic()
            assert find_job(reader, project="default", job_id=job.id).priority == 0
            assert time.monotonic() - started < 1


def test_sqlite_keeps_what_it_has_acknowledged(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/new/folder/a.db")
    with engine.connect() as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in
                   ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")]  # fmt: skip
    engine.dispose()
    assert pragmas == ["wal", 2, 1, 30_000]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x"])
def test_a_database_that_cannot_hold_jobs_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"SQLite needs a file|use a URL that begins with"):
        open_engine(url)


def test_identifiers_sort_by_creation_across_threads_and_are_version_7() -> None:
    made: list[tuple[str, ...]] = []
    start = threading.Barrier(4)

    def make() -> None:
        start.wait()
        made.append(tuple(new_id("job") for _ in range(5_000)))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(before < after for one in made for before, after in pairwise(one))
    assert len({identifier for one in made for identifier in one}) == 20_000
    assert all(re.fullmatch(r"job_[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", one[0]) for one in made)
    milliseconds = uuid7().int >> 80
    assert abs(milliseconds - time.time() * 1000) < 1000


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_has_its_limits_unless_the_operator_says_otherwise(database_url: str) -> None:
    def limits(url: str) -> dict[str, str]:
        engine = open_engine(url)
        with engine.connect() as connection:
            told = {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in POSTGRESQL_OPTIONS}
        engine.dispose()
        return told

    assert limits(database_url) == {
        "statement_timeout": "30s", "lock_timeout": "20s", "idle_in_transaction_session_timeout": "1min",
    }  # fmt: skip
    own = make_url(database_url).update_query_dict({"options": "-c statement_timeout=7s"})
    assert limits(own.render_as_string(hide_password=False))["statement_timeout"] == "7s"


def test_a_glance_sees_what_is_committed_and_holds_nothing(
    database_url: str, sessions: Sessions, submit: Callable[..., JobRow]
) -> None:
    job = submit()
    engine = open_engine(database_url)
    with open_glances(engine)() as glance:
        assert find_job(glance, project="default", job_id=job.id) == job
        with sessions.begin() as writer:  # a reader that held the row, or the database, would be in its way
            writer.execute(update(tables.Job).values(priority=7))
    with open_glances(engine)() as glance:
        assert find_job(glance, project="default", job_id=job.id).priority == 7
    engine.dispose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_connections_that_a_restart_has_cut_cost_no_request(database_url: str, sessions: Sessions) -> None:
    with ExitStack() as pooled:
        for _ in range(5):
            pooled.enter_context(sessions()).execute(text("SELECT 1"))
    other = open_engine(database_url)
    with other.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                 "AND datname = current_database()")
        )  # fmt: skip
    other.dispose()
    time.sleep(PING_AFTER_SECONDS)
    for _ in range(5):
        with sessions() as session:
            assert session.execute(text("SELECT 7")).scalar_one() == 7


def test_what_a_thread_still_reads_is_read_before_the_connections_close(database_url: str) -> None:
    engine = open_engine(database_url)
    reading, may_end = threading.Event(), threading.Event()

    def read() -> int:
        with engine.connect() as connection:
            reading.set()
            assert may_end.wait(60)
            return connection.execute(text("SELECT 7")).scalar_one()

    with ThreadPoolExecutor(2) as pool:
        read_value = pool.submit(read)
        assert reading.wait(60)
        closed = pool.submit(close_engine, engine, patience_seconds=60)
        time.sleep(0.1)
        assert not closed.done()
        may_end.set()
        closed.result()
        assert read_value.result() == 7


def test_a_thread_that_never_ends_does_not_hold_up_the_end(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        close_engine(engine, patience_seconds=0.05)
        connection.invalidate()
