"""Whatever is done to a genuine file, its reader gives tensors or its own refusal: in little memory, soon, opening nothing."""

from __future__ import annotations

import subprocess
import sys

from run_floor import ROOT


def test_every_reader_survives_some_thousand_mutations() -> None:
    """Longer: `make fuzz`."""
    command = [sys.executable, "-m", "tests.fuzz", "readers", "--count", "1500"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("refused") == 8
    assert "\n0 cases were not handled" in ended.stdout
