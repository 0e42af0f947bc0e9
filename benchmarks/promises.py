"""What the documentation promises, and what was measured: one line of the table that a run ends with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from benchmarks.peers import environment


@dataclass(frozen=True)
class Promise:
    """`measured` must not be above `most`; None where there is nothing to compare with, which breaks the promise too."""

    what: str
    measured: float | None
    most: float

    @property
    def is_kept(self) -> bool:
        return self.measured is not None and self.measured <= self.most


def store(benchmark: str, promises: Sequence[Promise]) -> None:
    """Keep them beside those of the other benchmarks, in the place of what an earlier run of this one said."""
    path = environment.RESULTS / "promises.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    told = [asdict(promise) | {"is_kept": promise.is_kept} for promise in promises]
    environment.write_results("promises", {**stored, benchmark: {"date": date, "promises": told}})


def print_table(promises: Sequence[Promise]) -> None:
    print(f"\n{'':<64}{'measured':>10}{'at most':>10}")
    for promise in promises:
        measured = "none" if promise.measured is None else f"{promise.measured:.2f}"
        print(f"{promise.what:<64}{measured:>10}{promise.most:>10.2f}{'' if promise.is_kept else '  BROKEN'}")
    broken = sum(not promise.is_kept for promise in promises)
    print(f"{len(promises) - broken} of {len(promises)} promises kept")
