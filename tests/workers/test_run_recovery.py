"""Laws of recovery: a worker may die at any moment or be asked to stop; no job is lost, doubled or charged for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from run_floor import SCRIPT, Floor, wait_until
from servers import administer
from sqlalchemy import make_url

from saddlescope.contract.vocabulary import FailureCode, JobStatus

SHORT_LEASE = {"SADDLESCOPE_WORKER_LEASE_SECONDS": "4", "SADDLESCOPE_WORKER_RECONCILE_SECONDS": "0.5"}
BOTH = pytest.mark.parametrize("floor", ["sqlite", "postgresql"], indirect=True)


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def await_file(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text(), seconds=20)
    return int(path.read_text())


@BOTH
def test_a_worker_killed_in_a_job_leaves_no_process_and_its_successor_finishes_the_job_once(floor: Floor) -> None:
    first = floor.start_worker()
    job_id = floor.submit(f"sleep_once:{floor.folder / 'pid'}")
    await_file(floor.folder / "pid")
    children = descendants(first)
    assert len(children) >= 2
    first.kill()
    first.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    assert floor.job(job_id).status is JobStatus.RUNNING
    (leftover,) = (floor.folder / "scratch").iterdir()
    floor.start_worker()
    assert not leftover.exists()
    assert len(floor.present()) == 1
    job = floor.await_end(job_id, seconds=30)  # well before a lease lapses
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2), floor.log()
    assert floor.num_reports(job_id) == 1


def test_a_worker_killed_while_it_starts_leaves_nobody_who_loads_on(floor: Floor) -> None:
    worker = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        env=floor.environment() | {"RUN_TARGET": "run_slow_start:DEED", "TMPDIR": str(floor.folder)},
    )
    floor.workers.append(worker)
    server = psutil.Process(await_file(floor.folder / "loading"))
    worker.kill()
    worker.wait()
    _, alive = psutil.wait_procs([server], timeout=10)
    assert alive == []


def test_a_worker_on_another_machine_finishes_the_job_when_the_lease_has_lapsed(floor: Floor) -> None:
    first = floor.start_worker(**SHORT_LEASE)
    job_id = floor.submit(f"sleep_once:{floor.folder / 'pid'}")
    await_file(floor.folder / "pid")
    first.kill()
    first.wait()
    floor.start_worker(**SHORT_LEASE, SADDLESCOPE_WORKER_SCRATCH=str(floor.folder / "elsewhere"))
    assert floor.job(job_id).status is JobStatus.RUNNING
    job = floor.await_end(job_id)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2), floor.log()
    assert floor.num_reports(job_id) == 1


# A process that is frozen while it writes to SQLite keeps everyone out until it goes on; PostgreSQL ends it after a while.
@pytest.mark.parametrize("floor", ["postgresql"], indirect=True)
def test_a_worker_that_was_frozen_wakes_as_a_zombie_and_changes_nothing(floor: Floor) -> None:
    frozen = floor.start_worker(**SHORT_LEASE)
    job_id = floor.submit(f"sleep_once:{floor.folder / 'pid'}")
    runner = await_file(floor.folder / "pid")
    os.kill(frozen.pid, signal.SIGSTOP)
    floor.start_worker(**SHORT_LEASE)
    wait_until(lambda: "job.requeued" in floor.events(job_id), seconds=60)
    with floor.sessions.begin() as session:
        floor.wake(session, job_id)
    job = floor.await_end(job_id)
    os.kill(frozen.pid, signal.SIGCONT)
    _, alive = psutil.wait_procs([psutil.Process(runner)] if psutil.pid_exists(runner) else [], timeout=20)
    assert alive == []
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2), floor.log()
    assert floor.job(job_id) == job
    assert floor.events(job_id).count("job.succeeded") == floor.num_reports(job_id) == 1
    assert floor.await_end(floor.submit("answer")).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("floor", ["postgresql"], indirect=True)
def test_a_database_that_is_away_for_longer_than_a_lease_costs_no_attempt(floor: Floor) -> None:
    for place in ("here", "there"):  # whose leases lapse, and who might think them dead
        floor.start_worker(**SHORT_LEASE, SADDLESCOPE_WORKER_SCRATCH=str(floor.folder / place))
    jobs = [floor.submit(f"sleep:{seconds}") for seconds in (4, 14)]  # one ends meanwhile, the other after
    for job_id in jobs:
        floor.await_running(job_id)
    name = make_url(floor.database_url).database
    server = make_url(floor.database_url).set(database="postgres").render_as_string(hide_password=False)
    administer(
        server,
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    time.sleep(8)
    administer(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    ended = [floor.await_end(job_id, seconds=60) for job_id in jobs]
    assert [(job.status, job.attempt) for job in ended] == [(JobStatus.SUCCEEDED, 1)] * 2, floor.log()
    assert "heartbeat_failed" in floor.log()
    assert "finish_failed" in floor.log()


def test_a_living_worker_is_not_taken_for_dead(floor: Floor) -> None:
    floor.start_worker()
    job_id = floor.submit("sleep:6")
    floor.await_running(job_id)
    floor.start_worker()
    job = floor.await_end(job_id)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 1)
    assert len(floor.present()) == 2


def test_a_job_that_takes_its_worker_with_it_three_times_fails_as_lost(floor: Floor) -> None:
    job_id = floor.submit("sleep:600")
    for attempt in (1, 2, 3):
        worker = floor.start_worker()
        with floor.sessions.begin() as session:
            floor.wake(session, job_id)
        wait_until(lambda attempt=attempt: floor.job(job_id).attempt == attempt, seconds=20)
        worker.kill()
        worker.wait()
    floor.run_once(exit_status=3)
    job = floor.job(job_id)
    assert (job.status, job.attempt) == (JobStatus.FAILED, 3)
    assert job.error is not None
    assert job.error.code is FailureCode.WORKER_LOST


def test_sigterm_gives_the_job_back_uncounted_and_leaves_no_child(floor: Floor) -> None:
    worker = floor.start_worker()
    job_id = floor.submit(f"sleep_once:{floor.folder / 'pid'}")
    await_file(floor.folder / "pid")
    children = descendants(worker)
    worker.terminate()
    assert worker.wait(timeout=10) == 0, floor.log()
    _, alive = psutil.wait_procs(children, timeout=1)
    assert alive == []
    job = floor.job(job_id)
    assert (job.status, job.attempt) == (JobStatus.QUEUED, 0)
    assert "job.released" in floor.events(job_id)
    assert floor.present() == ()
    assert list((floor.folder / "scratch").iterdir()) == []
    floor.start_worker()
    assert floor.await_end(job_id).attempt == 1


def test_an_idle_worker_stops_at_once_on_ctrl_c(floor: Floor) -> None:
    worker = floor.start_worker()
    asked = time.monotonic()
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=10) == 0, floor.log()
    assert time.monotonic() - asked < 5


@BOTH
def test_two_workers_run_every_job_once(floor: Floor) -> None:
    floor.start_worker()
    floor.start_worker()
    jobs = [floor.submit("sleep:0.05") for _ in range(20)]
    assert {floor.await_end(job).status for job in jobs} == {JobStatus.SUCCEEDED}
    assert {floor.events(job).count("job.started") for job in jobs} == {1}
    assert len({floor.job(job).worker for job in jobs}) == 2


def test_a_job_whose_message_never_left_is_rung_again(floor: Floor) -> None:
    floor.start_worker(SADDLESCOPE_WORKER_POLL_SECONDS="600", SADDLESCOPE_WORKER_RECONCILE_SECONDS="0.5")
    started = time.monotonic()
    assert floor.await_end(floor.submit("answer", rings=False)).status is JobStatus.SUCCEEDED
    assert time.monotonic() - started > 4  # not before the service has had its time to ring


def test_a_worker_works_without_its_broker_and_hears_it_when_it_comes_back(floor: Floor, tmp_path: Path) -> None:
    broker = tmp_path / "late"
    worker = floor.start_worker(SADDLESCOPE_BROKER_URL=f"redis+socket://{broker}")
    assert floor.await_end(floor.submit("answer", rings=False)).status is JobStatus.SUCCEEDED
    worker.terminate()
    assert worker.wait(timeout=15) == 0, floor.log()
