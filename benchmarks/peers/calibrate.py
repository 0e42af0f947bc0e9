"""Find each peer's best setting on each workload, off the clock: `python -m benchmarks.peers.calibrate [WORKLOAD …]`.

Of a peer's candidates, the one with the fewest products among those whose answer the judge accepts for every seed of the
benchmark; on one thread, since products count and not seconds. The peers thus know beforehand what a user would have to
find out; we do not. Where none is accepted, the last that answered at all is kept, for the benchmark to say what it lacks.
Writes settings.json, which the benchmark reads.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.peers.candidates import ASCENDING, CANDIDATES, REFERENCE
from benchmarks.peers.compare import OURS, PEERS, SETTINGS
from benchmarks.peers.judge import Judge, JudgedPairs, most_extreme, objection
from benchmarks.peers.models import EXTREME_PAIRS, Workload, read_subject, write_subject
from benchmarks.peers.question import NUM_ROUNDS
from benchmarks.peers.racing import Entry, NoAnswer, Runner, Solve, started
from benchmarks.peers.subject import Setting

CALIBRATION_SECONDS = 100.0


@dataclass(frozen=True)
class Course:
    """A workload with what is known of its answer."""

    workload: Workload
    folder: Path
    judge: Judge
    known: tuple[float, ...]
    our_products: int

    def measure(self, solve: Solve) -> JudgedPairs:
        return self.judge.measure(torch.load(solve.path, weights_only=True)["vectors"])

    def accepts(self, solve: Solve) -> bool:
        pairs = self.measure(solve)
        scale = max(map(abs, self.known))
        return objection(pairs, self.known, scale) is None


def main(names: list[str]) -> None:
    for workload in EXTREME_PAIRS:
        if names and workload.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            course = _course(workload, Path(folder))
            print(workload.title, [round(value, 5) for value in course.known], flush=True)
            for entry in PEERS:
                best = best_setting(entry, course)
                settings = json.loads(SETTINGS.read_text())
                settings.setdefault(workload.name, {})[entry.module] = best
                SETTINGS.write_text(json.dumps(settings, indent=2) + "\n")


def best_setting(entry: Entry, course: Course) -> Setting:
    """Try the candidates in order, each until it is worse than the best."""
    candidates = CANDIDATES[entry.module]
    best, fewest, fallback = None, sys.maxsize, candidates[0]
    with started(entry, course.workload.name, course.folder, num_threads=1) as runner:
        for candidate in candidates:
            # Without restarts nobody can do with far fewer steps than another Lanczos cycle.
            if float(candidate.get("num_steps", sys.maxsize)) < 0.75 * course.our_products:
                continue
            try:
                total = _total_products(runner, candidate, course, below=fewest)
            except NoAnswer as reason:
                print(f"  {entry.title} {candidate}: {reason}", flush=True)
                break
            if total is not None:
                best, fewest = candidate, total
                print(f"  {entry.title} {candidate}: {total / NUM_ROUNDS:.0f} products", flush=True)
                if entry.module in ASCENDING:
                    break
            fallback = candidate
    return best or fallback


def _total_products(runner: Runner, candidate: Setting, course: Course, *, below: int) -> int | None:
    """Products over all seeds, or None once they are not below `below` or an answer is not accepted."""
    total = 0
    for seed in range(NUM_ROUNDS):
        solve = runner.solve(seed, candidate, limit_seconds=CALIBRATION_SECONDS)
        total += solve.num_products
        if total >= below or not course.accepts(solve):
            return None
    return total


def _course(workload: Workload, folder: Path) -> Course:
    write_subject(workload, folder)
    judge = Judge(read_subject(workload.name, folder, dtype=torch.float64))
    course = Course(workload, folder, judge, (), 0)
    references = ((OURS, {}), (next(entry for entry in PEERS if entry.module == "curvlinops_pairs"), REFERENCE))
    found, products = [], []
    for entry, setting in references:
        with started(entry, workload.name, folder, num_threads=1) as runner:
            solve = runner.solve(0, setting, limit_seconds=CALIBRATION_SECONDS)
            products.append(solve.num_products)
            found.append(course.measure(solve))
    return Course(workload, folder, judge, most_extreme(found), products[0])


if __name__ == "__main__":
    main(sys.argv[1:])
