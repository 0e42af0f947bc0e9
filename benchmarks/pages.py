"""What the dashboard's pages cost with 100,000 jobs in SQLite: time at the server, and bytes until something is seen.

Through one connection, one request after the other, so that the time of an answer is what the server took. First paint is the
page with its pictures, its styles and its scripts but for the one that explores pictures, each compressed as a browser asks.
"""

from __future__ import annotations

import gzip
import http.client
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from sqlalchemy import insert, select

from benchmarks.peers.environment import origin, write_results
from benchmarks.promises import Promise
from benchmarks.services import SERVER, running_service
from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import JobStatus, Verdict
from store.database import open_engine
from store.filters import label_digest
from store.identifiers import new_id
from store.numbers import number_columns
from store.tables import Table

NUM_JOBS = 100_000
NUM_REQUESTS, NUM_QUICK_REQUESTS = 40, 10
SECONDS = 0.150
FIRST_PAINT_BYTES = 100_000
_BATCH = 1_000
_EXPLORE = "/static/explore.js"
TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "run": {"id": "run-0", "step": 0},
}
WIDE = {
    "checkpoint": {"inline": {"w": [0.02 * ((37 * i) % 101 - 50) for i in range(300)]}},
    "loss": {"kind": "expression", "expression": "sum((1 - w*w)**2)/300"},
}


@dataclass(frozen=True)
class Measured:
    page: str
    seconds: Sequence[float]
    num_bytes: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[94]


def run(*, quick: bool = False) -> list[Promise]:
    """Measure, print and store."""
    here, num_requests = origin(*SERVER, "Jinja2"), NUM_QUICK_REQUESTS if quick else NUM_REQUESTS
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder)) as service:
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
        toy, wide = (_answered(connection, request) for request in (TOY, WIDE))
        connection.close()  # the service would, before all of them are there
        listed = _fill(f"sqlite:///{Path(folder) / 'saddlescope.db'}", toy)
        measured = [_measure(connection, name, path, num_requests) for name, path in _pages(toy, wide, listed).items()]
        connection.close()
    print(f"{'':<34}{'median, ms':>11}{'p95, ms':>9}{'first paint, kB':>17}")
    for one in measured:
        print(f"{one.page:<34}{one.median * 1e3:>11.1f}{one.p95 * 1e3:>9.1f}{one.num_bytes / 1e3:>17.1f}")
    if not quick:
        told = [
            {"page": one.page, "median_seconds": one.median, "p95_seconds": one.p95, "first_paint_bytes": one.num_bytes}
            for one in measured
        ]
        write_results("pages", {**here, "num_jobs": NUM_JOBS, "num_requests": num_requests, "pages": told})
    return [
        Promise("slowest page's p95, seconds", max(one.p95 for one in measured), SECONDS),
        Promise("largest first paint, bytes", max(one.num_bytes for one in measured), FIRST_PAINT_BYTES),
    ]


