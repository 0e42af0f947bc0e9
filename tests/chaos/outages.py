"""A part is away for a while, or has forgotten everything: what is promised holds meanwhile and afterwards.

Each law is asked of a site with one worker, and leaves it with one.
"""

from __future__ import annotations

import signal
import time

import httpx2
import redis

from saddlescope.contract.vocabulary import JobStatus
from tests.chaos.questions import long_question, question
from tests.chaos.site import Site

POST_SECONDS = 20.0
TOY = {"checkpoint": {"inline": {"w": 0.0}}, "loss": {"kind": "expression", "expression": "(1 - w*w)**2"}}


def broker_forgets(site: Site, *, num_jobs: int) -> str:
    """The queue is full, its worker is held, and the broker is wiped: all jobs run, each once."""
    (worker,) = site.workers
    worker.signal(signal.SIGSTOP)
    with site.client() as client:
        numbers = range(10_000, 10_000 + num_jobs)
        jobs = {number: question(0).submit(client, key=f"wiped {number}", seed=number) for number in numbers}
        with redis.Redis(unix_socket_path=str(site.folder / "s")) as broker:
            broker.flushall()
        worker.signal(signal.SIGCONT)
        verdicts = [job.wait(timeout=300).verdict for job in jobs.values()]
    assert verdicts == [question(0).verdict] * num_jobs
    assert {len(site.attempts_of(job.id)) for job in jobs.values()} == {1}
    return f"{num_jobs} queued, the broker wiped: {num_jobs} succeeded at their first attempt"


def broker_is_away(site: Site, *, seconds: float) -> str:
    """Every submission is answered 202 while the broker is down, and every job runs, broker or not."""
    site.broker.kill()
    ends, slowest, ids = time.monotonic() + seconds, 0.0, []
    try:
        with httpx2.Client(base_url=site.url, timeout=POST_SECONDS) as client:
            while not ids or time.monotonic() < ends:
                asked = time.monotonic()
                answer = client.post("/v1/jobs", json=TOY | {"options": {"seed": 20_000 + len(ids)}})
                assert answer.status_code == 202, answer.text
                slowest = max(slowest, time.monotonic() - asked)
                ids.append(answer.json()["id"])
                time.sleep(0.2)
    finally:
        site.broker.start()
    with site.client() as client:
        verdicts = {client.job(job_id).wait(timeout=120).verdict for job_id in ids}
    assert verdicts == {"local_maximum"}
    return f"{len(ids)} submissions in {seconds:g} s without a broker: all answered 202, the slowest in {slowest:.1f} s"


def database_is_away(site: Site, *, seconds: float) -> str:
    """The database is killed in the middle of a run and stays away: the run goes on, and is not repeated."""
    assert site.postgresql is not None
    (worker,) = site.workers
    with site.client() as client:
        job = long_question().submit(client, key="without a database", seed=0)
        runner = site.await_runner(worker)
        site.postgresql.kill()
        time.sleep(seconds)
        is_at_work = runner.is_running()
        site.postgresql.part.start()
        site.postgresql.await_ready()
        report = job.wait(timeout=300)
    assert report.verdict == long_question().verdict
    row = site.job(job.id)
    assert (row.status, row.attempt) == (JobStatus.SUCCEEDED, 1), site.log()[-3000:]
    assert len(site.attempts_of(job.id)) == 1
    seen = "still at work" if is_at_work else "done"
    return f"no database for {seconds:g} s: one attempt, its runner {seen} when the database came back"
