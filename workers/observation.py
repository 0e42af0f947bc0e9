"""What is told of a job beside its row: log lines that bear its ids, counts, and its trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from store.events import submitting_request
from store.queue import Claim
from telemetry.tracing import trace_id
from workers.metrics import outcome_label
from workers.outcome import Fault, Judgement
from workers.settlement import Watched
from workers.spans import tell_job
from workers.workshop import DATABASE_DOWN, Workshop


@contextmanager
def observed(shop: Workshop, claim: Claim) -> Iterator[None]:
    """Every line that is logged meanwhile bears the ids of the job and of the request that submitted it."""
    shop.metrics.claimed(claim.attempt)
    ids = {
        "job_id": claim.job_id,
        "attempt": claim.attempt,
        "fence": claim.fence,
        "trace_id": trace_id(claim.traceparent),
        "request_id": _request_id(shop, claim),
    }
    with shop.metrics.running.track_inprogress(), structlog.contextvars.bound_contextvars(**ids):
        yield


def tell_end(shop: Workshop, claim: Claim, judgement: Judgement, watched: Watched | None) -> None:
    """Count the end of a job and send its trace."""
    metrics = shop.metrics
    if isinstance(judgement, Fault):
        metrics.failures.labels(judgement.code.value).inc()
    if watched is not None:
        seconds = (time.time_ns() - watched.started_ns) / 1e9
        metrics.seconds.labels(outcome_label(judgement)).observe(max(0.0, seconds))
        metrics.matvecs.inc(0 if watched.latest is None else watched.latest.matvecs)
        if watched.marks:
            metrics.start_seconds.observe(max(0.0, (watched.marks[0].at_ns - watched.started_ns) / 1e9))
    if shop.traces is not None:
        tell_job(shop.traces, claim, judgement, watched)


def _request_id(shop: Workshop, claim: Claim) -> str | None:
    try:
        with shop.sessions() as session:
            return submitting_request(session, claim.job_id)
    except DATABASE_DOWN:
        return None  # a log line less rich; the job itself goes on
