"""Laws of saved runs, held on both databases: one state a job, under its fence, for as long as the job is not done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.vocabulary import FailureCode
from store import tables
from store.blobs import Blob
from store.events import list_events
from store.moments import seconds_from_now
from store.queue import claim_job, finish_cancelled, finish_failed, release, request_cancel, requeue_lapsed
from store.records import Claim, JobRow, SavedState
from store.saved_runs import Recorded, ended_with_state, find_saved_run, forget_saved_run, record_saved_run

Sessions = sessionmaker[Session]
Submit = Callable[..., JobRow]
FIRST, SECOND = Blob("sha256:" + "1" * 64, 2**40), Blob("sha256:" + "2" * 64, 8)


def claimed(sessions: Sessions, *, lease_seconds: float = 60) -> Claim:
    with sessions.begin() as session:
        session.execute(update(tables.Job).values(not_before=seconds_from_now(-1)))
        claim = claim_job(session, job_id=None, queues=["cpu"], worker="w", lease_seconds=lease_seconds)
    assert claim is not None
    return claim


def record(sessions: Sessions, claim: Claim, blob: Blob, matvecs: int = 7) -> Recorded | None:
    with sessions.begin() as session:
        return record_saved_run(session, claim, blob=blob, matvecs=matvecs)


@pytest.mark.parametrize("way", ["retry", "lapse", "release"])
def test_the_next_attempt_is_given_the_newest_state(sessions: Sessions, submit: Submit, way: str) -> None:
    job = submit()
    first = claimed(sessions, lease_seconds=-1)
    assert first.saved is None
    assert record(sessions, first, FIRST) == Recorded(replaced=None)
    assert record(sessions, first, FIRST, 8) == Recorded(replaced=None)
    assert record(sessions, first, SECOND, 9) == Recorded(replaced=FIRST.id)
    with sessions.begin() as session:
        match way:
            case "retry":
                finish_failed(session, first, code=FailureCode.WORKER_LOST, detail="", retryable=True)
            case "lapse":
                assert requeue_lapsed(session) == [job.id]
            case _:
                assert release(session, first)
    assert claimed(sessions).saved == SavedState(SECOND.id, 8, 9)
    with sessions() as session:
        started = [event.data for event in list_events(session, job.id) if event.type == "job.started"]
    assert [data.get("saved_matvecs") for data in started] == [None, 9]


def test_a_zombie_replaces_no_state(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    zombie = claimed(sessions, lease_seconds=-1)
    with sessions.begin() as session:
        requeue_lapsed(session)
    assert record(sessions, zombie, FIRST) is None
    heir = claimed(sessions)
    assert record(sessions, heir, SECOND) == Recorded(replaced=None)
    assert record(sessions, zombie, FIRST) is None
    with sessions() as session:
        assert find_saved_run(session, job.id) == SavedState(SECOND.id, 8, 7)


def test_a_state_goes_with_the_end_of_its_job_and_not_before(sessions: Sessions, submit: Submit) -> None:
    job, other = submit(), submit()
    held, second = claimed(sessions), claimed(sessions)
    record(sessions, held, FIRST)
    record(sessions, second, SECOND)
    with sessions.begin() as session:
        assert forget_saved_run(session, job.id) is None
        assert ended_with_state(session) == []
        request_cancel(session, project="default", job_id=job.id)
        assert finish_cancelled(session, held)
        assert ended_with_state(session) == [job.id]
        assert forget_saved_run(session, job.id) == FIRST.id
        assert forget_saved_run(session, job.id) is None
        assert find_saved_run(session, other.id) is not None
