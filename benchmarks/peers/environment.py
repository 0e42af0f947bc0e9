"""Where the peers live: a virtual environment of their own, made on first use; and what a result must say of its origin."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.peers.question import NUM_THREADS

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PEERS = REPOSITORY / ".venv-peers"
REQUIREMENTS = REPOSITORY / "requirements-peers.txt"
RESULTS = REPOSITORY / "benchmarks" / "results"


def peers_python() -> Path:
    """The interpreter of `.venv-peers`, set up anew when `requirements-peers.txt` has changed."""
    python, stamp = PEERS / "bin" / "python", PEERS / ".requirements"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"setting up {PEERS.name} from {REQUIREMENTS.name}", flush=True)
        subprocess.run(["python3.11", "-m", "venv", "--clear", PEERS], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS]
        subprocess.run([python, *install], check=True)
        stamp.write_text(digest)
    return python


def with_threads(count: int) -> dict[str, str]:
    """The environment of a contestant."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(count))}


def provenance(num_threads: int = NUM_THREADS) -> dict[str, object]:
    """Date, machine and versions."""
    listed = subprocess.run([peers_python(), "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
    pinned = (line.split("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line)
    asked = {name.lower() for name, _ in pinned}
    installed = dict(line.split("==") for line in listed.stdout.splitlines() if "==" in line)
    return {
        **machine(num_threads),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "peers": {name: version for name, version in installed.items() if name.lower() in asked},
        },
    }


def origin(*packages: str, num_threads: int | None = None) -> dict[str, object]:
    """Date, machine and the versions of Python and of these packages (and of `SQLite`): asked before anything is measured.

    `num_threads` is None where the service decides how many its parts take.
    """
    versions = {name: sqlite3.sqlite_version if name == "SQLite" else version(name) for name in packages}
    return {**machine(num_threads), "versions": {"python": platform.python_version(), **versions}}


def machine(num_threads: int | None = NUM_THREADS) -> dict[str, object]:
    """Date and machine alone."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": num_threads,
            "system": platform.platform(),
            "load_before": round(os.getloadavg()[0], 2),
        },
    }


def write_results(name: str, results: dict[str, object]) -> Path:
    """Store what was measured under benchmarks/results, for the documentation to draw from."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    print(peers_python(), file=sys.stdout)
