"""A worker whose clock is wrong by an hour: leases, deadlines and dates are by the database's clock, so nothing changes."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from saddlescope.contract.vocabulary import JobStatus
from store.database import database_now
from tests.chaos.questions import long_question, question
from tests.chaos.site import Site

SOURCE = Path(__file__).with_name("clock_shift.c")
HOUR = 3600
TELL_TIME = "import time; print(time.time())"


def shifted_clock(folder: Path, seconds: int) -> dict[str, str]:
    """The environment of a process whose wall clock is that far off. Needs gcc."""
    library = folder / "clock_shift.so"
    if not library.exists():
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_SHIFT_SECONDS": str(seconds)}


def skewed_worker_changes_nothing(site: Site, *, num_jobs: int, seconds: int = HOUR) -> str:
    """Beside a worker with the right time, one that is an hour off runs and reconciles: no job is taken from anyone."""
    skew = shifted_clock(site.folder, seconds)
    told = subprocess.run(
        [sys.executable, "-c", TELL_TIME], env=os.environ | skew, capture_output=True, check=True, text=True
    )
    real = subprocess.run([sys.executable, "-c", TELL_TIME], capture_output=True, check=True, text=True)
    assert abs(float(told.stdout) - float(real.stdout) - seconds) < 60
    (right,) = site.workers
    skewed = site.add_worker(**skew)
    with site.client() as client:
        jobs = [long_question().submit(client, key=f"skewed {seconds} {number}", seed=number) for number in range(2)]
        # Other questions at every shift: what was answered before is not run again.
        numbers = range(40_000 + seconds, 40_000 + seconds + num_jobs)
        jobs += [question(0).submit(client, key=f"skewed {seconds} {number}", seed=number) for number in numbers]
        verdicts = [job.wait(timeout=300).verdict for job in jobs]
    with site.sessions() as session:
        moment = database_now(session)
    assert verdicts == [long_question().verdict] * 2 + [question(0).verdict] * num_jobs
    rows = [site.job(job.id) for job in jobs]
    assert {(row.status, row.attempt) for row in rows} == {(JobStatus.SUCCEEDED, 1)}
    workers = [row.worker for row in rows]
    assert {f"-{worker.pid}-" in str(name) for worker in (skewed, right) for name in workers} == {True, False}
    for row in rows:
        assert row.started_at is not None
        assert row.finished_at is not None
        assert (
            row.created_at <= row.started_at <= row.finished_at <= moment < row.created_at + timedelta(seconds=HOUR / 2)
        )
    site.dismiss(skewed)
    return f"{seconds:+d} s: {len(jobs)} jobs at their first attempt, every date by the database's clock"
