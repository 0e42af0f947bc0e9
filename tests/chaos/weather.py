"""The law of the storm: so many jobs while everything is killed, then the ledger."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.ledger import Ledger, audit
from tests.chaos.site import open_site
from tests.chaos.storm import Storm
from tests.chaos.submission import submit_all


def weather(folder: Path, *, database: str, num_jobs: int, num_rounds: int, seed: int, num_workers: int = 2) -> Ledger:
    """At least so many jobs through at least so many rounds of kills; what is left, after the garbage duty."""
    num_asked = 0

    with open_site(folder, database=database, num_workers=num_workers) as site:
        storm = Storm(site, seed=seed)

        def is_enough(number: int) -> bool:
            nonlocal num_asked
            storm.assert_blowing()
            if number >= num_jobs and storm.rounds >= num_rounds:
                return True
            num_asked = max(num_asked, number + 1)
            return False

        with storm:
            num_right = submit_all(site, is_enough=is_enough, check=storm.assert_blowing)
        for worker in site.workers:
            worker.kill()
        ledger = audit(site)
    ledger.kills, ledger.gave_up, ledger.verdicts_right = storm.kills, storm.gave_up, num_right
    ledger.assert_whole(num_asked)
    return ledger
