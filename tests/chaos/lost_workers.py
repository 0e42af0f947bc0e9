"""Workers and runners that are gone, or only seem to be: a job is resumed, given up with its evidence, or left alone.

Each law is asked of a site with one worker, and leaves it with one.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from itertools import pairwise

import httpx2
import psutil
from sqlalchemy import select, update

from saddlescope.contract.limits import MAX_ATTEMPTS
from saddlescope.contract.vocabulary import FailureCode, JobStatus
from store import tables
from store.moments import now
from tests.chaos.likeness import alike, plain
from tests.chaos.parts import wait_until
from tests.chaos.questions import long_question, question
from tests.chaos.site import Site

NUM_SAVES = 2


def zombie_wakes(site: Site) -> str:
    """A worker is frozen past its lease and wakes when another one has done its job: nothing changes, and it works on."""
    (frozen,) = site.workers
    with site.client() as client:
        job = long_question().submit(client, key="zombie", seed=0)
        runner = site.await_runner(frozen)
        frozen.signal(signal.SIGSTOP)
        runner.suspend()  # or it would be done before anybody missed its worker
        other = site.add_worker()
        wait_until(lambda: "job.requeued" in [event.type for event in site.events(job.id)], what="the lapse")
        hurry(site, job.id)
        job.wait(timeout=300)
        before = (site.job(job.id), site.events(job.id), site.attempts_of(job.id))
        with suppress(psutil.NoSuchProcess):
            runner.resume()
        frozen.signal(signal.SIGCONT)
        wait_until(lambda: not site.runners(frozen), what="the end of the zombie's runner")
        site.dismiss(other)
        question(0).submit(client, key="after the zombie", seed=30_000).wait(timeout=120)
    row = before[0]
    assert (site.job(job.id), site.events(job.id), site.attempts_of(job.id)) == before
    assert (row.status, row.attempt) == (JobStatus.SUCCEEDED, 2)
    assert [event.type for event in before[1]].count("job.succeeded") == 1
    return "frozen past its lease: its job succeeded elsewhere at attempt 2, and nothing changed when it woke"


def poison_is_given_up(site: Site) -> str:
    """A job whose runner dies each time ends after three attempts, each with what is known of its death."""
    (worker,) = site.workers
    with site.client() as client:
        job = long_question().submit(client, key="poison", seed=0)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            wait_until(lambda attempt=attempt: site.job(job.id).attempt == attempt, what=f"attempt {attempt}")
            site.await_runner(worker).kill()
            wait_until(lambda: site.job(job.id).status is not JobStatus.RUNNING, what="the end of the attempt")
            if attempt < MAX_ATTEMPTS:
                hurry(site, job.id)
        assert question(0).submit(client, key="after the poison", seed=31_000).wait(timeout=120).verdict == "saddle"
    row, attempts = site.job(job.id), site.attempts_of(job.id)
    assert (row.status, row.attempt) == (JobStatus.FAILED, MAX_ATTEMPTS)
    assert row.error is not None
    assert row.error.code is FailureCode.WORKER_LOST
    assert [attempt.outcome for attempt in attempts] == [FailureCode.WORKER_LOST] * MAX_ATTEMPTS
    assert all("SIGKILL" in (attempt.detail or "") for attempt in attempts), attempts
    return f"failed as {row.error.code} after {len(attempts)} attempts, each with its evidence; the next job succeeded"


def killed_run_resumes(site: Site) -> str:
    """The second attempt does again at most what an interval between two saves computes; its report is the same."""
    (first,) = site.workers
    with site.client() as client:
        undisturbed = long_question().submit(client, key="undisturbed", seed=1)
        num_matvecs = undisturbed.wait(timeout=300).numerics.num_matvecs
        job = long_question().submit(client, key="killed", seed=1)
        saves = [0]
        while len(saves) <= NUM_SAVES:
            wait_until(lambda: saved_matvecs(site, job.id) > saves[-1], what="a saved state")
            saves.append(saved_matvecs(site, job.id))
        first.signal(signal.SIGSTOP)
        progress = site.job(job.id).progress
        site.dismiss(first)
        site.add_worker()
        hurry(site, job.id)
        job.wait(timeout=300)
    assert progress is not None
    row = site.job(job.id)
    assert (row.status, row.attempt) == (JobStatus.SUCCEEDED, 2)
    starts = [event.data for event in site.events(job.id) if event.type == "job.started"]
    saved = starts[1]["saved_matvecs"]
    assert isinstance(saved, int)
    interval = max(after - before for before, after in pairwise(saves))
    assert saved >= saves[-1]
    # One interval that was under way, and one whose state was on its way to the store.
    assert progress.matvecs - saved <= 2 * interval
    assert plain(report_of(site, job.id)) == alike(report_of(site, undisturbed.id))
    return (
        f"killed at product {progress.matvecs} of {num_matvecs}, resumed from {saved}; "
        f"{interval} products between saves; the report is the undisturbed one"
    )


def saved_matvecs(site: Site, job_id: str) -> int:
    with site.sessions() as session:
        found = session.scalars(select(tables.SavedRun.matvecs).where(tables.SavedRun.job_id == job_id)).one_or_none()
    return found or 0


def hurry(site: Site, job_id: str) -> None:
    """Let the backoff of a job be over."""
    with site.sessions.begin() as session:
        session.execute(update(tables.Job).where(tables.Job.id == job_id).values(not_before=now()))


def report_of(site: Site, job_id: str) -> dict[str, object]:
    return dict(httpx2.get(f"{site.url}/v1/jobs/{job_id}/report").raise_for_status().json())
