"""Bring about what time alone does not: messages rung again, lapsed leases, deadlines. Idempotent, in each worker."""

from __future__ import annotations

import time

import structlog
from celery import Celery

from store.doorbell import BrokerDown, ring
from store.presence import worker_seen
from store.queue import expire_deadlines, mark_dispatched, requeue_lapsed, undispatched_jobs
from store.staging import open_staging
from store.uploads import expire_uploads
from workers.workshop import DATABASE_DOWN, Workshop

# The service rings right after its commit; what is older was not heard.
UNDISPATCHED_SECONDS = 5.0

log = structlog.get_logger()


def reconcile_until_stopped(shop: Workshop, app: Celery) -> None:
    """Reconcile every few seconds, and stay present in the table of workers.

    Lapsed leases are left alone for one lease's length after the start: when everything was down together, the workers
    that live get time to renew theirs.
    """
    started = time.monotonic()
    while not shop.stop.wait(shop.settings.worker_reconcile_seconds):
        is_settled = time.monotonic() - started > shop.settings.worker_lease_seconds
        try:
            reconcile(shop, app, may_requeue=is_settled)
        except DATABASE_DOWN as failure:
            log.warning("reconcile_failed", error=str(failure.orig))


def reconcile(shop: Workshop, app: Celery, *, may_requeue: bool) -> None:
    """One round. Each step is a transaction of its own, and a message leaves after the commit."""
    with shop.sessions.begin() as session:
        worker_seen(session, shop.name)
    with shop.sessions.begin() as session:
        late = expire_deadlines(session)
    requeued: list[str] = []
    if may_requeue:
        with shop.sessions.begin() as session:
            requeued = requeue_lapsed(session)
    with shop.sessions.begin() as session:
        expire_uploads(session, open_staging(shop.blobs))
    if late or requeued:
        log.info("reconciled", late=late, requeued=requeued)
    _ring_again(shop, app)


def _ring_again(shop: Workshop, app: Celery) -> None:
    with shop.sessions() as session:
        pending = undispatched_jobs(session, UNDISPATCHED_SECONDS)
    for job in pending:
        try:
            ring(app, job.id, job.queue)
        except BrokerDown as failure:
            log.warning("broker_down", error=str(failure))
            return
        with shop.sessions.begin() as session:
            mark_dispatched(session, job.id)
