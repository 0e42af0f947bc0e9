"""Laws of saved runs, with real workers: what a runner has saved is where its next attempt begins, and it is not left lying."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from run_floor import Floor, wait_until

from saddlescope.contract.vocabulary import JobStatus
from store.queue import request_cancel

BOTH = pytest.mark.parametrize("floor", ["sqlite", "postgresql"], indirect=True)
NUM_BLOBS_OF_AN_ANSWER = 2


def submit_count(floor: Floor) -> str:
    return floor.submit(f"count:{floor.folder / 'begins'}|{floor.folder / 'pid'}")


def begins(floor: Floor) -> list[int]:
    return [int(line) for line in (floor.folder / "begins").read_text().split()]


def await_state(floor: Floor) -> None:
    wait_until(floor.num_states, seconds=30)


@BOTH
def test_a_job_whose_runner_is_killed_goes_on_from_its_saved_state(floor: Floor) -> None:
    floor.start_worker()
    job_id = submit_count(floor)
    await_state(floor)
    os.kill(int((floor.folder / "pid").read_text()), signal.SIGKILL)
    wait_until(lambda: floor.job(job_id).status is JobStatus.QUEUED, seconds=20)
    with floor.sessions.begin() as session:
        floor.wake(session, job_id)
    job = floor.await_end(job_id)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2), floor.log()
    first, second = begins(floor)
    assert first == 0
    assert second > 0
    wait_until(lambda: floor.num_states() == 0 and floor.num_blobs() == NUM_BLOBS_OF_AN_ANSWER, seconds=10)


def test_a_worker_that_is_stopped_hands_the_saved_state_on_with_the_job(floor: Floor) -> None:
    first = floor.start_worker()
    job_id = submit_count(floor)
    await_state(floor)
    first.terminate()
    assert first.wait(timeout=30) == 0, floor.log()
    assert floor.job(job_id).attempt == 0
    assert (floor.num_states(), floor.num_blobs()) == (1, 1)
    floor.start_worker()
    job = floor.await_end(job_id)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 1), floor.log()
    assert begins(floor)[1] > 0


def test_a_worker_that_is_killed_leaves_its_last_state_to_another(floor: Floor) -> None:
    first = floor.start_worker()
    job_id = submit_count(floor)
    await_state(floor)
    first.kill()
    first.wait()
    floor.start_worker()
    with floor.sessions.begin() as session:
        floor.wake(session, job_id)
    assert floor.await_end(job_id).status is JobStatus.SUCCEEDED, floor.log()
    assert begins(floor)[1] > 0


def test_a_cancelled_job_leaves_no_state_behind(floor: Floor) -> None:
    floor.start_worker()
    job_id = submit_count(floor)
    await_state(floor)
    with floor.sessions.begin() as session:
        request_cancel(session, project="default", job_id=job_id)
    assert floor.await_end(job_id).status is JobStatus.CANCELLED
    wait_until(lambda: floor.num_states() == 0 and floor.num_blobs() == 0, seconds=10)


def test_a_state_that_is_gone_costs_its_progress_and_not_the_job(floor: Floor) -> None:
    first = floor.start_worker()
    job_id = submit_count(floor)
    await_state(floor)
    first.kill()
    first.wait()
    for blob in (floor.folder / "blobs" / "sha256").glob("*/*"):
        blob.unlink()
    floor.start_worker()
    with floor.sessions.begin() as session:
        floor.wake(session, job_id)
    assert floor.await_end(job_id).status is JobStatus.SUCCEEDED, floor.log()
    assert begins(floor) == [0, 0]
    assert "state_not_fetched" in floor.log()


def test_a_state_beyond_the_limit_is_not_kept(floor: Floor) -> None:
    job_id = floor.submit("save_too_much")
    floor.run_once(SADDLESCOPE_WORKER_SAVED_BYTES="1000")
    assert floor.job(job_id).status is JobStatus.SUCCEEDED, floor.log()
    assert (floor.num_states(), floor.num_blobs()) == (0, NUM_BLOBS_OF_AN_ANSWER)
    assert "state_not_saved" in floor.log()


def test_the_engine_is_told_to_be_done_before_the_deadline(floor: Floor, tmp_path: Path) -> None:
    told = {}
    for seconds in (40.0, 1000.0, None):
        path = tmp_path / f"deadline-{seconds}"
        floor.submit(f"deadline:{path}", seconds=seconds)
        told[seconds] = path
    started = time.monotonic()
    floor.run_once()
    took = time.monotonic() - started
    assert 35 - took < float(told[40.0].read_text()) <= 35
    assert 900 - took < float(told[1000.0].read_text()) <= 900
    assert told[None].read_text() == "None"
