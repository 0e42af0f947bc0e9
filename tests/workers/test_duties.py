"""Laws of what time alone does not bring about, on both databases: every duty may be done by two workers at once."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import FailureCode, JobStatus
from store import tables
from store.artifacts import record_artifact
from store.blobs import Blob, open_blobs
from store.database import open_engine, open_sessions
from store.doorbell import celery_app
from store.events import list_events
from store.idempotency import IdempotencyEntry
from store.jobs import find_job, insert_job
from store.moments import seconds_from_now
from store.presence import announce_worker
from store.queue import claim_job, finish_failed
from store.records import Claim, JobRow
from store.saved_runs import record_saved_run
from workers import garbage
from workers.duties import CHORES, DUTIES, Round
from workers.launcher import ForkServer
from workers.metrics import WorkerMetrics
from workers.scratch import open_scratch
from workers.settings import WorkerSettings
from workers.stopping import Stop
from workers.workshop import Workshop

DAY = 86_400
TOY = JobRequest.model_validate(
    {"checkpoint": {"inline": {"w": 1.0}}, "loss": {"kind": "expression", "expression": "w**2"}}
)


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Iterator[Workshop]:
    engine = open_engine(database_url)
    with open_scratch(tmp_path / "scratch", "w") as scratch:
        yield Workshop(
            name="w",
            queues=("cpu",),
            settings=WorkerSettings(database_url="unused", broker_url="unused", blobs_url="unused"),
            sessions=open_sessions(engine),
            blobs=open_blobs(tmp_path / "blobs"),
            fork_server=ForkServer(device="cpu"),
            scratch=scratch.folder,
            stop=Stop(),
            metrics=WorkerMetrics(num_slots=1),
            traces=None,
            slots=threading.Semaphore(1),
        )
    engine.dispose()


@pytest.fixture
def round_of(shop: Workshop, broker_socket: Path) -> Round:
    return Round(shop=shop, app=celery_app(f"redis+socket://{broker_socket}?virtual_host=15"), is_settled=True)


def insert(sessions: sessionmaker[Session], *, key: str | None = None, queue: str = "cpu") -> JobRow:
    request = TOY.model_copy(update={"queue": queue})
    entry = None if key is None else IdempotencyEntry(key=key, body_digest="d")
    with sessions.begin() as session:
        return insert_job(session, project="default", request=request, fingerprint="f" * 64, idempotency=entry)


def claim(sessions: sessionmaker[Session], job: JobRow, *, lease_seconds: float = 60, worker: str = "dead") -> Claim:
    with sessions.begin() as session:
        taken = claim_job(session, job_id=job.id, queues=["cpu"], worker=worker, lease_seconds=lease_seconds)
    assert taken is not None
    return taken


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def path_of(shop: Workshop, blob: Blob) -> Path:
    with shop.blobs.local(blob.id) as path:
        return path


def test_two_workers_that_do_every_duty_at_once_do_it_once(shop: Workshop, round_of: Round) -> None:
    sessions = shop.sessions
    lapsed, late, buried, foreign, fresh = (insert(sessions) for _ in range(5))
    claim(sessions, lapsed, lease_seconds=-1)
    claim(sessions, buried, worker="dead-on-this-machine")
    (shop.scratch.parent / "saddlescope-worker-dead-on-this-machine").mkdir()
    with sessions.begin() as session:
        announce_worker(session, name="w", queues=["cpu"], device="cpu", sandbox="basic")
        session.execute(update(tables.Job).where(tables.Job.id == foreign.id).values(queue="gpu"))
        session.execute(update(tables.Job).where(tables.Job.id == late.id).values(deadline_at=seconds_from_now(-1)))
        session.execute(update(tables.Job).where(tables.Job.id == fresh.id).values(not_before=seconds_from_now(-60)))
    both = threading.Barrier(2)

    def work(_: int) -> None:
        for duty in DUTIES:
            both.wait()
            duty.perform(round_of)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    with sessions() as session:
        jobs = {job.id: find_job(session, project="default", job_id=job.id) for job in (lapsed, late, buried, foreign)}
        history = {job: Counter(event.type for event in list_events(session, job)) for job in jobs}
        dispatched = session.scalars(select(tables.Job.dispatched_at).where(tables.Job.id == fresh.id)).one()
    for job in (lapsed, buried):
        assert (jobs[job.id].status, jobs[job.id].attempt) == (JobStatus.QUEUED, 1)
        assert history[job.id]["job.requeued"] == 1
    assert (jobs[late.id].status, jobs[late.id].error.code) == (JobStatus.FAILED, FailureCode.DEADLINE_EXCEEDED)
    assert history[late.id]["job.failed"] == 1
    assert "no worker of the queue 'gpu'" in jobs[foreign.id].waiting_because
    assert history[foreign.id]["job.waiting"] == 1
    assert dispatched is not None


def test_an_unsettled_worker_takes_no_lapsed_job(shop: Workshop, round_of: Round) -> None:
    job = insert(shop.sessions)
    claim(shop.sessions, job, lease_seconds=-1)
    for duty in DUTIES:
        duty.perform(Round(shop=shop, app=round_of.app, is_settled=False))
    with shop.sessions() as session:
        assert find_job(session, project="default", job_id=job.id).status is JobStatus.RUNNING


def test_what_nothing_needs_is_thrown_away_and_the_rest_is_kept(shop: Workshop) -> None:
    """Keys of last week, workers of yesterday, states of ended jobs, old blobs without a name; by two workers at once."""
    sessions, blobs = shop.sessions, shop.blobs
    keyed, ended = insert(sessions, key="old"), insert(sessions, key="new")
    held = claim(sessions, ended)
    state, named, orphan, young = (blobs.put(text.encode()) for text in ("state", "named", "orphan", "young"))
    for blob in (state, named, orphan):
        age(path_of(shop, blob), 2 * DAY)
    torn = path_of(shop, named).parents[2] / "tmp" / "torn"
    torn.write_bytes(b"half")
    age(torn, 2 * DAY)
    old_key = tables.IdempotencyKey.job_id == keyed.id
    with sessions.begin() as session:
        record_artifact(session, project="default", blob=named)
        record_saved_run(session, held, blob=state, matvecs=1)
        finish_failed(session, held, code=FailureCode.CRASHED, detail="", retryable=False)
        session.execute(update(tables.IdempotencyKey).where(old_key).values(created_at=seconds_from_now(-8 * DAY)))
        for name in ("gone", "here"):
            announce_worker(session, name=name, queues=["cpu"], device="cpu", sandbox="basic")
        gone = tables.Worker.name == "gone"
        session.execute(update(tables.Worker).where(gone).values(seen_at=seconds_from_now(-2 * DAY)))
    both = threading.Barrier(2)

    def work(_: int) -> None:
        for chore in CHORES:
            both.wait()
            chore.perform(shop)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert [blobs.exists(blob.id) for blob in (state, named, orphan, young)] == [False, True, False, True]
    assert not torn.exists()
    with sessions() as session:
        assert session.scalars(select(tables.IdempotencyKey.key)).all() == ["new"]
        assert session.scalars(select(tables.Worker.name)).all() == ["here"]
        assert session.scalar(select(func.count()).select_from(tables.SavedRun)) == 0


def test_a_named_blob_that_is_missing_is_told_and_nothing_else(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    here, lost = shop.blobs.put(b"here"), shop.blobs.put(b"lost")
    with shop.sessions.begin() as session:
        for project in ("a", "b"):
            for blob in (here, lost):
                record_artifact(session, project=project, blob=blob)
    shop.blobs.delete(lost.id)
    garbage.report_missing_blobs(shop)
    told = capsys.readouterr().out
    assert lost.id in told
    assert "count=1" in told
    assert here.id not in told
