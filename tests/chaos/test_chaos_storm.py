"""The storm in short: `python -m tests.chaos` is the same law with hundreds of jobs, and over SQLite too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.weather import weather

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]  # a busy machine starts a worker in a minute


def test_every_job_succeeds_once_and_rightly_while_every_part_is_killed(tmp_path: Path) -> None:
    ledger = weather(tmp_path, database="postgresql", num_jobs=12, num_rounds=1, seed=1)
    assert min(ledger.kills[kind] for kind in ("worker", "api", "broker", "database")) >= 1, ledger.kills
