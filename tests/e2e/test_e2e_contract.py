"""The service holds to its own OpenAPI document, whatever schemathesis thinks up: every check, on single calls and on sequences.

What is not asked of which call stands in `schemathesis.toml`, with its reason. `make contract` tries a hundred times as much.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_service import Service, running_service

HERE = Path(__file__).resolve().parent
EXAMPLES = int(os.environ.get("SADDLESCOPE_CONTRACT_EXAMPLES", "5"))
SEQUENCES = 20 * EXAMPLES
IS_LONG = EXAMPLES > 100
# The edges of every field of a job: eight thousand requests, for the long form.
JOBS = "POST /v1/jobs"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("contract")) as started:
        yield started


def run(service: Service, folder: Path, *options: str, num_examples: int = EXAMPLES) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run"),
        f"{service.client.base_url}/v1/openapi.json",
        *("--max-examples", str(num_examples), "--seed", "0", *options),
    ]
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Tested: 4" in ended.stdout or "Scenarios:" in ended.stdout, ended.stdout


def test_every_call_at_the_edges_of_its_parameters(service: Service, tmp_path: Path) -> None:
    run(service, tmp_path, "--phases", "coverage", *([] if IS_LONG else ["--exclude-name", JOBS]))


def test_random_calls(service: Service, tmp_path: Path) -> None:
    run(service, tmp_path, "--phases", "examples,fuzzing")


def test_random_sequences_of_calls(service: Service, tmp_path: Path) -> None:
    run(service, tmp_path, "--phases", "stateful", num_examples=SEQUENCES)
    jobs = service.client.get("/v1/jobs?limit=200").json()["data"]
    statuses = {job["status"] for job in jobs}
    assert "succeeded" in statuses, statuses
    assert all(not (job["error"] and job["error"]["code"] in ("internal", "crashed")) for job in jobs)
