"""Kill, stop and start again: no process is left behind and no job is lost or answered twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
from e2e_service import TOY, long_job, running_service


def test_sigterm_leaves_no_child_and_the_same_folder_starts_again_with_its_jobs(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        done = service.post(TOY, wait=30)
        assert done["status"] == "succeeded"
        running = service.post(long_job())["id"]
        service.runner()
        children = service.descendants()
        assert len(children) >= 4  # broker, worker, fork server, runner
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 0
        _, alive = psutil.wait_procs(children, timeout=2)
        assert alive == []
    with running_service(tmp_path / "data") as service:
        report = service.client.get(f"/v1/jobs/{done['id']}/report").raise_for_status().json()
        assert report["verdict"] == "saddle"
        again = service.post(TOY, wait=30)
        assert again["deduplicated"] is True
        resumed = service.await_status(running, "succeeded", seconds=120)
        assert resumed["attempt"] == 1


def test_a_runner_and_a_worker_killed_in_a_job_cost_it_attempts_but_not_its_answer(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        job_id = service.post(long_job())["id"]
        service.runner().kill()
        service.await_status(job_id, "queued", seconds=10)
        service.await_status(job_id, "running", seconds=30)
        worker = service.worker()
        service.runner()
        worker.kill()
        job = service.await_status(job_id, "succeeded", seconds=150)
        assert job["attempt"] == 3
        events = service.client.get(f"/v1/jobs/{job_id}/events").json()
        types = [event["type"] for event in (events["data"] if isinstance(events, dict) else events)]
        assert types.count("job.succeeded") == 1
        assert types.count("job.requeued") == 2


def test_a_service_killed_outright_takes_everything_with_it_and_its_successor_finishes_the_job(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        job_id = service.post(long_job())["id"]
        service.runner()
        children = service.descendants()
        service.process.kill()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []
    with running_service(tmp_path / "data") as service:
        assert service.await_status(job_id, "succeeded", seconds=150)["attempt"] <= 2


def test_a_running_job_is_cancelled_within_five_seconds(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        job_id = service.post(long_job(4500))["id"]
        runner = service.runner()
        asked = time.monotonic()
        service.client.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
        service.await_status(job_id, "cancelled", seconds=5)
        assert time.monotonic() - asked < 5
        psutil.wait_procs([runner], timeout=1)
        assert not runner.is_running()
        assert service.post(TOY, wait=30)["status"] == "succeeded"
