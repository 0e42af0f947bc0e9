"""Lanczos tridiagonalization with a basis that stays orthonormal, and its Ritz pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saddlescope.curvature.basis import ONE_DEVICE, Bases, Basis, WholeBasis
from saddlescope.curvature.orthogonal import (
    accurate_norm,
    blocked_dot,
    blocked_norm,
    breakdown_tol,
    orthogonalize,
    orthogonalize_pair,
)
from saddlescope.curvature.reorthogonalization import Overlaps

Matvec = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LanczosCycle:
    """H Q = Q T + β_k q_{k+1} e_kᵀ with orthonormal rows of `basis`.

    Attributes:
        storage: of more than k vectors; row j is q_{j+1}, row k is q_{k+1} unless exhausted, further rows are undefined.
        alpha: (k,) float64, the diagonal of T.
        beta: (k,) float64; beta[j] couples q_{j+1} and q_{j+2}, beta[k-1] belongs to the residual.
        is_exhausted: the Krylov space is invariant; β_k is zero to rounding.
    """

    storage: Basis
    alpha: Tensor
    beta: Tensor
    is_exhausted: bool

    @property
    def num_steps(self) -> int:
        return self.alpha.numel()

    @property
    def basis(self) -> Tensor:
        """(k, n), row j is q_{j+1}."""
        return self.storage.rows(self.num_steps if self.storage.num_rows else 0)

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
        combined = self.storage.combine(coefficients)
        return combined.div_(combined.norm())

    def mirrored(self) -> LanczosCycle:
        """The coefficients of −H from the same start; the basis vectors' signs are left as they are."""
        return replace(self, alpha=-self.alpha)

    def without_basis(self) -> LanczosCycle:
        """The coefficients alone, which certificates and quadrature need; the basis' memory can go."""
        kept = self.storage
        return replace(self, storage=WholeBasis(torch.empty(0, kept.size, dtype=kept.dtype, device=kept.device)))


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
    return vector.div_(vector.norm()).to(dtype)


def tridiagonalize(
    matvec: Matvec,
    start: Tensor,
    *,
    num_matvecs: int,
    should_stop: Callable[[LanczosCycle], bool] | None = None,
    check_every: int = 5,
    bases: Bases = ONE_DEVICE,
) -> LanczosCycle:
    """Tridiagonalize a symmetric operator from a start vector (n,).

    Costs k products and at most O(n k²) flops: the two newest vectors are made orthogonal to all before them when `Overlaps`
    says that they are no longer so, and every vector where it cannot tell. k is smaller than asked if the Krylov space is
    exhausted or `should_stop` says so, which is asked every `check_every` steps. Reserves num_matvecs + 1 vectors, of which the
    system commits those that are written, and uses no further one; they are kept in a basis of `bases`.

    Raises:
        ValueError: unless 1 <= num_matvecs <= n.
    """
    size = start.numel()
    if not 1 <= num_matvecs <= size:
        raise ValueError(f"num_matvecs must be between 1 and {size}, not {num_matvecs}")
    basis = bases.reserve(num_matvecs + 1, start)
    alpha: list[float] = []
    beta: list[float] = []
    torch.div(start, accurate_norm(start), out=basis.place(0))
    basis.keep(0)
    is_exhausted = False
    overlaps = Overlaps(start.dtype)
    for step in range(num_matvecs):
        vector, current = basis.place(step + 1), basis.row(step)
        if step > 0:
            torch.sub(matvec(current), basis.row(step - 1), alpha=beta[-1], out=vector)
        else:
            vector.copy_(matvec(current))
        alpha.append(blocked_dot(vector, current))
        vector.sub_(current, alpha=alpha[-1])
        norm = blocked_norm(vector)
        if overlaps.advance(alpha, beta, norm):
            is_paired = overlaps.is_trusted and step > 0
            made = orthogonalize_pair(vector, basis, step) if is_paired else orthogonalize(vector, basis, step + 1)
            overlaps.orthogonalized(made.overlap)
            norm = made.norm
        beta.append(norm)
        is_exhausted = step + 1 == size or beta[-1] <= breakdown_tol(alpha, beta, start.dtype)
        if is_exhausted:
            break
        vector.div_(beta[-1])
        basis.keep(step + 1)
        if should_stop is not None and (step + 1) % check_every == 0 and should_stop(_cycle(basis, alpha, beta, False)):
            break
    return _cycle(basis, alpha, beta, is_exhausted)


def _cycle(basis: Basis, alpha: list[float], beta: list[float], is_exhausted: bool) -> LanczosCycle:
    return LanczosCycle(
        storage=basis,
        alpha=torch.tensor(alpha, dtype=torch.float64),
        beta=torch.tensor(beta, dtype=torch.float64),
        is_exhausted=is_exhausted,
    )
