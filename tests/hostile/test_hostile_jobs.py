"""Every hostile request through the whole service: it ends as it should, soon, and harms nothing that comes after it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil
import pytest
from e2e_service import running_service

from tests.hostile.hostile_requests import Case, cases, readable
from tests.hostile.sending import End, plain, send

MAX_SECONDS = 30
MAX_GROWTH_BYTES = 50 * 2**20
SENDERS = 2


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
    settings = {"SADDLESCOPE_WORKER_CONCURRENCY": "2", "SADDLESCOPE_REFERENCE_ROOTS": str(readable(folder))}
    with running_service(folder / "data", settings) as service:
        for _ in range(10):
            plain(service)
        processes = {"service": psutil.Process(service.process.pid), "worker": service.worker()}
        sizes = {name: process.memory_info().rss for name, process in processes.items()}
        with ThreadPoolExecutor(SENDERS) as senders:
            ends = dict(zip(all_cases, senders.map(lambda case: send(service, case), all_cases.values()), strict=True))
        growth = {name: process.memory_info().rss - sizes[name] for name, process in processes.items()}
        is_same = service.worker().pid == processes["worker"].pid
        yield Sent(all_cases, ends, growth, is_same, marker.exists() or Path("marker").exists())


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
