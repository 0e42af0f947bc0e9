"""PyHessian's power iteration with deflation at its defaults; then with many more iterations and a tighter tolerance.

Its Lanczos (`density`) calls `torch.eig`, which torch has removed, and gives a density.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial

from benchmarks.peers.failing_cases import Subject
from benchmarks.peers.failing_subject import Found, Way


def ways(case_name: str) -> Sequence[Way]:
    # Iteration stops when the change is below tol·(|λ| + 1e-6): of a small loss tol has to be small by as much.
    tol = 1e-10 if case_name == "small_scale" else 1e-6
    tighter = partial(by_power_iteration, max_iterations=2000, tol=tol)
    return (
        Way("eigenvalues(top_n=k)", by_power_iteration, is_default=True),
        Way(f"maxIter=2000, tol={tol:.0e}", tighter, is_default=False),
    )


def by_power_iteration(subject: Subject, *, max_iterations: int = 100, tol: float = 1e-3) -> Found:
    library = importlib.import_module("pyhessian.hessian")  # the package has a class of this name too
    batches = subject.batches
    source = {"data": batches[0]} if len(batches) == 1 else {"dataloader": batches}
    hessian = library.hessian(subject.network, subject.criterion, cuda=False, **source)
    values, _ = hessian.eigenvalues(maxIter=max_iterations, tol=tol, top_n=subject.case.num_eigenvalues)
    return Found(values)
