"""`python -m service projects`: what operators see and set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def run(data: Path, *arguments: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SADDLESCOPE_")}
    command = [sys.executable, "-m", "service", "projects", *arguments, "--data", str(data)]
    return subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, check=True).stdout


def test_a_quota_is_set_listed_and_taken_back(tmp_path: Path) -> None:
    run(tmp_path, "quota", "--project", "vision", "--bytes", "5000")
    assert run(tmp_path, "list") == "vision 0 5000\n"
    run(tmp_path, "quota", "--project", "vision", "--default")
    assert run(tmp_path, "list") == "vision 0 unlimited\n"


@pytest.mark.parametrize("amount", ["-1", "many", str(2**63)])
def test_a_quota_that_is_no_number_of_bytes_is_a_usage_error(amount: str) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["projects", "quota", "--project", "vision", "--bytes", amount])
    assert refused.value.code == 2
