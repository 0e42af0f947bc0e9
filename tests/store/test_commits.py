"""Shared commits: what is answered is durable, what fails fails alone, and many share what one would cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.jobs import JobRequest
from store import tables
from store.commits import SharedCommits, transact
from store.database import open_engine, open_sessions
from store.jobs import insert_job
from store.records import JobRow

Sessions = sessionmaker[Session]


def insert(session: Session, *, request: JobRequest) -> JobRow:
    return insert_job(session, project="default", request=request, fingerprint="0" * 64)


def num_jobs(url: str) -> int:
    """As another process sees it."""
    engine = open_engine(url)
    with engine.connect() as connection:
        counted = connection.execute(text("SELECT count(*) FROM jobs")).scalar_one()
    engine.dispose()
    return int(counted)


def test_what_is_answered_is_there_for_everyone_and_many_share_a_commit(
    database_url: str, request_of: Callable[..., JobRequest]
) -> None:
    engine = open_engine(database_url)
    shared = SharedCommits(open_sessions(engine))
    num_commits = 0

    def count(_: object) -> None:
        nonlocal num_commits
        num_commits += 1

    event.listen(engine, "commit", count)
    seen: list[int] = []
    first_is_in = threading.Event()

    def slow(session: Session) -> JobRow:
        first_is_in.set()
        time.sleep(0.3)
        return insert(session, request=request_of())

    with ThreadPoolExecutor(31) as pool:
        first = pool.submit(shared.run, slow)
        first_is_in.wait()
        rest = [pool.submit(shared.run, partial(insert, request=request_of())) for _ in range(30)]
        jobs = [first.result(), *(one.result() for one in rest)]
        seen.append(num_jobs(database_url))
    assert seen == [31]
    assert len({job.id for job in jobs}) == 31
    assert num_commits <= 4  # the first alone; those that came meanwhile together
    engine.dispose()


def test_more_than_one_batch_holds_are_all_done(
    sessions: Sessions, database_url: str, request_of: Callable[..., JobRequest]
) -> None:
    shared = SharedCommits(sessions)
    with ThreadPoolExecutor(150) as pool:
        list(pool.map(lambda _: shared.run(partial(insert, request=request_of())), range(150)))
    assert num_jobs(database_url) == 150


def test_a_work_that_fails_fails_alone(
    sessions: Sessions, database_url: str, request_of: Callable[..., JobRequest]
) -> None:
    shared = SharedCommits(sessions)
    is_busy = threading.Event()

    def slow(session: Session) -> JobRow:
        is_busy.set()
        time.sleep(0.3)
        return insert(session, request=request_of())

    def broken(session: Session) -> None:
        insert(session, request=request_of())
        session.execute(text("INSERT INTO projects (name, created_at) VALUES (NULL, NULL)"))

    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(shared.run, slow)
        is_busy.wait()
        wrong = [pool.submit(shared.run, broken) for _ in range(2)]
        right = [pool.submit(shared.run, partial(insert, request=request_of())) for _ in range(8)]
        assert len({one.result().id for one in (first, *right)}) == 9
        for one in wrong:
            with pytest.raises(IntegrityError):
                one.result()
    assert num_jobs(database_url) == 9
    assert shared.run(partial(insert, request=request_of())).id  # it goes on


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_victim_of_a_deadlock_is_done_again(sessions: Sessions, submit: Callable[..., JobRow]) -> None:
    jobs = [submit().id for _ in range(2)]
    both_hold_one = threading.Barrier(2)
    num_runs = [0, 0]

    def cross(session: Session, *, me: int) -> int:
        num_runs[me] += 1
        for place, job_id in enumerate((jobs[me], jobs[1 - me])):
            one_more = tables.Job.priority + 1
            session.execute(update(tables.Job).where(tables.Job.id == job_id).values(priority=one_more))
            if place == 0 and num_runs[me] == 1:
                both_hold_one.wait(10)
        return me

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda me: transact(sessions, partial(cross, me=me)), range(2))) == [0, 1]
    assert sum(num_runs) >= 3
    with sessions() as session:
        assert set(session.scalars(select(tables.Job.priority))) == {2}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_that_is_lost_is_told_and_nothing_is_done_twice(sessions: Sessions) -> None:
    """Whether the COMMIT arrived cannot be known then, so that only the caller may decide to ask again."""
    runs: list[None] = []

    def lose(session: Session) -> None:
        runs.append(None)
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    shared = SharedCommits(sessions)
    with pytest.raises(OperationalError):
        shared.run(lose)
    assert len(runs) == 1
    with pytest.raises(OperationalError):
        transact(sessions, lose)
    assert len(runs) == 2
    assert shared.run(lambda session: session.execute(text("SELECT 7")).scalar_one()) == 7