def _pages(toy: str, wide: str, listed: Sequence[str]) -> Mapping[str, str]:
    middle = listed[len(listed) // 2]
    several = "&".join(f"job={job}" for job in (toy, wide, *listed[:6]))
    return {
        "jobs, newest": "/",
        "jobs, next page": f"/?after={middle}",
        "jobs by loss": "/?sort=loss&order=asc",
        "jobs by λ_min, next page": f"/?sort=lambda_min&order=asc&after={middle}",
        "jobs of a verdict by loss": "/?verdict=plateau&sort=loss",
        "jobs of a verdict": "/?verdict=plateau",
        "jobs of no verdict": "/?verdict=local_minimum",
        "jobs of a label by loss": f"/?label={quote('team:team-3')}&sort=loss",
        "jobs found by a run's name": "/?q=network+123",
        "jobs found nowhere": "/?q=nowhere",
        "one line a run": "/?group=run",
        "one line a run, of a verdict": "/?group=run&verdict=plateau",
        "one line a run, found by its name": "/?group=run&q=network+123",
        "job of 2 parameters": f"/jobs/{toy}",
        "job of 300 parameters": f"/jobs/{wide}",
        "run of 200 checkpoints": "/runs/run-7",
        "two runs of 200": "/runs/run-7?with=run-8",
        "landscape": "/landscape",
        "landscape of a verdict": "/landscape?verdict=plateau",
        "landscape, all three": "/landscape?against=triple",
        "comparison of eight jobs": f"/compare?{several}",
        "submission": "/submit",
        "health": "/health",
    }


def _measure(connection: http.client.HTTPConnection, name: str, path: str, num_requests: int) -> Measured:
    text = _get(connection, path)
    seconds = []
    for _ in range(num_requests):
        started = time.perf_counter()
        _get(connection, path)
        seconds.append(time.perf_counter() - started)
    loaded = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', text)) - {_EXPLORE}
    num_bytes = sum(len(_body(connection, each)) for each in (path, *sorted(loaded)))
    return Measured(name, seconds, num_bytes)


def _get(connection: http.client.HTTPConnection, path: str) -> str:
    return gzip.decompress(_body(connection, path)).decode()


def _body(connection: http.client.HTTPConnection, path: str) -> bytes:
    """As it is sent to a browser."""
    connection.request("GET", path, headers={"Accept": "text/html", "Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} was answered {answer.status}")
    return body


def _answered(connection: http.client.HTTPConnection, request: Mapping[str, object]) -> str:
    headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
    connection.request("POST", "/v1/jobs", json.dumps(request), headers)
    job = json.loads(connection.getresponse().read())
    if job["status"] != "succeeded":
        raise RuntimeError(f"the job did not succeed: {job}")
    return str(job["id"])


def _fill(url: str, answered: str) -> list[str]:
    """Jobs of 500 runs and 10 labels that all have the answer of one real job, with other numbers."""
    tables = Table.metadata.tables
    engine = open_engine(url)
    generator = random.Random(0)
    with engine.connect() as connection:
        stored = connection.execute(select(tables["reports"]).where(tables["reports"].c.job_id == answered)).one()
        vectors = connection.execute(select(tables["escapes"]).where(tables["escapes"].c.job_id == answered)).all()
        finished = connection.execute(select(tables["jobs"].c.finished_at).limit(1)).scalar_one()
    request = JobRequest.model_validate(TOY)
    made: list[str] = []
    for start in range(0, NUM_JOBS, _BATCH):
        ids = [new_id("job") for _ in range(_BATCH)]
        jobs, reports = [], []
        for number, job_id in enumerate(ids, start):
            verdict = Verdict.SADDLE if number % 100 else Verdict.PLATEAU
            jobs.append({
                "id": job_id, "project": "default", "status": JobStatus.SUCCEEDED, "queue": "cpu", "priority": 0,
                "fence": 1, "attempt": 1, "max_attempts": 3, "finished_at": finished, "verdict": verdict,
                "run_id": f"run-{number % 500}", "run_name": f"Network {number % 500}", "run_step": number,
                "labels": {"team": f"team-{number % 10}"}, "metadata": {}, "fingerprint": "0" * 64, "request": request,
            })  # fmt: skip
            share = generator.random()
            other = {"loss": generator.lognormvariate(0, 1), "lambda_min": -generator.random(), "minimum_ratio": share,
                     "ratio_low": 0.9 * share, "ratio_high": min(1.0, 1.1 * share)}  # fmt: skip
            reports.append({
                "job_id": job_id, **number_columns(stored.report), **other, "spectrum_blob": stored.spectrum_blob,
                "landscape_blob": stored.landscape_blob, "report": stored.report,
            })  # fmt: skip
        with engine.begin() as connection:
            connection.execute(insert(tables["jobs"]), jobs)
            labels = [{"digest": label_digest("team", f"team-{start_of % 10}"), "job_id": job_id}
                      for start_of, job_id in enumerate(ids, start)]  # fmt: skip
            connection.execute(insert(tables["job_labels"]), labels)
            connection.execute(insert(tables["reports"]), reports)
            ways_out = [{"job_id": job_id, "number": row.number, "blob": row.blob} for job_id in ids for row in vectors]
            connection.execute(insert(tables["escapes"]), ways_out)
        made += ids
    engine.dispose()
    return made
