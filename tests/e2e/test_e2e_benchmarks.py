"""The benchmarks of the service still speak its language: run in small, they get their answers and print their figures."""

from __future__ import annotations

import math

import pytest

from benchmarks import load, uploads


def test_the_load_benchmark_measures_every_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "ROUND_SECONDS", 0.3)
    monkeypatch.setattr(load, "NUM_LISTED", 1_000)
    monkeypatch.setattr(load, "UPLOAD_BYTES", 2**22)
    promises = load.run(quick=True)
    assert len(promises) == 12
    assert all(0 < promise.measured < math.inf for promise in promises)


def test_the_upload_benchmark_measures_every_promise() -> None:
    speed, memory = uploads.run(2**24)
    assert 0 < speed.measured < math.inf
    assert memory.is_kept
