"""The one habit of a worker: claim the best job, run it to its end, and again until nothing is eligible."""

from __future__ import annotations

import structlog

from store.queue import Claim, claim_job
from workers.observation import observed
from workers.supervisor import supervise
from workers.workshop import DATABASE_DOWN, Workshop

log = structlog.get_logger()


def work_until_idle(shop: Workshop, *, max_jobs: int | None = None) -> int:
    """Run every eligible job, best first, or so many; gives how many were run. Waits for a free slot first."""
    with shop.slots:
        return _drain(shop, max_jobs)


def poll(shop: Workshop) -> None:
    """Look for work every few seconds until the worker stops: a lost message delays a job, it never loses one."""
    while not shop.stop.wait(shop.settings.worker_poll_seconds):
        # When all slots are taken, whoever holds them looks for more work before he lets go.
        if shop.slots.acquire(blocking=False):
            try:
                _drain(shop)
            finally:
                shop.slots.release()


def _drain(shop: Workshop, max_jobs: int | None = None) -> int:
    num_jobs = 0
    while not shop.stop.is_set() and num_jobs != max_jobs:
        claim = _claim(shop)
        if claim is None:
            break
        with observed(shop, claim):
            supervise(shop, claim)
        num_jobs += 1
    return num_jobs


def _claim(shop: Workshop) -> Claim | None:
    # Whatever job the message named: the best one is next, and a forged message has nothing to say.
    try:
        with shop.sessions.begin() as session:
            return claim_job(
                session,
                job_id=None,
                queues=shop.queues,
                worker=shop.name,
                memory_bytes=shop.job_memory_bytes,
                lease_seconds=shop.settings.worker_lease_seconds,
            )
    except DATABASE_DOWN as failure:
        log.warning("claim_failed", error=str(failure.orig))
        return None
