"""What an answer is worth: residuals by plain autograd products in float64, the same for every contestant.

A contestant's own eigenvalues are not used: λ is the Rayleigh quotient of its vector, which makes the residual smallest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.peers.models import Subject
from benchmarks.peers.question import RESIDUAL_RTOL

ORTHONORMAL_TOL = 1e-3


@dataclass(frozen=True)
class JudgedPairs:
    """Rayleigh quotients ascending, their residual norms, and the largest entry of |VVᵀ − I|."""

    values: tuple[float, ...]
    residual_norms: tuple[float, ...]
    overlap: float

    @property
    def scale(self) -> float:
        return max(map(abs, self.values))


class Judge:
    """Products with H in float64 by reverse over reverse, graphs kept: nobody's code but torch's."""

    def __init__(self, subject: Subject) -> None:
        self._parameters = list(subject.network.parameters())
        self._num_batches = len(subject.batches)
        self._gradients = []
        for inputs, targets in subject.batches:
            loss = torch.nn.functional.cross_entropy(subject.network(inputs), targets)
            self._gradients.append(torch.autograd.grad(loss, self._parameters, create_graph=True))

    def product(self, vector: Tensor) -> Tensor:
        """Hv (n,)."""
        sizes = [parameter.numel() for parameter in self._parameters]
        pieces = [p.view_as(q) for p, q in zip(vector.split(sizes), self._parameters, strict=True)]
        total = torch.zeros_like(vector)
        for gradient in self._gradients:
            product = torch.autograd.grad(gradient, self._parameters, pieces, retain_graph=True)
            total += torch.cat([piece.reshape(-1) for piece in product])
        return total / self._num_batches

    def measure(self, vectors: Tensor) -> JudgedPairs:
        """Judge rows (k, n)."""
        unit = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
        overlap = (unit @ unit.T - torch.eye(len(unit), dtype=torch.float64)).abs().max().item()
        pairs = []
        for vector in unit:
            product = self.product(vector)
            value = torch.dot(vector, product)
            pairs.append((value.item(), (product - value * vector).norm().item()))
        pairs.sort()
        values, residual_norms = zip(*pairs, strict=True)
        return JudgedPairs(values, residual_norms, overlap)


def objection(pairs: JudgedPairs, known: tuple[float, ...], scale: float) -> str | None:
    """Why an answer does not count, or None. `known` are the most extreme values that anybody found, ascending."""
    tolerance = RESIDUAL_RTOL * scale
    if not pairs.overlap <= ORTHONORMAL_TOL:
        return f"vectors are not orthonormal ({pairs.overlap:.1e})"
    if not max(pairs.residual_norms) <= tolerance:
        return f"residual {max(pairs.residual_norms) / scale:.1e} of the scale"
    # A residual says that some eigenvalue is within it, on either side: hence twice.
    missed = max(abs(mine - best) for mine, best in zip(pairs.values, known, strict=True))
    return f"an eigenvalue is missed by {missed / scale:.1e} of the scale" if missed > 2 * tolerance else None


def most_extreme(answers: list[JudgedPairs]) -> tuple[float, ...]:
    """The lowest of each low value and the highest of each high one among orthonormal answers, ascending.

    By Courant and Fischer the i-th lowest Ritz value of orthonormal vectors is never below the i-th eigenvalue.
    """
    sound = [pairs.values for pairs in answers if pairs.overlap <= ORTHONORMAL_TOL]
    columns = list(zip(*sound, strict=True))
    half = len(columns) // 2
    return tuple(min(column) if index < half else max(column) for index, column in enumerate(columns))
