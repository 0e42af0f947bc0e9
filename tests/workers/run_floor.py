"""A place to work: real stores, and real worker processes whose runners do what the tests tell them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import redis
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import JobStatus
from store import tables
from store.database import database_now, migrate, open_engine, open_sessions
from store.doorbell import celery_app, ring
from store.events import list_events
from store.jobs import find_job, insert_job
from store.moments import now
from store.presence import present_workers
from store.queue import mark_dispatched
from store.records import JobRow

ROOT = Path(__file__).resolve().parents[2]
BROKER_DATABASES = itertools.cycle(range(16))
SCRIPT = Path(__file__).with_name("run_worker.py")


@contextmanager
def open_floor(folder: Path, broker_socket: Path, database_url: str | None = None) -> Iterator[Floor]:
    """Fresh stores in `folder`, or in an empty database elsewhere, and an empty broker; the workers end with it."""
    url = database_url or f"sqlite:///{folder / 'jobs.db'}"
    migrate(url)
    engine = open_engine(url)
    floor = Floor(
        folder=folder,
        sessions=open_sessions(engine),
        database_url=url,
        # A database of the broker's for each floor: nobody hears another's bell.
        broker_url=f"redis+socket://{broker_socket}?virtual_host={next(BROKER_DATABASES)}",
    )
    floor.flush_broker()
    try:
        yield floor
    finally:
        for process in floor.workers:
            if process.poll() is None:
                process.kill()
                process.wait()
        engine.dispose()


@dataclass
class Floor:
    folder: Path
    sessions: sessionmaker[Session]
    database_url: str
    broker_url: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        mine = {
            "SADDLESCOPE_DATABASE_URL": self.database_url,
            "SADDLESCOPE_BROKER_URL": self.broker_url,
            "SADDLESCOPE_BLOBS_URL": str(self.folder / "blobs"),
            "SADDLESCOPE_WORKER_SCRATCH": str(self.folder / "scratch"),
            "SADDLESCOPE_DEVICE": "cpu",
            "PYTHONPATH": str(ROOT),
        }
        return os.environ | mine

    def start_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it says that it is there."""
        before = {row.name for row in self.present()}
        with (self.folder / "workers.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT)], env=self.environment() | environment, stderr=log, cwd=self.folder
            )
        self.workers.append(process)
        wait_until(lambda: {row.name for row in self.present()} - before or process.poll() is not None, seconds=60)
        assert process.poll() is None, (self.folder / "workers.log").read_text()
        return process

    def run_once(self, max_jobs: int = 1000, *, exit_status: int = 0, **environment: str) -> None:
        """Run what is queued in a worker that then exits."""
        with (self.folder / "workers.log").open("ab") as log:
            done = subprocess.run(
                [sys.executable, str(SCRIPT), str(max_jobs)],
                env=self.environment() | environment,
                stderr=log,
                cwd=self.folder,
                check=False,
                timeout=60,
            )
        assert done.returncode == exit_status, self.log()

    def flush_broker(self) -> None:
        """Make the broker forget every message, as FLUSHALL does."""
        path, _, number = self.broker_url.removeprefix("redis+socket://").partition("?virtual_host=")
        with redis.Redis(unix_socket_path=path, db=int(number)) as client:
            client.flushdb()

    def wake(self, session: Session, job_id: str) -> None:
        """Let a job's backoff be over."""
        session.execute(update(tables.Job).where(tables.Job.id == job_id).values(not_before=now()))

    def present(self) -> tuple[object, ...]:
        with self.sessions() as session:
            return present_workers(session)

    def submit(
        self, do: str, *, queue: str = "cpu", seconds: float | None = None, priority: int = 0, rings: bool = True
    ) -> str:
        """Queue a job whose runner does `do`, and ring as the service does; `seconds` is its deadline."""
        request = JobRequest.model_validate(
            {
                "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
                "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
                "labels": {"do": do},
                "queue": queue,
                "priority": priority,
            }
        )
        with self.sessions.begin() as session:
            deadline = None if seconds is None else database_now(session) + timedelta(seconds=seconds)
            job = insert_job(session, project="default", request=request, fingerprint="f" * 64, deadline_at=deadline)
        if rings:
            ring(celery_app(self.broker_url), job.id, job.queue)
            with self.sessions.begin() as session:
                mark_dispatched(session, job.id)
        return job.id

    def job(self, job_id: str) -> JobRow:
        with self.sessions() as session:
            job = find_job(session, project="default", job_id=job_id)
        assert job is not None
        return job

    def await_end(self, job_id: str, *, seconds: float = 30) -> JobRow:
        wait_until(lambda: self.job(job_id).status.is_terminal, seconds=seconds)
        return self.job(job_id)

    def await_running(self, job_id: str, *, seconds: float = 30) -> JobRow:
        wait_until(lambda: self.job(job_id).status is JobStatus.RUNNING, seconds=seconds)
        return self.job(job_id)

    def events(self, job_id: str) -> list[str]:
        with self.sessions() as session:
            return [event.type for event in list_events(session, job_id)]

    def num_states(self) -> int:
        """Saved runs that a row names."""
        with self.sessions() as session:
            return len(session.scalars(select(tables.SavedRun.job_id)).all())

    def num_blobs(self) -> int:
        return len(list((self.folder / "blobs" / "sha256").glob("*/*")))

    def num_reports(self, job_id: str) -> int:
        with self.sessions() as session:
            return len(
                session.scalars(select(tables.StoredReport.job_id).where(tables.StoredReport.job_id == job_id)).all()
            )

    def log(self) -> str:
        return (self.folder / "workers.log").read_text(encoding="utf-8")


def wait_until(holds: Callable[[], object], *, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, f"did not come true within {seconds} s"
        time.sleep(0.02)
