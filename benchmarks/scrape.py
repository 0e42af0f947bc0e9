"""What a scrape of /metrics asks a SQLite database of 100,000 jobs, by the share of jobs that are alive.

Fails above `MOST_SECONDS` for what is asked at every scrape while one job in a hundred is alive.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.peers.environment import origin, write_results
from benchmarks.promises import Promise
from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import JobStatus
from store.census import count_by_status, count_lapsed, count_overdue_deliveries, take_census
from store.database import migrate, open_engine, open_sessions
from store.projects import ensure_project
from store.tables import Job

NUM_JOBS, NUM_QUICK_JOBS = 100_000, 20_000
MOST_SECONDS = 0.05
REPEATS = 9
EACH_TIME: tuple[Callable[[Session], object], ...] = (take_census, count_lapsed, count_overdue_deliveries)


def run(*, quick: bool = False) -> list[Promise]:
    """Measure, print and store."""
    here, num_jobs = origin("SQLAlchemy", "SQLite"), NUM_QUICK_JOBS if quick else NUM_JOBS
    worst, tables = {}, []
    for one_in in (100, 1):
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'jobs.db'}"
            migrate(url)
            engine = open_engine(url)
            sessions = open_sessions(engine)
            _fill(sessions, num_jobs, one_in)
            print(f"{num_jobs:,} jobs, one in {one_in} queued")
            seconds = {ask.__name__: _time(sessions, ask) for ask in EACH_TIME}
            worst[one_in] = sum(seconds.values())
            by_status = _time(sessions, count_by_status)
            tables.append({"one_in": one_in, "each_time_seconds": seconds, "by_status_seconds": by_status})
            engine.dispose()
    if not quick:
        write_results("scrape", {**here, "num_jobs": num_jobs, "most_seconds": MOST_SECONDS, "tables": tables})
    return [Promise(f"census of {num_jobs:,} jobs, seconds", worst[100], MOST_SECONDS)]


def _time(sessions: sessionmaker[Session], ask: Callable[[Session], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        with sessions() as session:
            ask(session)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    print(f"  {ask.__name__:<26}{median * 1e3:>8.1f} ms")
    return median


def _fill(sessions: sessionmaker[Session], num_jobs: int, one_in: int) -> None:
    request = JobRequest.model_validate(
        {"checkpoint": {"inline": {"w": [0.1] * 100}}, "loss": {"kind": "expression", "expression": "sum(w**2)"}}
    )
    now = datetime.now(UTC)
    same = {
        "project": "default", "queue": "cpu", "priority": 0, "fence": 0, "attempt": 0, "max_attempts": 3, "labels": {},
        "details": {}, "created_at": now, "not_before": now, "fingerprint": "f" * 64, "request": request,
    }  # fmt: skip
    queued = {"status": JobStatus.QUEUED, "finished_at": None, "error_code": None}
    failed = {"status": JobStatus.FAILED, "finished_at": now, "error_code": "internal"}
    rows = [{"id": f"job_{i:032x}", **same, **(failed if i % one_in else queued)} for i in range(num_jobs)]
    with sessions.begin() as session:
        ensure_project(session, "default")
        for first in range(0, num_jobs, 5_000):
            session.execute(insert(Job), rows[first : first + 5_000])
