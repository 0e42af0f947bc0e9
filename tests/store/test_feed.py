"""The order of all events together, held on both databases: nothing missed, nothing twice, whoever commits when."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from store import tables
from store.events import append_event
from store.feed import FeedEntry, has_unplaced, last_position, place_events, position_of, read_feed
from store.queue import request_cancel
from store.records import JobRow

Sessions = sessionmaker[Session]
Submit = Callable[..., JobRow]


def place(sessions: Sessions, *, limit: int = 1000) -> int:
    with sessions.begin() as session:
        return place_events(session, limit=limit)


def test_a_reader_of_all_jobs_misses_nothing_while_writers_and_placers_race(sessions: Sessions, submit: Submit) -> None:
    jobs = [submit().id for _ in range(3)]

    def append(writer: int) -> None:
        chance = random.Random(writer)
        for _ in range(20):
            with sessions.begin() as session:
                append_event(session, chance.choice(jobs), "job.progress", {"writer": writer})

    seen, fresh = list[FeedEntry](), tuple[FeedEntry, ...]()
    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(append, writer) for writer in range(3)]
        placers: list[Future[int]] = []
        is_settled = False
        while not is_settled or fresh:
            if not is_settled and all(placer.done() for placer in placers):
                is_settled = all(writer.done() for writer in writers) and place(sessions) == 0
                placers = [] if is_settled else [pool.submit(place, sessions, limit=7) for _ in range(2)]
            with sessions() as session:
                fresh = read_feed(session, after=seen[-1].position if seen else 0, limit=5)
            seen += fresh
        for writer in writers:
            writer.result()
    assert [entry.position for entry in seen] == list(range(1, 64))
    with sessions() as session:
        assert {entry.event.id for entry in seen} == set(session.scalars(select(tables.Event.id)))
    for job in jobs:  # as each job's own history has it
        numbers = [entry.event.number for entry in seen if entry.event.job_id == job]
        assert numbers == list(range(1, len(numbers) + 1))


def test_an_event_is_in_the_feed_once_it_is_placed(sessions: Sessions, submit: Submit) -> None:
    submit()
    with sessions() as session:
        assert has_unplaced(session)
        assert read_feed(session, limit=9) == ()
    assert place(sessions) == 1
    assert place(sessions) == 0
    with sessions() as session:
        assert not has_unplaced(session)
        assert (last_position(session), len(read_feed(session, limit=9))) == (1, 1)


def test_the_feed_is_a_projects_own_and_a_runs_when_asked(sessions: Sessions, submit: Submit) -> None:
    ours = [submit(project="ours", of={"run": {"id": run}}).id for run in ("a", "b", "a")]
    submit(project="theirs", of={"run": {"id": "a"}})
    place(sessions)

    def jobs(**arguments: object) -> list[str]:
        with sessions() as session:
            return [entry.event.job_id for entry in read_feed(session, limit=9, **arguments)]

    assert jobs(project="ours") == ours
    assert jobs(project="ours", run="a") == [ours[0], ours[2]]
    assert jobs(project="ours", newest_first=True) == ours[::-1]
    assert jobs(project="nobody") == []
    assert len(jobs()) == 4


def test_a_reader_resumes_at_an_event_even_when_its_job_is_gone(sessions: Sessions, submit: Submit) -> None:
    jobs = [submit().id for _ in range(3)]
    place(sessions)
    with sessions() as session:
        entries = read_feed(session, limit=9)
        assert [position_of(session, project="default", event_id=one.event.id) for one in entries] == [1, 2, 3]
        assert position_of(session, project="other", event_id=entries[0].event.id) is None
    with sessions.begin() as session:
        session.execute(delete(tables.Job).where(tables.Job.id == jobs[1]))
    with sessions() as session:
        after = position_of(session, project="default", event_id=entries[1].event.id)
        assert [entry.event.job_id for entry in read_feed(session, after=after, limit=9)] == [jobs[2]]


def test_positions_are_never_given_again(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    place(sessions)
    with sessions.begin() as session:
        session.execute(delete(tables.Job).where(tables.Job.id == job.id))
    submit()
    place(sessions)
    with sessions() as session:
        assert [entry.position for entry in read_feed(session, limit=9)] == [2]


def test_an_end_is_the_last_of_its_job_in_the_feed(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    with sessions.begin() as session:
        request_cancel(session, project="default", job_id=job.id)
    place(sessions)
    with sessions() as session:
        assert [entry.event.type for entry in read_feed(session, limit=9)] == ["job.queued", "job.cancelled"]
