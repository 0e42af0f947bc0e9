"""No arguments of the right kinds, however wild, end a process that runs an operator of the table."""

from __future__ import annotations

import subprocess
import sys

from run_floor import ROOT


def test_operators_survive_random_arguments_for_a_while() -> None:
    """Longer: `make fuzz`."""
    command = [sys.executable, "-m", "tests.fuzz", "operators", "--minutes", "0.25"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 died, hung or failed in our code" in ended.stdout
