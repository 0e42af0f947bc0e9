"""What time alone does not bring about: each duty is idempotent, and safe when two workers do it at once.

`DUTIES` are done by every worker every few seconds and are quick; `CHORES` may take minutes, so that they have a thread of
their own, and one worker at a time is enough for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from celery import Celery

from store.doorbell import BrokerDown, ring
from store.queue import expire_deadlines, mark_dispatched, requeue_lapsed, undispatched_jobs
from store.staging import open_staging
from store.succession import bury_workers
from store.uploads import expire_uploads
from store.waiting import explain_waiting
from workers import garbage
from workers.scratch import sweep_dead
from workers.workshop import Workshop

# The service rings right after its commit; what is older was not heard.
UNDISPATCHED_SECONDS = 5.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Round:
    """What a duty works with."""

    shop: Workshop
    app: Celery
    is_settled: bool
    """Whether the database has been there for a whole lease without a gap, so that whoever lives has renewed his."""


@dataclass(frozen=True)
class Duty:
    name: str
    perform: Callable[[Round], None]


@dataclass(frozen=True)
class Chore:
    name: str
    perform: Callable[[Workshop], None]
    every_seconds: float


def _fail_late_jobs(now: Round) -> None:
    with now.shop.sessions.begin() as session:
        late = expire_deadlines(session)
    if late:
        log.info("deadlines_passed", jobs=late)


def _take_lapsed_jobs(now: Round) -> None:
    if not now.is_settled:
        return
    with now.shop.sessions.begin() as session:
        requeued = requeue_lapsed(session)
    if requeued:
        log.info("leases_lapsed", requeued=requeued)


def _succeed_dead_workers(now: Round) -> None:
    dead = sweep_dead(now.shop.scratch.parent)
    if dead:
        with now.shop.sessions.begin() as session:
            requeued = bury_workers(session, dead)
        log.info("workers_buried", workers=dead, requeued=requeued)


def _ring_again(now: Round) -> None:
    with now.shop.sessions() as session:
        pending = undispatched_jobs(session, UNDISPATCHED_SECONDS)
    for job in pending:
        try:
            ring(now.app, job.id, job.queue)
        except BrokerDown as failure:
            now.shop.metrics.errors.labels("broker").inc()
            log.warning("broker_down", error=str(failure))
            return
        with now.shop.sessions.begin() as session:
            mark_dispatched(session, job.id)


def _expire_uploads(now: Round) -> None:
    with now.shop.sessions.begin() as session:
        expire_uploads(session, open_staging(now.shop.blobs))


def _explain_waiting(now: Round) -> None:
    with now.shop.sessions.begin() as session:
        stuck = explain_waiting(session)
    if stuck:
        log.warning("jobs_fit_no_worker", jobs=stuck)


DUTIES: tuple[Duty, ...] = (
    Duty("late_jobs", _fail_late_jobs),
    Duty("lapsed_jobs", _take_lapsed_jobs),
    Duty("dead_workers", _succeed_dead_workers),
    Duty("unheard_jobs", _ring_again),
    Duty("waiting_jobs", _explain_waiting),
    Duty("late_uploads", _expire_uploads),
)

CHORES: tuple[Chore, ...] = (
    Chore("saved_runs", garbage.drop_saved_runs, MINUTE),
    Chore("idempotency_keys", garbage.drop_keys, HOUR),
    Chore("absent_workers", garbage.drop_workers, HOUR),
    Chore("unnamed_blobs", garbage.drop_blobs, HOUR),
    Chore("missing_blobs", garbage.report_missing_blobs, DAY),
)
