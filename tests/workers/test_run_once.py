"""A worker for one job: what batch systems start, and the exit status by which they know how it went."""

from __future__ import annotations

import subprocess
import sys

from run_floor import SCRIPT, Floor, wait_until

from saddlescope.contract.vocabulary import JobStatus


def test_a_worker_for_one_job_takes_one_and_says_whether_there_was_one(floor: Floor) -> None:
    jobs = [floor.submit("answer"), floor.submit("fault")]
    floor.run_once(1)
    assert [floor.job(job).status for job in jobs] == [JobStatus.SUCCEEDED, JobStatus.QUEUED]
    floor.run_once(1)  # a job that fails was run all the same
    assert floor.job(jobs[1]).status is JobStatus.FAILED
    floor.run_once(1, exit_status=3)


def test_a_worker_for_one_job_that_is_told_to_stop_gives_it_back_and_says_so(floor: Floor) -> None:
    started = floor.folder / "pid"
    job_id = floor.submit(f"note_pid:{started}")
    with (floor.folder / "workers.log").open("ab") as log:
        worker = subprocess.Popen([sys.executable, str(SCRIPT), "1"], env=floor.environment(), stderr=log)
    floor.workers.append(worker)
    wait_until(lambda: started.exists() and started.read_text(), seconds=30)
    worker.terminate()
    assert worker.wait(timeout=15) == 4, floor.log()
    assert (floor.job(job_id).status, floor.job(job_id).attempt) == (JobStatus.QUEUED, 0)
