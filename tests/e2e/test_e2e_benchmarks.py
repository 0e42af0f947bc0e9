"""The benchmarks still speak the product's language: run in small, they get their answers, and the page tells what they store."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import callback_cost, load, pages, products, scrape, start_up, toy_latency, uploads
from benchmarks.page import PAGE, TABLES, origin, rendered
from benchmarks.peers import environment
from benchmarks.promises import Promise


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    monkeypatch.setattr(environment, "RESULTS", folder)
    return folder


def told(stored: Path, name: str) -> list[str]:
    """The cells of the table that the page has of what was stored alone, row by row below its head, joined."""
    assert [path.name for path in stored.iterdir()] == [f"{name}.json"]
    text = rendered(PAGE.read_text(encoding="utf-8"), stored)
    results = json.loads((stored / f"{name}.json").read_text())
    lines = "\n".join(TABLES[name](results))
    assert f"<!-- {name} -->\n{lines}\n\n{origin(results)}\n<!-- end of {name} -->" in text
    return [line for line in lines.splitlines() if line.startswith("|")][2:]


def all_measured(promises: list[Promise]) -> bool:
    return all(promise.measured is not None and 0 <= promise.measured < math.inf for promise in promises)


def test_the_load_benchmark_measures_and_tells_every_promise(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "ROUND_SECONDS", 0.3)
    monkeypatch.setattr(load, "NUM_ROUNDS", 1)
    monkeypatch.setattr(load, "NUM_LISTED", 1_000)
    monkeypatch.setattr(load, "UPLOAD_BYTES", 2**22)
    promises = load.run()
    assert len(promises) == 12
    assert all_measured(promises)
    # Five rows with a column for either database, and two of SQLite alone.
    assert len(told(stored, "load")) == 7


def test_the_upload_benchmark_measures_and_tells_every_promise(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "NUM_BYTES", 2**24)
    speed, memory = uploads.run()
    assert all_measured([speed])
    assert memory.is_kept
    assert len(told(stored, "uploads")) == 4


def test_a_quick_run_stores_nothing(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_up, "NUM_QUICK_STARTS", 1)
    assert all_measured(start_up.run(quick=True))
    assert not stored.exists()


def test_the_start_up_benchmark_tells_of_every_start(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_up, "NUM_STARTS", 1)
    assert all_measured(start_up.run())
    assert [line.split("`")[1] for line in told(stored, "start_up")] == list(start_up.QUESTIONS)


def test_the_latency_benchmark_tells_where_the_time_goes(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_latency, "NUM_JOBS", 3)
    [promise] = toy_latency.run()
    assert all_measured([promise])
    assert f"| POST to report | {promise.measured:.3f} |" in told(stored, "toy_latency")[0]


def test_the_benchmark_of_pages_tells_of_every_page(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "NUM_JOBS", 1_000)
    monkeypatch.setattr(pages, "NUM_REQUESTS", 2)
    assert all_measured(pages.run())
    assert len(told(stored, "pages")) == len(pages._pages("", "", [""]))


def test_the_benchmark_of_scrapes_tells_of_every_question(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "NUM_JOBS", 1_000)
    assert all_measured(scrape.run())
    assert len(told(stored, "scrape")) == len(scrape.EACH_TIME) + 2


def test_the_callback_benchmark_measures_and_tells_every_promise(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("NUM_STEPS", "NUM_SNAPSHOTS", "NUM_SHADOWED"):
        monkeypatch.setattr(callback_cost, number, 1)
    monkeypatch.setattr(callback_cost, "NUM_LAYERS", 1)
    assert len(callback_cost.run()) == 2
    assert len(told(stored, "callback")) == 4


def test_the_benchmark_of_products_tells_of_every_network(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "NUM_ROUNDS", 1)
    monkeypatch.setattr(products, "NUM_STEPS", 2)
    monkeypatch.setattr(products, "NUM_THREADS", 1)
    monkeypatch.setattr(products, "NETWORKS", products.NETWORKS[:2])
    monkeypatch.setattr(products, "large", products.perceptron)
    promises = products.run()
    assert len(promises) == len(products.NETWORKS) + 2
    lines = told(stored, "products")
    assert len(lines) == len(promises)
    assert all(network.name in line for network, line in zip(products.NETWORKS, lines, strict=False))
