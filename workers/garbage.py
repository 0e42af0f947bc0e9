"""What is left over, thrown away: each function may run at any time, in any number of workers at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import structlog

from store.garbage import BATCH, named_blobs, unnamed_blobs
from store.idempotency import forget_keys
from store.presence import forget_workers
from store.saved_runs import ended_with_state, forget_saved_run
from workers.workshop import Workshop

# An upload has its row within seconds of its last byte; a day leaves room for any that is slow.
UNNAMED_SECONDS = 86_400.0
ABSENT_SECONDS = 86_400.0
NUM_TOLD = 20

log = structlog.get_logger()


def drop_saved_runs(shop: Workshop) -> None:
    """Forget the states of jobs that have ended; most went with their worker's last act for the job."""
    with shop.sessions() as session:
        ended = ended_with_state(session)
    for job_id in ended:
        drop_saved_run(shop, job_id)


def drop_saved_run(shop: Workshop, job_id: str) -> None:
    """Forget the state of a job if the job has ended."""
    with shop.sessions.begin() as session:
        blob = forget_saved_run(session, job_id)
    if blob is not None:
        drop_state(shop, blob)


def drop_state(shop: Workshop, blob: str) -> None:
    """Delete the bytes of a state that no row names any more. If we die first, they are an orphan like any other."""
    with shop.sessions() as session:
        is_unnamed = blob in unnamed_blobs(session, [blob])
    if is_unnamed:
        shop.blobs.delete(blob)


def drop_keys(shop: Workshop) -> None:
    """Forget the idempotency keys that nobody may send again."""
    with shop.sessions.begin() as session:
        num_keys = forget_keys(session)
    if num_keys:
        log.info("idempotency_keys_dropped", count=num_keys)


def drop_workers(shop: Workshop) -> None:
    """Forget workers that have not been seen for a day."""
    with shop.sessions.begin() as session:
        gone = forget_workers(session, unseen_seconds=ABSENT_SECONDS)
    if gone:
        log.info("workers_dropped", workers=gone)


def drop_blobs(shop: Workshop, *, older_than_seconds: float = UNNAMED_SECONDS) -> None:
    """Delete what crashed writers left, and blobs that no row names although they have been there for a day."""
    num_leftovers = shop.blobs.sweep_temporary(older_than_seconds=older_than_seconds)
    num_dropped = 0
    for batch in _batches(shop.blobs.aged(older_than_seconds=older_than_seconds)):
        if shop.stop.is_set():
            return
        with shop.sessions() as session:
            unnamed = unnamed_blobs(session, batch)
        num_dropped += sum(shop.blobs.discard(blob, older_than_seconds=older_than_seconds) for blob in unnamed)
    if num_leftovers or num_dropped:
        log.info("blobs_dropped", unnamed=num_dropped, leftovers=num_leftovers)


def report_missing_blobs(shop: Workshop) -> None:
    """Say in the log which blobs are named and not there: someone has deleted them, or a restore was incomplete."""
    missing: list[str] = []
    last = ""
    while not shop.stop.is_set():
        # No transaction is open while the store is asked, which takes a while where it is far away.
        with shop.sessions() as session:
            named = named_blobs(session, after=last)
        if not named:
            break
        missing += [blob for blob in named if not shop.blobs.exists(blob)]
        last = named[-1]
    if missing:
        log.error("blobs_missing", count=len(missing), some=missing[:NUM_TOLD])


def _batches(blobs: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(blobs)
    while batch := list(islice(rest, BATCH)):
        yield batch
