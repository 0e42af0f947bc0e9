"""Counts for Prometheus. Labels are routes, methods and states: never a job, a run or a project."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """One registry per application, so that two in one process do not count for each other."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "saddlescope_http_requests", "Answered requests.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "saddlescope_http_request_seconds",
            "From the request's first byte to the answer's last.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.submitted = Counter(
            "saddlescope_jobs_submitted", "Jobs that were queued by this process.", ["kind"], registry=self.registry
        )
        self.deduplicated = Counter(
            "saddlescope_jobs_deduplicated", "Submissions answered by a finished twin.", registry=self.registry
        )
        self.unrung = Counter(
            "saddlescope_doorbell_failures", "Jobs whose message the broker did not take.", registry=self.registry
        )
        self.uploaded = Counter("saddlescope_artifact_bytes", "Bytes received as artifacts.", registry=self.registry)
        self.jobs = Gauge("saddlescope_jobs", "Jobs by state.", ["status"], registry=self.registry)
        self.workers = Gauge("saddlescope_workers", "Workers seen within the last minute.", registry=self.registry)
        self.delivered = Counter(
            "saddlescope_webhook_attempts", "Attempts at webhook messages.", ["outcome"], registry=self.registry
        )
