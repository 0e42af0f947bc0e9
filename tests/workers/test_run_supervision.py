"""Laws of supervision: whatever happens to a runner, its job ends once, with the fitting word; the next one runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_floor import ROOT, Floor, open_floor, wait_until
from sqlalchemy import select
from weak_kernel import NO_FILTERS

from saddlescope.contract.vocabulary import FailureCode, JobStatus, Verdict
from store import tables
from store.attempts import list_attempts
from store.blobs import open_blobs
from store.doorbell import TASK, celery_app
from store.events import list_events
from store.queue import claim_job, finish_failed
from store.queue import request_cancel as cancel_job
from store.reports import find_report


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, broker_socket: Path) -> Iterator[Floor]:
    """One worker that all these tests share: none of them may hurt it."""
    with open_floor(tmp_path_factory.mktemp("floor"), broker_socket) as floor:
        floor.start_worker(SADDLESCOPE_PEPPER="pepper", AWS_SECRET_ACCESS_KEY="key")
        yield floor


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def read_pid(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text(), seconds=20)
    return int(path.read_text())


def test_an_answer_is_stored_with_its_vectors_and_links(running: Floor) -> None:
    job_id = running.submit("answer")
    job = running.await_end(job_id)
    assert (job.status, job.verdict, job.attempt) == (JobStatus.SUCCEEDED, Verdict.SADDLE, 1), running.log()
    with running.sessions() as session:
        stored = find_report(session, project="default", job_id=job_id)
    assert stored is not None
    assert stored.report.job == job_id
    (escape,) = stored.report.escapes
    assert escape.vector == stored.escape_blobs[0]
    assert escape.url == f"/v1/jobs/{job_id}/escapes/0.safetensors"
    blobs = open_blobs(running.folder / "blobs")
    with blobs.open(stored.escape_blobs[0]) as file:
        assert b'"step":"1.0"' in file.read()
    with blobs.open(stored.spectrum_blob) as file:
        assert job_id.encode() in file.read()
    assert job.usage is not None
    assert job.usage.matvecs == 2
    assert job.usage.peak_memory_bytes > 50 * 2**20
    assert list((running.folder / "scratch").glob("*/*")) == []


@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("signal:SIGSEGV", FailureCode.CRASHED),
        ("null_pointer", FailureCode.CRASHED),
        ("signal:SIGABRT", FailureCode.CRASHED),
        ("attack:execute a program", FailureCode.SANDBOX_VIOLATION),
        ("attack:signal the parent", FailureCode.SANDBOX_VIOLATION),
        ("attack:connect by TCP", FailureCode.SANDBOX_VIOLATION),
        ("attack:read a file", FailureCode.INTERNAL),
        ("attack:take more memory than allowed", FailureCode.OUT_OF_MEMORY),
        ("exit:0", FailureCode.CRASHED),
        ("exit:3", FailureCode.INTERNAL),
        ("raise", FailureCode.INTERNAL),
        ("fault", FailureCode.CHECKPOINT_INVALID),
        ("allocate:1000000000000000", FailureCode.OUT_OF_MEMORY),
        ("too_large", FailureCode.INTERNAL),
        ("short_vector", FailureCode.INTERNAL),
        ("miscount", FailureCode.INTERNAL),
        ("link:/etc/passwd", FailureCode.INTERNAL),
    ],
)
def test_a_failure_has_its_code_is_not_retried_and_the_next_job_succeeds(
    running: Floor, do: str, code: FailureCode
) -> None:
    failing, following = running.submit(do), running.submit("answer")
    failed = running.await_end(failing)
    assert failed.status is JobStatus.FAILED, running.log()
    assert failed.error is not None
    assert (failed.error.code, failed.attempt) == (code, 1)
    assert running.num_reports(failing) == 0
    assert running.await_end(following).status is JobStatus.SUCCEEDED


def test_a_fault_keeps_its_words_and_a_bug_keeps_its_traceback_in_the_log(running: Floor) -> None:
    explained = running.await_end(running.submit("fault")).error
    assert explained is not None
    assert (explained.detail, explained.pointer) == ("the header ends early", "/checkpoint")
    unexplained = running.await_end(running.submit("raise")).error
    assert unexplained is not None
    assert "KeyError" in unexplained.detail
    assert "a bug of ours" not in unexplained.detail
    assert "a bug of ours" in running.log()


def test_a_runner_sees_no_address_and_no_secret(running: Floor) -> None:
    running.await_end(running.submit(f"environment:{running.folder / 'seen'}"))
    names = {line.partition("=")[0] for line in (running.folder / "seen").read_text().splitlines()}
    assert "PATH" in names
    assert {name for name in names if name.startswith(("SADDLESCOPE_", "AWS_"))} == set()


def test_a_runner_is_confined_before_it_works(running: Floor) -> None:
    job = running.await_end(running.submit(f"confinement:{running.folder / 'facts'}"))
    assert job.status is JobStatus.SUCCEEDED
    facts = json.loads((running.folder / "facts").read_text())
    assert facts["RLIMIT_CORE"] == 0
    assert 0 < facts["RLIMIT_AS"] < 2**62
    assert facts["NoNewPrivs"] == 1
    assert facts["Threads"] == 1
    assert facts["oom_score_adj"] == 1000
    assert facts["is_session_leader"] is True
    assert facts["capabilities"] == 0
    # Beside its own files, the progress pipe and the counters of memory: no socket and no other pipe of the fork server's.
    assert set(facts["descriptors"]) <= {"-", "p"}
    assert facts["descriptors"].count("p") == 1


def test_what_a_runner_starts_dies_with_it_where_it_can_start_anything(floor: Floor) -> None:
    job_id = floor.submit(f"child:{floor.folder / 'child'}")
    floor.run_once(RUN_WITHOUT=NO_FILTERS)
    assert floor.job(job_id).status is JobStatus.SUCCEEDED
    wait_until(lambda: not is_alive(int((floor.folder / "child").read_text())), seconds=5)


@pytest.mark.parametrize("do", ["note_pid", "one_long_call"])
def test_a_running_job_is_cancelled_within_five_seconds_and_its_runner_is_dead(
    running: Floor, tmp_path: Path, do: str
) -> None:
    job_id = running.submit(f"{do}:{tmp_path / 'pid'}")
    pid = read_pid(tmp_path / "pid")
    asked = time.monotonic()
    with running.sessions.begin() as session:
        cancel_job(session, project="default", job_id=job_id)
    job = running.await_end(job_id, seconds=5)
    assert job.status is JobStatus.CANCELLED
    assert time.monotonic() - asked < 5
    assert not is_alive(pid)


def test_progress_and_partial_results_are_published_while_a_job_runs(running: Floor) -> None:
    job_id = running.submit("sleep:600")
    wait_until(lambda: running.job(job_id).progress is not None, seconds=20)
    job = running.job(job_id)
    with running.sessions.begin() as session:
        cancel_job(session, project="default", job_id=job_id)
    assert job.progress is not None
    assert (job.progress.stage, job.progress.fraction, job.progress.matvecs) == ("lanczos", 0.5, 7)
    assert job.partial is not None
    assert job.partial.lambda_min == -2.0


def test_a_deadline_ends_a_running_job(running: Floor) -> None:
    job = running.await_end(running.submit("sleep:600", seconds=3), seconds=20)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code is FailureCode.DEADLINE_EXCEEDED
    with running.sessions() as session:
        assert list_events(session, job.id)[-1].data["started"] is True


def test_a_job_that_outlasts_the_worker_s_limit_fails_with_resource_limit(floor: Floor) -> None:
    job_id = floor.submit("sleep:600")
    floor.run_once(SADDLESCOPE_WORKER_MAX_SECONDS="1.5")
    error = floor.job(job_id).error
    assert error is not None
    assert error.code is FailureCode.RESOURCE_LIMIT


def test_a_runner_killed_from_outside_is_tried_again_and_leaves_one_report(running: Floor, tmp_path: Path) -> None:
    job_id = running.submit(f"sleep_once:{tmp_path / 'pid'}")
    os.kill(read_pid(tmp_path / "pid"), signal.SIGKILL)
    job = running.await_end(job_id)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2), running.log()
    assert running.num_reports(job_id) == 1
    assert running.events(job_id).count("job.requeued") == 1


def test_a_fork_server_that_is_killed_is_started_again_and_its_job_is_tried_again(
    running: Floor, tmp_path: Path
) -> None:
    job_id = running.submit(f"sleep_once:{tmp_path / 'pid'}")
    runner = read_pid(tmp_path / "pid")
    server = int(Path(f"/proc/{runner}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(server, signal.SIGKILL)
    job = running.await_end(job_id)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2), running.log()
    assert not is_alive(runner)


def test_a_job_that_kills_every_runner_ends_after_three_attempts(floor: Floor) -> None:
    job_id = floor.submit("last_words")
    with floor.sessions.begin() as session:
        for _ in range(2):
            claim = claim_job(session, job_id=job_id, queues=["cpu"], worker="earlier")
            assert claim is not None
            finish_failed(session, claim, code=FailureCode.WORKER_LOST, detail="lost", retryable=True)
            floor.wake(session, job_id)
    floor.run_once()
    job = floor.job(job_id)
    assert (job.status, job.attempt) == (JobStatus.FAILED, 3)
    assert job.error is not None
    assert job.error.code is FailureCode.WORKER_LOST
    with floor.sessions() as session:
        attempts = list_attempts(session, job_id)
    assert [attempt.outcome for attempt in attempts] == ["worker_lost"] * 3
    assert "SIGKILL" in (attempts[2].detail or "")
    assert "the end of it" in (attempts[2].errors or "")


def test_a_zombie_changes_nothing(running: Floor, tmp_path: Path) -> None:
    job_id = running.submit(f"note_pid:{tmp_path / 'pid'}")
    pid = read_pid(tmp_path / "pid")
    with running.sessions.begin() as session:
        # Another worker has taken the job meanwhile: a higher fence.
        row = session.scalars(select(tables.Job).where(tables.Job.id == job_id)).one()
        row.fence += 1
        row.worker = "another"
    wait_until(lambda: not is_alive(pid), seconds=5)
    time.sleep(0.5)
    job = running.job(job_id)
    assert (job.status, job.worker) == (JobStatus.RUNNING, "another")
    assert "job.requeued" not in running.events(job_id)


def test_the_parent_of_the_runners_never_imports_torch() -> None:
    probe = "import sys, workers.daemon, workers.__main__; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=False).returncode == 0


def test_a_worker_at_work_has_not_loaded_torch(running: Floor) -> None:
    running.await_end(running.submit("answer"))
    assert "libtorch" not in Path(f"/proc/{running.workers[0].pid}/maps").read_text()


def test_a_message_for_an_unknown_job_or_of_nonsense_is_harmless(running: Floor) -> None:
    app = celery_app(running.broker_url)
    app.send_task(TASK, args=("job_that_is_not",), queue="cpu")
    app.send_task(TASK, args=({"a": 1}, 2), queue="cpu")
    app.send_task("os.system", args=("touch marker",), queue="cpu")
    assert running.await_end(running.submit("answer")).status is JobStatus.SUCCEEDED
    assert running.workers[0].poll() is None


def test_jobs_run_by_priority_whatever_order_their_messages_have(floor: Floor) -> None:
    low, high = floor.submit("answer", priority=-1), floor.submit("answer", priority=5)
    floor.start_worker()
    floor.await_end(low)
    assert floor.job(high).started_at < floor.job(low).started_at


def test_a_lost_message_delays_a_job_by_one_poll(running: Floor) -> None:
    job = running.await_end(running.submit("answer", rings=False), seconds=10)
    assert job.status is JobStatus.SUCCEEDED


def test_a_broker_that_forgets_everything_loses_no_job(floor: Floor) -> None:
    jobs = [floor.submit("answer") for _ in range(3)]
    floor.flush_broker()
    floor.start_worker()
    floor.flush_broker()
    jobs.append(floor.submit("answer"))
    assert {floor.await_end(job).status for job in jobs} == {JobStatus.SUCCEEDED}


def test_a_job_of_another_queue_is_left_alone(running: Floor) -> None:
    other = running.submit("answer", queue="gpu")
    running.await_end(running.submit("answer"))
    assert running.job(other).status is JobStatus.QUEUED
