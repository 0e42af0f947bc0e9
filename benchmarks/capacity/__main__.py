"""`python -m benchmarks.capacity [costs|burst|plan|page]`: measure what a job costs and how a real burst went, simulate, write.

Each does what comes after it too; without a word everything is done. The others take what is stored of those before them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
from sqlalchemy import create_engine, text

from benchmarks.capacity import answering, burst, engine, page, rows, tiers
from benchmarks.capacity.networks import NETWORKS
from benchmarks.peers.environment import machine, write_results
from benchmarks.services import postgresql

STEPS = ("costs", "burst", "plan", "page")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("step", nargs="?", choices=STEPS, default="costs")
    first = STEPS.index(parser.parse_args(arguments).step)
    results = costs() if first == 0 else json.loads(page.STORED.read_text())
    if first <= 1:
        results["burst"] = real_burst()
    if first <= 2:
        results["tiers"] = [planned(results, per_day) for per_day in tiers.PER_DAY]
        print(f"written to {write_results('capacity', results).name}")
    page.write()
    return 0


def costs() -> dict[str, object]:
    origin, found = machine(num_threads=1), {}
    for network in NETWORKS:
        found[network.name] = engine.measure(network)
        print(f"{network.title}: {[round(one.seconds, 3) for one in found[network.name]]} s", flush=True)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "SQLite": sqlite3.sqlite_version,
    }
    databases, asked = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        databases["SQLite"] = asdict(rows.measure(f"sqlite:///{Path(folder) / 'filled.db'}", found))
    asked["SQLite"] = asdict(answering.measure({}))
    with postgresql() as url:
        databases["PostgreSQL"] = asdict(rows.measure(url, found))
        versions["PostgreSQL"] = _server_version(url)
    with postgresql() as url:
        asked["PostgreSQL"] = asdict(answering.measure({"SADDLESCOPE_DATABASE_URL": url}))
    print(json.dumps({"databases": databases, "answering": asked}, indent=1), flush=True)
    networks = {
        network.name: {
            "title": network.title,
            # The reports themselves are not kept: their sizes are in the rows.
            "analyses": [
                {key: value for key, value in asdict(one).items() if key != "report"} for one in found[network.name]
            ],
        }
        for network in NETWORKS
    }
    return {
        **origin,
        "versions": versions,
        "networks": networks,
        "databases": databases,
        "answering": asked,
    }


def real_burst() -> dict[str, object]:
    date, load = datetime.now(UTC).isoformat(timespec="seconds"), round(os.getloadavg()[0], 2)
    found = asdict(burst.measure())
    print(json.dumps(found, indent=1), flush=True)
    return {"date": date, "load_before": load, **found}


def planned(results: Mapping[str, object], per_day: int) -> dict[str, object]:
    plan = tiers.plan(results, per_day)
    print(json.dumps(plan, indent=1), flush=True)
    return plan


def _server_version(url: str) -> str:
    connected = create_engine(url)
    with connected.connect() as connection:
        version = str(connection.execute(text("SHOW server_version")).scalar_one())
    connected.dispose()
    return version.partition(" ")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
