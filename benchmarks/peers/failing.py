"""Who is right where libraries are known to go wrong: ragged batches, many Lanczos steps, multiplicity, a small loss.

Every library in its own environment and in two settings, its documented default and the best that its documentation offers,
beside all eigenvalues of a dense Hessian in float64. Nothing is timed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peers.environment import REPOSITORY, peers_python, provenance, with_threads, write_results
from benchmarks.peers.failing_cases import CASES, RIGHT_RTOL, Subject, read_case, write_case
from benchmarks.peers.failing_subject import Told
from benchmarks.peers.racing import Entry
from benchmarks.promises import Promise

OURS = Entry("failing_saddlescope", "Saddlescope", is_peer=False)
LIBRARIES = (
    OURS,
    Entry("failing_eigenthings", "hessian-eigenthings"),
    Entry("failing_curvlinops", "curvlinops + eigsh"),
    Entry("failing_pyhessian", "PyHessian"),
)
LIMIT_SECONDS = 60.0
NUM_THREADS = 1


@dataclass(frozen=True)
class Judged:
    """An attempt beside the truth; `error` is the largest deviation over the largest eigenvalue, None without an answer."""

    library: str
    told: Told
    error: float | None

    @property
    def words(self) -> str:
        if self.error is None:
            return f"refuses: {self.told.refusal}"
        judged = f"right ({self.error:.0e})" if self.error <= RIGHT_RTOL else f"**wrong** by {100 * self.error:.0f} %"
        return judged if self.told.is_sure else f"{judged}, and says that it is not sure"


def run(*, quick: bool = False) -> list[Promise]:
    """Ask, judge, print and store."""
    origin, judged = provenance(NUM_THREADS), list[Judged]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in CASES:
            write_case(case, folder)
        truths = {case.name: leading_by_dense_truth(read_case(case, folder)) for case in CASES}
        for entry in LIBRARIES:
            judged += [
                Judged(entry.title, told, error_of(told.values, truths[told.case])) for told in _ask(entry, folder)
            ]
    for case in CASES:
        print(f"{case.title}: {', '.join(f'{value:.4g}' for value in truths[case.name])}")
        for one in judged:
            if one.told.case == case.name:
                print(f"  {one.library:<22}{one.told.call:<48}{one.words}  {one.told.seconds:.1f} s")
    if not quick:
        cases = [
            {
                "name": case.name,
                "title": case.title,
                "num_eigenvalues": case.num_eigenvalues,
                "truth": truths[case.name],
            }
            for case in CASES
        ]
        attempts = [
            {"library": one.library, **asdict(one.told), "error": one.error, "words": one.words} for one in judged
        ]
        write_results("peers_fail", {**origin, "right_rtol": RIGHT_RTOL, "cases": cases, "attempts": attempts})
    defaults = [one.error for one in judged if one.library == OURS.title and one.told.is_default]
    worst = None if None in defaults else max(error for error in defaults if error is not None)
    return [Promise("error where peers fail, of what is right", None if worst is None else worst / RIGHT_RTOL, 1.0)]


def error_of(values: Sequence[float] | None, truth: Sequence[float]) -> float | None:
    """max_i |λ̂_i − λ_i| / max_i |λ_i|, both in the order of their magnitudes; None without an answer.

    Raises:
        ValueError: unless as many were given as were asked.
    """
    if values is None:
        return None
    ordered = sorted(values, key=abs, reverse=True)
    return max(abs(mine - true) for mine, true in zip(ordered, truth, strict=True)) / max(map(abs, truth))


def leading_by_dense_truth(subject: Subject) -> list[float]:
    """The leading eigenvalues by magnitude, descending, of the Hessian of the mean over all rows.

    Raises:
        ValueError: if eigenvalues of opposite signs are so near in magnitude that the order is a matter of rounding.
    """
    exact = subject.double()
    named = dict(exact.network.named_parameters())
    sizes = [parameter.numel() for parameter in named.values()]
    theta = torch.cat([parameter.detach().reshape(-1) for parameter in named.values()])  # (n,)

    def loss(flat: Tensor) -> Tensor:
        pieces = zip(named.items(), flat.split(sizes), strict=True)
        tensors = {name: piece.view_as(parameter) for (name, parameter), piece in pieces}
        value: Tensor = exact.criterion(
            torch.func.functional_call(exact.network, tensors, (exact.inputs,)), exact.targets
        )
        return value

    values = torch.linalg.eigvalsh(torch.func.hessian(loss)(theta))
    ordered = values[values.abs().argsort(descending=True)].tolist()
    leading = ordered[: subject.case.num_eigenvalues + 1]
    for first, second in pairwise(leading):
        if first * second < 0 and abs(first + second) < RIGHT_RTOL * abs(leading[0]):
            raise ValueError(f"{subject.case.name}: {first:.6g} and {second:.6g} have no order by magnitude")
    return leading[:-1]


def _ask(entry: Entry, folder: Path) -> list[Told]:
    python = str(peers_python()) if entry.is_peer else sys.executable
    done = subprocess.run(
        [python, "-W", "ignore", "-m", "benchmarks.peers.failing_subject", entry.module, str(folder)],
        cwd=REPOSITORY,
        env=with_threads(NUM_THREADS),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{entry.title} did not answer: {done.stderr.strip().splitlines()[-1:]}")
    return [Told(**json.loads(line)) for line in done.stdout.splitlines()]
