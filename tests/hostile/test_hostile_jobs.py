"""Every hostile request through the whole service: it ends as it should, soon, and harms nothing that comes after it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

import psutil
import pytest
from e2e_service import TOY, Service, running_service
from hostile_requests import SUCCEEDED, Case, cases

MAX_SECONDS = 30
MAX_GROWTH_BYTES = 50 * 2**20
SENDERS = 2


@dataclass(frozen=True)
class End:
    """The word that a request ended in, how long its job ran, and the status of a plain job sent right after it."""

    word: str
    seconds: float
    following: str


@dataclass(frozen=True, repr=False)
class Sent:
    """What came of all cases, sent to one service."""

    cases: dict[str, Case]
    ends: dict[str, End]
    growth_bytes: dict[str, int]
    is_same_worker: bool
    has_marker: bool


def names() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return [*cases(Path(folder), Path("marker"))]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    folder = tmp_path_factory.mktemp("hostile")
    marker = folder / "marker"
    all_cases = cases(folder, marker)
    with running_service(folder / "data", {"SADDLESCOPE_WORKER_CONCURRENCY": "2"}) as service:
        for _ in range(10):
            plain(service)
        processes = {"service": psutil.Process(service.process.pid), "worker": service.worker()}
        sizes = {name: process.memory_info().rss for name, process in processes.items()}
        with ThreadPoolExecutor(SENDERS) as senders:
            ends = dict(zip(all_cases, senders.map(lambda case: send(service, case), all_cases.values()), strict=True))
        growth = {name: process.memory_info().rss - sizes[name] for name, process in processes.items()}
        is_same = service.worker().pid == processes["worker"].pid
        yield Sent(all_cases, ends, growth, is_same, marker.exists() or Path("marker").exists())


def plain(service: Service) -> str:
    return str(service.post(TOY | {"force": True, "options": {"landscape": False}}, wait=60)["status"])


def send(service: Service, case: Case) -> End:
    headers = {"Prefer": "wait=60"}
    if case.file is not None:
        parts = {"request": (None, json.dumps(case.request)), "file": case.file}
        answer = service.client.post("/v1/jobs", files=parts, headers=headers)
    elif isinstance(case.request, bytes):
        headers["Content-Type"] = "application/json"
        answer = service.client.post("/v1/jobs", content=case.request, headers=headers)
    else:
        answer = service.client.post("/v1/jobs", json=case.request, headers=headers)
    body = answer.json()
    if answer.status_code != 202:
        word = f"{answer.status_code} {body['code']}" if len(answer.content) < 64 * 2**10 else "an absurdly long answer"
        return End(word, 0.0, plain(service))
    if not body["done"] or body["attempt"] != 1:
        return End(f"{body['status']} at attempt {body['attempt']}", 0.0, plain(service))
    started, finished = (datetime.fromisoformat(body[moment]) for moment in ("started_at", "finished_at"))
    word = SUCCEEDED if body["status"] == "succeeded" else str(body["error"]["code"])
    return End(word, (finished - started).total_seconds(), plain(service))


@pytest.mark.parametrize("name", names())
def test_it_ends_as_it_should_and_the_next_job_succeeds(sent: Sent, name: str) -> None:
    end = sent.ends[name]
    assert end.word in sent.cases[name].ends
    assert end.seconds < MAX_SECONDS
    assert end.following == "succeeded"


def test_no_case_ran_code_replaced_the_worker_or_swelled_a_process(sent: Sent) -> None:
    slowest = sorted(sent.ends.items(), key=lambda each: -each[1].seconds)
    print(f"{len(slowest)} cases; growth in MiB: { ({name: size >> 20 for name, size in sent.growth_bytes.items()}) }")
    print("slowest:", ", ".join(f"{name} {end.seconds:.1f} s" for name, end in islice(slowest, 8)))
    assert sent.is_same_worker
    assert not sent.has_marker
    assert all(size < MAX_GROWTH_BYTES for size in sent.growth_bytes.values()), sent.growth_bytes
