"""A long job that is killed in the middle goes on from its saved products, and its report is that of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

from e2e_service import long_job, running_service, wait_until

from tests.chaos.likeness import alike, plain

# Eigenvalues without multiplicity: where rounding differs, any basis of a multiple one is as right as another.
WEIGHTS = [0.001 + 0.5 * (37 * index % 2000) / 2000 for index in range(2000)]
QUESTION = long_job() | {"checkpoint": {"inline": {"w": WEIGHTS}}}


def test_a_job_killed_in_the_middle_gives_the_report_of_an_undisturbed_one(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", {"SADDLESCOPE_WORKER_SAVE_SECONDS": "0.2"}) as service:
        log = tmp_path / "data" / "logs" / "worker.log"
        job_id = service.post(QUESTION)["id"]
        wait_until(lambda: "state_saved" in log.read_text(), seconds=120)
        service.runner().kill()
        job = service.await_status(job_id, "succeeded", seconds=150)
        assert job["attempt"] == 2
        events = service.client.get(f"/v1/jobs/{job_id}/events").json()["data"]
        first, second = [event["data"] for event in events if event["type"] == "job.started"]
        assert "saved_matvecs" not in first
        assert second["saved_matvecs"] > 0
        undisturbed = service.post({**QUESTION, "force": True})["id"]
        service.await_status(undisturbed, "succeeded", seconds=150)
        resumed, whole = (service.client.get(f"/v1/jobs/{one}/report").json() for one in (job_id, undisturbed))
        assert resumed["warnings"] == whole["warnings"]
        assert plain(resumed) == alike(whole)
        attempts = service.client.get(f"/v1/jobs/{job_id}/attempts").json()["data"]
        assert [attempt["outcome"] for attempt in attempts] == ["worker_lost", "succeeded"]
