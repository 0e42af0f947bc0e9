"""Dense Hessian and verdict of 2,000 parameters in float64: our time beside torch.func.hessian and eigh.

The reference's clock stops at its eigenpairs; ours runs on through criticality to the verdict. Ours counts if its inertia, at
its own zero tolerance, and both ends of the spectrum are those of the reference's eigenvalues.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.peers.environment import provenance, write_results
from benchmarks.peers.models import DENSE, read_subject, write_subject
from benchmarks.peers.question import NUM_ROUNDS, TARGET_RATIO
from benchmarks.peers.racing import Entry, NoAnswer, Solve, started
from benchmarks.promises import Promise

OURS = Entry("dense_ours", "Saddlescope", is_peer=False)
REFERENCE = Entry("dense_reference", "torch.func.hessian + eigh", is_peer=False)
LIMIT_SECONDS = 180.0
ENDS_RTOL = 1e-9


def run(*, quick: bool = False) -> list[Promise]:
    """Measure and print."""
    try:
        ratio = _run(quick=quick)
    except NoAnswer as reason:
        print(f"  no comparison: {reason}")
        ratio = None
    return [Promise(f"dense Hessian and verdict of hessian + eigh's time: {DENSE.title}", ratio, TARGET_RATIO)]


def _run(*, quick: bool) -> float | None:
    """Our time over the reference's; None where the answers differ."""
    origin, rounds = provenance(), 1 if quick else NUM_ROUNDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_subject(DENSE, folder)
        size = read_subject(DENSE.name, folder).num_parameters
        with ExitStack() as stack:
            runners = [stack.enter_context(started(entry, DENSE.name, folder)) for entry in (OURS, REFERENCE)]
            solves = [
                [runner.solve(seed, {}, limit_seconds=LIMIT_SECONDS) for runner in runners] for seed in range(rounds)
            ]
        disagreement = next(filter(None, (_disagreement(*pair) for pair in solves)), None)
    ours, reference = (list(column) for column in zip(*solves, strict=True))
    ratio = _median(ours) / _median(reference)
    is_kept = disagreement is None and ratio <= TARGET_RATIO
    print(f"{DENSE.title}, {size:,} parameters, float64")
    for entry, column in ((OURS, ours), (REFERENCE, reference)):
        print(f"  {entry.title:<28}{_median(column):>9.3f} s{_median_cpu(column):>9.3f} CPU s")
    print(f"  {ratio:.2f} of the reference, at most {TARGET_RATIO}: {'ok' if is_kept else 'MISSED'}")
    if disagreement is not None:
        print(f"  the answers differ: {disagreement}")
    if not quick:
        results = {
            "workload": DENSE.title,
            "num_parameters": size,
            "target_ratio": TARGET_RATIO,
            "ratio": ratio,
            "is_kept": is_kept,
            "disagreement": disagreement,
            "contestants": [_results(OURS, ours), _results(REFERENCE, reference)],
        }
        print(f"written to {write_results('dense_verdict', {**origin, **results}).name}")
    return ratio if disagreement is None else None


def _disagreement(ours: Solve, reference: Solve) -> str | None:
    found = torch.load(ours.path, weights_only=True)
    truth = torch.load(reference.path, weights_only=True)["eigenvalues"]
    tau, scale = found["zero_tol"].item(), truth.abs().max().item()
    negative, positive = int((truth < -tau).sum()), int((truth > tau).sum())
    inertia = (negative, len(truth) - negative - positive, positive)
    if tuple(found["inertia"].tolist()) != inertia:
        return f"inertia {found['inertia'].tolist()}, by the reference {inertia}"
    gap = (found["ends"] - truth[[0, -1]]).abs().max().item()
    return f"λ_min or λ_max is off by {gap / scale:.1e} of the scale" if not gap <= ENDS_RTOL * scale else None


def _median(solves: Sequence[Solve]) -> float:
    return statistics.median(solve.seconds for solve in solves)


def _median_cpu(solves: Sequence[Solve]) -> float:
    return statistics.median(solve.cpu_seconds for solve in solves)


def _results(entry: Entry, solves: Sequence[Solve]) -> dict[str, object]:
    rounds = [{key: value for key, value in asdict(solve).items() if key != "path"} for solve in solves]
    return {"contestant": entry.title, "median_seconds": _median(solves), "rounds": rounds}
