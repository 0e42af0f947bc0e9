"""How long a two-parameter job takes from POST to report on a warm service, beside the bare cost of a request.

Starts the whole service on a folder of its own.
"""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.peers.environment import origin, write_results
from benchmarks.promises import Promise
from benchmarks.services import SERVER, running_service

MEDIAN_SECONDS = 0.15
NUM_WARM_UP = 3
NUM_JOBS, NUM_QUICK_JOBS = 40, 10
REQUEST = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}


@dataclass(frozen=True)
class Timing:
    """One job, in seconds."""

    total: float
    queued: float
    runner: float
    stored: float
    """From claim to commit without the runner: claiming, checking, writing."""

    @property
    def answered(self) -> float:
        """From before the row to after the commit: request, message, waiting service, response."""
        return self.total - self.queued - self.runner - self.stored


def run(*, quick: bool = False) -> list[Promise]:
    """Measure, print and store."""
    here, num_jobs = origin(*SERVER, "celery", "torch"), NUM_QUICK_JOBS if quick else NUM_JOBS
    with tempfile.TemporaryDirectory() as data, running_service(Path(data)) as service:
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
        for _ in range(NUM_WARM_UP):
            _time_job(connection)
        timings = [_time_job(connection) for _ in range(num_jobs)]
        requests = [_time_request(connection) for _ in range(num_jobs)]
        connection.close()
    parts = {
        "POST to report": _cuts([timing.total for timing in timings]),
        "… waiting in the queue": _cuts([timing.queued for timing in timings]),
        "… runner": _cuts([timing.runner for timing in timings]),
        "… claim, check and store": _cuts([timing.stored for timing in timings]),
        "… request and response": _cuts([timing.answered for timing in timings]),
        "GET /healthz, for comparison": _cuts(requests),
    }
    print(f"{'seconds':<30}{'median':>8}{'p90':>8}{'p99':>8}")
    for part, cuts in parts.items():
        print(f"{part:<30}{cuts['median']:>8.3f}{cuts['p90']:>8.3f}{cuts['p99']:>8.3f}")
    median = parts["POST to report"]["median"]
    print(f"{median / statistics.median(requests):.0f} bare requests")
    if not quick:
        write_results("toy_latency", {**here, "num_jobs": num_jobs, "target_median": MEDIAN_SECONDS, "seconds": parts})
    return [Promise("two-parameter job, seconds from POST to report", median, MEDIAN_SECONDS)]


def _time_job(connection: http.client.HTTPConnection) -> Timing:
    headers = {"Content-Type": "application/json", "Prefer": "wait=10"}
    started = time.perf_counter()
    connection.request("POST", "/v1/jobs", body=json.dumps(REQUEST), headers=headers)
    job = json.loads(connection.getresponse().read())
    connection.request("GET", f"/v1/jobs/{job['id']}/report")
    report = json.loads(connection.getresponse().read())
    total = time.perf_counter() - started
    if report.get("verdict") != "saddle":
        raise RuntimeError(f"the toy is a saddle, but the service said {report}")
    created, begun, finished = (
        datetime.fromisoformat(job[f"{moment}_at"]) for moment in ("created", "started", "finished")
    )
    runner = job["usage"]["seconds"]
    return Timing(
        total=total,
        queued=(begun - created).total_seconds(),
        runner=runner,
        stored=(finished - begun).total_seconds() - runner,
    )


def _time_request(connection: http.client.HTTPConnection) -> float:
    started = time.perf_counter()
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    return time.perf_counter() - started


def _cuts(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"median": cuts[49], "p90": cuts[89], "p99": cuts[98]}
