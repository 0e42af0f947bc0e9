"""Rings the doorbell of the workers, off the way of the requests: an answer waits for its job's commit, not for this."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import final

import structlog
from celery import Celery

from service.metrics import Metrics
from store.commits import DATABASE_DOWN, SharedCommits
from store.doorbell import BrokerDown, ring
from store.queue import PendingJob, mark_dispatched

log = structlog.get_logger("service")


@final
class Bells:
    """One thread that rings for committed jobs in their order, and marks many of them in one transaction.

    What is lost with the process, or with a broker that is down, the reconciler rings again.
    """

    def __init__(self, doorbell: Celery, commits: SharedCommits, metrics: Metrics) -> None:
        self._doorbell = doorbell
        self._commits = commits
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: list[PendingJob] = []
        self._ringer = ThreadPoolExecutor(1, thread_name_prefix="bells")

    def ring_soon(self, job: PendingJob) -> None:
        """Have the workers told of a job that is committed."""
        with self._lock:
            self._waiting.append(job)
            if len(self._waiting) == 1:
                self._ringer.submit(self._ring_all)

    def close(self) -> None:
        """Ring for what is waiting, then no more."""
        self._ringer.shutdown()

    def _ring_all(self) -> None:
        with self._lock:
            jobs, self._waiting = self._waiting, []
        num_rung = 0
        try:
            for job in jobs:
                ring(self._doorbell, job.id, job.queue)
                num_rung += 1
        except BrokerDown:
            self._metrics.unrung.inc(len(jobs) - num_rung)
            for job in jobs[num_rung:]:
                log.warning("doorbell_not_rung", job_id=job.id, queue=job.queue)
        if num_rung:
            self._mark([job.id for job in jobs[:num_rung]])

    def _mark(self, job_ids: list[str]) -> None:
        try:
            self._commits.run(lambda session: mark_dispatched(session, *job_ids))
        except DATABASE_DOWN as failure:
            log.warning("rings_not_marked", reason=type(failure.orig).__name__)
