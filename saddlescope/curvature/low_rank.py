"""The range of a Hessian of low rank, from products alone; its kernel is all the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.basis import ONE_DEVICE, Bases
from saddlescope.curvature.lanczos import Matvec, sphere_vector, tridiagonalize
from saddlescope.curvature.orthogonal import accurate_norm

MAX_RANK = 64
MAX_DISTINCT = 32  # different eigenvalues: a Krylov space that ends so soon


@dataclass(frozen=True)
class Range:
    """Nonzero eigenpairs: values (r,) float64 and orthonormal columns (n, r). `remainder` is ‖Hz‖ for a random z beside them."""

    values: Tensor
    vectors: Tensor
    remainder: float

    @staticmethod
    def empty(like: Tensor) -> Range:
        """That of H = 0, for vectors like this (n,)."""
        return Range(torch.empty(0, dtype=torch.float64), like.new_empty(like.numel(), 0), 0.0)

    def counts(self, size: int) -> tuple[int, int, int]:
        """(n₋, n₀, n₊)."""
        negative, positive = int((self.values < 0).sum()), int((self.values > 0).sum())
        return negative, size - negative - positive, positive


def find_range(
    matvec: Matvec,
    size: int,
    *,
    zero_tol: float,
    generator: torch.Generator,
    dtype: torch.dtype,
    device: torch.device,
    bases: Bases = ONE_DEVICE,
) -> Range | None:
    """All eigenpairs with |λ| > τ of a symmetric operator (n, n) with at most 64 of them; None where there are more.

    A Krylov space of a random start holds one vector of each eigenspace; further copies are found beside those known, until
    a random vector beside them all is annihilated. What remains then has an eigenvalue beyond τ with probability zero, to
    rounding. Costs at most 33 products for each copy of the most frequent eigenvalue.
    """
    found, values = torch.empty(0, size, dtype=dtype, device=device), list[float]()

    def beside(vector: Tensor) -> Tensor:
        for _ in range(2):
            vector = vector - found.T @ (found @ vector)
        return vector

    while True:
        start = beside(sphere_vector(size, generator=generator, dtype=dtype, device=device))
        start = start / accurate_norm(start)
        remainder = accurate_norm(beside(matvec(start)))
        if remainder <= zero_tol:
            return Range(torch.tensor(values, dtype=torch.float64), found.T, remainder)
        cycle = tridiagonalize(
            lambda vector: beside(matvec(beside(vector))),
            start,
            num_matvecs=min(MAX_DISTINCT, size),
            bases=bases,
        )
        ritz = cycle.ritz()
        new = [index for index, value in enumerate(ritz.values.tolist()) if abs(value) > zero_tol]
        if not cycle.is_exhausted or not new or len(values) + len(new) > min(MAX_RANK, size - 1):
            return None
        rows = torch.stack([cycle.vector(ritz.coefficients[:, index]) for index in new])
        found = torch.linalg.qr(torch.cat([found, rows]).T).Q.T
        values.extend(ritz.values[new].tolist())
