"""Counts for Prometheus. Labels are of closed sets: never a job, a run, a project, or what a caller made up."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.tally import Tally

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER = "other"
"""The label of everything that is not of the closed set."""


def method_label(method: str) -> str:
    """HTTP lets a caller invent methods."""
    return method if method in _METHODS else OTHER


class Metrics:
    """One registry per application, so that two in one process do not count for each other."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.scrape = threading.Lock()
        self.requests = Counter(
            "saddlescope_http_requests", "Answered requests.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "saddlescope_http_request_seconds",
            "From the request's first byte to the answer's last.",
            ["method", "route", "status"],
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
        self.delivered = Counter(
            "saddlescope_webhook_attempts", "Attempts at webhook messages.", ["outcome"], registry=self.registry
        )
        self.downloaded = Counter(
            "saddlescope_artifact_sent_bytes", "Bytes of blobs sent to callers.", registry=self.registry
        )
        self.errors = Counter(
            "saddlescope_part_errors",
            "Calls to the database, the broker or the blob store that failed.",
            ["part"],
            registry=self.registry,
        )
        self.up = Gauge(
            "saddlescope_part_up", "Whether the part answers, as /readyz sees it.", ["part"], registry=self.registry
        )
        self.jobs = Gauge(
            "saddlescope_jobs", "Jobs by state; ended ones as counted last.", ["status"], registry=self.registry
        )
        self.tally = Tally()
        self.queue_jobs = Gauge(
            "saddlescope_queue_jobs",
            "Queued and running jobs by queue; `other` are queues that no present worker serves.",
            ["queue", "status"],
            registry=self.registry,
        )
        self.queue_age = Gauge(
            "saddlescope_queue_oldest_seconds",
            "How long the longest-waiting job has been eligible.",
            ["queue"],
            registry=self.registry,
        )
        self.lapsed = Gauge(
            "saddlescope_lapsed_leases", "Running jobs whose worker has fallen silent.", registry=self.registry
        )
        self.webhook_backlog = Gauge(
            "saddlescope_webhook_backlog",
            "Messages to webhooks that are due and have not left.",
            registry=self.registry,
        )
        self.workers = Gauge(
            "saddlescope_workers",
            "Workers seen within the last minute.",
            ["queue", "device", "sandbox"],
            registry=self.registry,
        )
        self.free = Gauge(
            "saddlescope_data_free_bytes", "Free space of the disk under the data folder.", registry=self.registry
        )
        for part in ("database", "broker", "blobs"):
            self.errors.labels(part)
