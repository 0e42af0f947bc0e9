"""The batch script and the systemd units start commands that exist."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import JobStatus
from store import tables
from store.database import migrate, open_engine, open_sessions
from store.jobs import insert_job

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))


class Unit(configparser.RawConfigParser):
    def __init__(self, path: Path) -> None:
        super().__init__(strict=True, comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[method-assign,assignment]
        self.read_string(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_module_of_ours_as_a_user_of_its_own(path: Path) -> None:
    unit = Unit(path)
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    service = unit["Service"]
    commands = [service[name] for name in ("ExecStartPre", "ExecStart") if name in service]
    for module in (re.search(r"-m (\w+)", command) for command in commands):
        assert module is not None
        assert (ROOT / module[1] / "__main__.py").is_file()
    assert service["User"] != "root"
    assert service["NoNewPrivileges"] == "yes"


def test_the_batch_script_works_until_nothing_is_queued(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    migrate(url)
    engine = open_engine(url)
    request = JobRequest.model_validate(
        {
            "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
            "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
            "queue": "batch",
        }
    )
    with open_sessions(engine).begin() as session:
        insert_job(session, project="default", request=request, fingerprint="f" * 64)
    settings = {
        "SADDLESCOPE_DATABASE_URL": url,
        "SADDLESCOPE_BROKER_URL": "redis+socket:///nowhere/valkey.sock",
        "SADDLESCOPE_BLOBS_URL": str(tmp_path / "blobs"),
        "SADDLESCOPE_DEVICE": "cpu",
        "SADDLESCOPE_PYTHON": sys.executable,
        "SADDLESCOPE_QUEUE": "batch",
        "SLURM_TMPDIR": str(tmp_path / "scratch"),
    }
    done = subprocess.run(
        ["bash", str(ROOT / "deploy/slurm/worker.sbatch")],
        cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with open_sessions(engine)() as session:
        assert session.scalars(select(tables.Job.status)).all() == [JobStatus.SUCCEEDED]
    engine.dispose()
