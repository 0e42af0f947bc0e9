"""Counts of one worker for Prometheus, and the port where it serves them. Every label is of a closed set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from saddlescope.contract.limits import MAX_ATTEMPTS
from workers.outcome import Fault, Judgement, Settled
from workers.protocol import Succeeded

_JOB_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0)
_START_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@final
class WorkerMetrics:
    """One registry a worker."""

    def __init__(self, *, num_slots: int) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.slots = Gauge("saddlescope_worker_slots", "Jobs that may run at a time.", registry=registry)
        self.slots.set(num_slots)
        self.running = Gauge("saddlescope_worker_running_jobs", "Jobs that run now.", registry=registry)
        self.claims = Counter(
            "saddlescope_worker_claims", "Jobs taken, by the number of the attempt.", ["attempt"], registry=registry
        )
        self.seconds = Histogram(
            "saddlescope_worker_job_seconds",
            "From the claim of a job to its end here.",
            ["outcome"],
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self.start_seconds = Histogram(
            "saddlescope_worker_runner_start_seconds",
            "From the order of a runner to its first word.",
            buckets=_START_SECONDS,
            registry=registry,
        )
        self.verdicts = Counter("saddlescope_worker_verdicts", "Reports delivered.", ["verdict"], registry=registry)
        self.failures = Counter(
            "saddlescope_worker_failures", "Attempts that ended in a fault.", ["code"], registry=registry
        )
        self.matvecs = Counter("saddlescope_worker_matvecs", "Hessian-vector products computed.", registry=registry)
        self.errors = Counter(
            "saddlescope_worker_part_errors",
            "Calls to the database, the broker or the blob store that failed.",
            ["part"],
            registry=registry,
        )
        for part in ("database", "broker", "blobs"):
            self.errors.labels(part)

    def claimed(self, attempt: int) -> None:
        self.claims.labels(str(min(attempt, MAX_ATTEMPTS))).inc()


def outcome_label(judgement: Judgement) -> str:
    """`succeeded`, `failed`, `retryable` (another attempt may follow), `cancelled`, `released`, `abandoned`."""
    match judgement:
        case Succeeded():
            return "succeeded"
        case Fault(is_retryable=is_retryable):
            return "retryable" if is_retryable else "failed"
        case Settled():
            return judgement.value


@contextmanager
def served_metrics(metrics: WorkerMetrics, *, host: str, port: int | None) -> Iterator[None]:
    """Serve the worker's counts over HTTP until the end, if a port is set.

    Raises:
        OSError: if the port is taken.
    """
    if port is None:
        yield
        return
    server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
