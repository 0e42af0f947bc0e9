from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_demo_leaves_both_saddles_and_ends_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "eigenvalues of the Hessian: -2.000000, +2.000000" in done.stdout
    assert re.search(r"loss 1 → \d(\.\d+e-\d\d)?$", done.stdout, flags=re.MULTILINE)
    stuck = loss_in_row(done.stdout, "gradient descent from there")
    escaped = loss_in_row(done.stdout, "the escape alone")
    freed = loss_in_row(done.stdout, "the escape, then")
    assert freed < escaped < stuck
    assert re.search(r"http://127\.0\.0\.1:\d+/", done.stdout)


def loss_in_row(output: str, name: str) -> float:
    row = next(line for line in output.splitlines() if name in line)
    found = re.search(r"\d\.\d{4}", row)
    assert found is not None
    return float(found[0])
