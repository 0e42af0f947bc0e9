"""Do what is due, again and again, in each worker. What is done is in `duties`."""

from __future__ import annotations

import time

import structlog
from celery import Celery

from store.presence import present_workers, worker_seen
from workers.duties import CHORES, DUTIES, Round
from workers.settling import Settling
from workers.workshop import DATABASE_DOWN, Workshop

# So often at least within a lease, however rarely rounds are asked for: a longer gap could hide an outage.
ROUNDS_PER_LEASE = 4
FIRST_CHORES_SECONDS = 60.0

log = structlog.get_logger()


def reconcile_until_stopped(shop: Workshop, app: Celery) -> None:
    """Do every duty every few seconds, and stay present in the table of workers."""
    settings = shop.settings
    settling = Settling(settings.worker_lease_seconds)
    pause = min(settings.worker_reconcile_seconds, settings.worker_lease_seconds / ROUNDS_PER_LEASE)
    while not shop.stop.wait(pause):
        try:
            with shop.sessions.begin() as session:
                moment = worker_seen(session, shop.name)
            now = Round(shop=shop, app=app, is_settled=settling.saw(moment))
            for duty in DUTIES:
                duty.perform(now)
        except DATABASE_DOWN as failure:
            log.warning("reconcile_failed", error=str(failure.orig))


def keep_house_until_stopped(shop: Workshop) -> None:
    """Do the chores when they are due, as long as this worker is the first of those present."""
    # A minute after the start for the first time: a worker may never live for a day.
    done_at = {chore.name: time.monotonic() + FIRST_CHORES_SECONDS - chore.every_seconds for chore in CHORES}
    while not shop.stop.wait(shop.settings.worker_reconcile_seconds):
        try:
            for chore in CHORES:
                if time.monotonic() - done_at[chore.name] >= chore.every_seconds:
                    done_at[chore.name] = time.monotonic()
                    if _is_first(shop):
                        chore.perform(shop)
        except DATABASE_DOWN as failure:
            log.warning("chore_failed", error=str(failure.orig))


def _is_first(shop: Workshop) -> bool:
    with shop.sessions() as session:
        return [worker.name for worker in present_workers(session)][:1] == [shop.name]
