"""All laws in full, over PostgreSQL and SQLite; exit status 1 if one fails."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.chaos import clocks, lost_workers, outages
from tests.chaos.site import open_site
from tests.chaos.weather import weather

DATABASES = ("sqlite", "postgresql")
OUTAGE_SECONDS = 60.0
NUM_WIPED = 100
# Shorter than an outage of a minute, so that every lease lapses in it.
LEASE_SECONDS = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="jobs in each storm, at least (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of kills, at least (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the storms (default: another one each time)")
    parser.add_argument("--database", choices=DATABASES, action="append", help="only this one for the storm")
    parser.add_argument("--only", choices=["storm", "outages"], help="only this part")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    num_failed = 0
    if options.only != "outages":
        for database in options.database or DATABASES:
            num_failed += not show(f"storm over {database}, seed {seed}", storm(database, options, seed))
    if options.only != "storm":
        num_failed += all_outages()
    return 1 if num_failed else 0


def storm(database: str, options: argparse.Namespace, seed: int) -> Callable[[], str]:
    def blow() -> str:
        ledger = weather(new_folder(), database=database, num_jobs=options.jobs, num_rounds=options.rounds, seed=seed)
        return "\n".join(["", *ledger.lines()])

    return blow


def all_outages() -> int:
    """On PostgreSQL: a process that is frozen while it writes keeps everyone out of SQLite, until it goes on."""
    with open_site(new_folder(), database="postgresql", lease_seconds=LEASE_SECONDS) as site:
        laws: dict[str, Callable[[], str]] = {
            "broker down": lambda: outages.broker_is_away(site, seconds=OUTAGE_SECONDS),
            "database down": lambda: outages.database_is_away(site, seconds=OUTAGE_SECONDS),
            "broker wiped": lambda: outages.broker_forgets(site, num_jobs=NUM_WIPED),
            "killed run": lambda: lost_workers.killed_run_resumes(site),
            "poison": lambda: lost_workers.poison_is_given_up(site),
            "zombie": lambda: lost_workers.zombie_wakes(site),
            "clock ahead": lambda: clocks.skewed_worker_changes_nothing(site, num_jobs=10),
            "clock behind": lambda: clocks.skewed_worker_changes_nothing(site, num_jobs=10, seconds=-clocks.HOUR),
        }
        return sum(not show(name, law) for name, law in laws.items())


def new_folder() -> Path:
    """Short, because the path of a socket is; it is left where it is, with its logs."""
    return Path(tempfile.mkdtemp(prefix="chaos-"))


def show(name: str, law: Callable[[], str]) -> bool:
    started = time.monotonic()
    try:
        told, holds = law(), True
    except Exception:  # noqa: BLE001 - the other laws are asked all the same
        told, holds = traceback.format_exc(), False
    print(f"{'holds' if holds else 'FAILS'}  {name} ({time.monotonic() - started:.0f} s): {told}", flush=True)
    return holds


if __name__ == "__main__":
    sys.exit(main())
