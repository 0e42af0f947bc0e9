"""The simulation beside the service itself: a burst of toy jobs for one worker, predicted and measured.

What the prediction knows was measured on jobs that came alone (their seconds) and in pairs (what lies between the end of one
and the claim of the next).
"""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from benchmarks.capacity.way import Installation, Times, simulate
from benchmarks.services import Running, running_service
from benchmarks.toy_latency import REQUEST

NUM_ALONE = 20
NUM_PAIRS = 10
NUM_IN_BURST = 60
NUM_SENDERS = 4
NUM_REPLICATIONS = 200


@dataclass(frozen=True)
class Lived:
    """Moments of one job, in seconds of the database's clock."""

    created: float
    started: float
    finished: float

    @property
    def seconds(self) -> float:
        return self.finished - self.started


@dataclass(frozen=True)
class Foreseen:
    """Makespan (first POST to last verdict) and mean wait: the median of all replications, and the middle nine tenths."""

    turnover: float
    makespan: float
    makespan_low: float
    makespan_high: float
    mean_wait: float
    wait_low: float
    wait_high: float


@dataclass(frozen=True)
class Comparison:
    """What was measured, beside two predictions."""

    num_jobs: int
    makespan: float
    mean_wait: float
    from_before_and_after: Foreseen
    """From jobs that came alone, half before the burst and half after it: what a plan can know."""
    from_half_of_it: Foreseen
    """From every second job of the burst itself: the simulation alone, whatever else the machine did meanwhile."""


def measure() -> Comparison:
    settings = {"SADDLESCOPE_WORKER_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder), settings) as service:
        for _ in range(3):
            _submit_and_wait(service)
        alone = [_submit_and_wait(service) for _ in range(NUM_ALONE)]
        gaps = [_between_two(service) for _ in range(NUM_PAIRS)]
        burst = _together(service, NUM_IN_BURST)
        alone += [_submit_and_wait(service) for _ in range(NUM_ALONE)]
        gaps += [_between_two(service) for _ in range(NUM_PAIRS)]
    return compare([job.seconds for job in alone], statistics.median(gaps), burst)


def compare(service_seconds: Sequence[float], turnover: float, burst: Sequence[Lived]) -> Comparison:
    """The burst, and what the simulation makes of the moments at which it was accepted."""
    in_turn = sorted(burst, key=lambda job: job.started)
    half = in_turn[::2]
    gaps = [after.started - before.finished for before, after in zip(half, in_turn[1::2], strict=False)]
    first = min(job.created for job in burst)
    arrivals = sorted(job.created - first for job in burst)
    return Comparison(
        num_jobs=len(burst),
        makespan=max(job.finished for job in burst) - first,
        mean_wait=statistics.fmean(job.started - job.created for job in burst),
        from_before_and_after=_foreseen(arrivals, service_seconds, turnover),
        from_half_of_it=_foreseen(arrivals, [job.seconds for job in half], max(0.0, statistics.fmean(gaps))),
    )


def _foreseen(arrivals: Sequence[float], service_seconds: Sequence[float], turnover: float) -> Foreseen:
    # Claim and commit are within the seconds of a job here, and a submission is accepted once it is committed.
    times = Times(0.0, 0.0, 0.0, 0.0, 0.0, turnover=turnover)
    generator = Random(0)
    outcomes = [
        simulate(Installation(1, 1), times, arrivals, lambda: generator.choice(service_seconds))
        for _ in range(NUM_REPLICATIONS)
    ]
    makespans = statistics.quantiles((outcome.last_at for outcome in outcomes), n=20)
    waits = statistics.quantiles((outcome.mean_wait for outcome in outcomes), n=20)
    return Foreseen(
        turnover=turnover,
        makespan=makespans[9],
        makespan_low=makespans[0],
        makespan_high=makespans[-1],
        mean_wait=waits[9],
        wait_low=waits[0],
        wait_high=waits[-1],
    )


def _between_two(service: Running) -> float:
    """Seconds from the end of one job to the claim of another that was waiting."""
    first, second = sorted(_together(service, 2), key=lambda job: job.started)
    return max(0.0, second.started - first.finished)


def _together(service: Running, count: int) -> list[Lived]:
    with ThreadPoolExecutor(NUM_SENDERS) as pool:
        ids = [str(job["id"]) for job in pool.map(lambda _: _ask(service, "POST", "/v1/jobs"), range(count))]
    return [_lived(_ask(service, "GET", f"/v1/jobs/{job_id}", wait=60)) for job_id in ids]


def _submit_and_wait(service: Running) -> Lived:
    return _lived(_ask(service, "POST", "/v1/jobs", wait=60))


def _lived(job: dict[str, object]) -> Lived:
    if job["status"] != "succeeded":
        raise RuntimeError(f"the toy is a saddle, but the service said {job}")
    return Lived(
        *(datetime.fromisoformat(str(job[f"{moment}_at"])).timestamp() for moment in ("created", "started", "finished"))
    )


def _ask(service: Running, method: str, path: str, *, wait: int | None = None) -> dict[str, object]:
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=90)
    body = json.dumps(REQUEST) if method == "POST" else None
    headers = {"Content-Type": "application/json"} | ({} if wait is None else {"Prefer": f"wait={wait}"})
    connection.request(method, path, body, headers)
    told: dict[str, object] = json.loads(connection.getresponse().read())
    connection.close()
    return told
