"""Lanczos tridiagonalization with full reorthogonalization, and its Ritz pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Matvec = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LanczosCycle:
    """H Q = Q T + β_k q_{k+1} e_kᵀ with orthonormal rows of `basis`.

    Attributes:
        basis: (k, n), row j is q_{j+1}.
        alpha: (k,) float64, the diagonal of T.
        beta: (k,) float64; beta[j] couples q_{j+1} and q_{j+2}, beta[k-1] belongs to the residual.
        is_exhausted: the Krylov space is invariant; β_k is zero to rounding.
    """

    basis: Tensor
    alpha: Tensor
    beta: Tensor
    is_exhausted: bool

    @property
    def num_steps(self) -> int:
        return self.alpha.numel()

    def ritz(self) -> RitzPairs:
        """Eigenpairs of T, with residual norms |β_k s_k| and the start vector's weights s_1²."""
        values, coefficients = torch.linalg.eigh(tridiagonal(self.alpha, self.beta[:-1]))
        return RitzPairs(
            values=values,
            residual_norms=(self.beta[-1] * coefficients[-1]).abs(),
            weights=coefficients[0].square(),
            coefficients=coefficients,
        )

    def vector(self, coefficients: Tensor) -> Tensor:
        """Σ_j c_j q_j (n,), normalized."""
        combined = coefficients.to(self.basis) @ self.basis
        unit: Tensor = combined / combined.norm()
        return unit


@dataclass(frozen=True)
class RitzPairs:
    """Ritz values (k,) ascending, their residual norms, weights, and coefficients (k, k) in the basis (columns)."""

    values: Tensor
    residual_norms: Tensor
    weights: Tensor
    coefficients: Tensor


def tridiagonal(alpha: Tensor, beta: Tensor) -> Tensor:
    """The symmetric tridiagonal matrix with diagonal alpha (k,) and off-diagonal beta (k-1,)."""
    return torch.diag(alpha) + torch.diag(beta, 1) + torch.diag(beta, -1)


def sphere_vector(size: int, *, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A uniform unit vector (n,): Gaussian, as the probabilistic bounds need it (Rademacher would void them)."""
    vector = torch.randn(size, generator=generator, dtype=torch.float64).to(device)
    unit: Tensor = (vector / vector.norm()).to(dtype)
    return unit


def tridiagonalize(
    matvec: Matvec,
    start: Tensor,
    *,
    num_matvecs: int,
    should_stop: Callable[[LanczosCycle], bool] | None = None,
    check_every: int = 5,
) -> LanczosCycle:
    """Tridiagonalize a symmetric operator from a unit start vector (n,).

    Costs k products and O(n k²) flops; k is smaller than asked if the Krylov space is exhausted or `should_stop` says so,
    which is asked every `check_every` steps. Keeps k vectors.

    Raises:
        ValueError: unless 1 <= num_matvecs <= n.
    """
    size = start.numel()
    if not 1 <= num_matvecs <= size:
        raise ValueError(f"num_matvecs must be between 1 and {size}, not {num_matvecs}")
    epsilon = torch.finfo(start.dtype).eps
    basis = start.new_empty(min(num_matvecs, 16), size)
    alpha: list[float] = []
    beta: list[float] = []
    vector = start / start.norm()
    is_exhausted = False
    for step in range(num_matvecs):
        if step == basis.shape[0]:
            basis = torch.cat([basis, basis.new_empty(min(step, num_matvecs - step), size)])
        basis[step] = vector
        known = basis[: step + 1]
        vector = matvec(basis[step])
        alpha.append(torch.dot(vector.double(), basis[step].double()).item())
        # Twice is enough (Kahan, Parlett): one pass leaves O(eps ||H|| / beta_j) behind.
        for _ in range(2):
            vector = vector - (known @ vector) @ known
        beta.append(vector.double().norm().item())
        norm = max(abs(a) + b for a, b in zip(alpha, beta, strict=True))
        is_exhausted = step + 1 == size or beta[-1] <= 10 * epsilon * math.sqrt(step + 1) * norm
        if is_exhausted:
            break
        vector = vector / beta[-1]
        if should_stop is not None and (step + 1) % check_every == 0 and should_stop(_cycle(basis, alpha, beta, False)):
            break
    return _cycle(basis, alpha, beta, is_exhausted)


def _cycle(basis: Tensor, alpha: list[float], beta: list[float], is_exhausted: bool) -> LanczosCycle:
    return LanczosCycle(
        basis=basis[: len(alpha)],
        alpha=torch.tensor(alpha, dtype=torch.float64),
        beta=torch.tensor(beta, dtype=torch.float64),
        is_exhausted=is_exhausted,
    )
