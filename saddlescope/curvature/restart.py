"""Thick-restart Lanczos with full reorthogonalization: extreme eigenpairs in a basis of bounded size, copies included.

Wu, Simon, SIAM J. Matrix Anal. Appl. 22 (2000) 602-616. H Q = Q T + β q eᵀ holds after a restart as before
it, T being diagonal on the kept Ritz vectors and coupled to the next vector by what was their residual. No probabilistic
bound is valid after a restart: take certificates and quadrature from the cycle before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.lanczos import LanczosCycle, Matvec, tridiagonal
from saddlescope.curvature.orthogonal import accurate_dot, accurate_norm, orthogonalize

BREAKDOWN = 10


@dataclass(frozen=True)
class Pairs:
    """Ritz values (k,) ascending, upper bounds of their residual norms, and coefficients (k, k) in the basis (columns)."""

    values: Tensor
    residual_norms: Tensor
    coefficients: Tensor


class KrylovSpace:
    """Orthonormal rows q_1…q_k with T = Qᵀ H Q, and the next vector; grows by one product a step, shrinks by restarts.

    Takes over a cycle's storage (its rows are overwritten). Uses four vectors beside it.

    Attributes:
        capacity: the most vectors whose products are kept.
        size: k.
        num_matvecs: products spent here.
        is_exhausted: the space is invariant to rounding, and there is no next vector; `deflate` gives one.
    """

    def __init__(self, cycle: LanczosCycle) -> None:
        self._storage = cycle.storage
        self.capacity = cycle.storage.num_rows - 1
        self.size = cycle.num_steps
        self._matrix = torch.zeros(self.capacity + 1, self.capacity + 1, dtype=torch.float64)
        self._matrix[: self.size, : self.size] = tridiagonal(cycle.alpha, cycle.beta[:-1])
        # Row k of T: how the next vector is coupled to those before it.
        self._matrix[self.size, self.size - 1] = 0.0 if cycle.is_exhausted else cycle.beta[-1].item()
        self._dropped = torch.zeros(self.capacity, dtype=torch.float64)
        self._num_locked = 0
        self.is_exhausted = cycle.is_exhausted
        self.num_matvecs = 0

    @property
    def is_full(self) -> bool:
        return self.size >= self.capacity

    @property
    def num_parameters(self) -> int:
        return self._storage.size

    @property
    def dtype(self) -> torch.dtype:
        return self._storage.dtype

    @property
    def device(self) -> torch.device:
        return self._storage.device

    def ritz(self, first: int = 0) -> Pairs:
        """Ritz pairs of all rows or, from the locked ones on, of H deflated by them, (I − P)H(I − P)."""
        k, locked = self.size, self._num_locked
        values, coefficients = torch.linalg.eigh(self._matrix[first:k, first:k])
        residual_norms = (self._matrix[k, first:k] @ coefficients).abs() + self._dropped[first:k] @ coefficients.abs()
        if first == 0 and locked:  # ‖P H (I − P)‖ is at most the locked residuals' norm
            residual_norms = residual_norms + self._dropped[:locked].norm() * coefficients[locked:].norm(dim=0)
        return Pairs(values, residual_norms, coefficients)

    def locked(self, count: int) -> Pairs:
        """The first rows as the Ritz pairs that they are after `deflate`."""
        return Pairs(
            self._matrix.diagonal()[:count].clone(),
            self._dropped[:count].clone(),
            torch.eye(count, dtype=torch.float64),
        )

    def vector(self, coefficients: Tensor) -> Tensor:
        """Σ_j c_j q_j (n,), normalized, over the first rows, as many as there are coefficients."""
        combined = self._storage.combine(coefficients)
        return combined.div_(combined.norm())

    def expand(self, matvec: Matvec) -> None:
        """One product: the next vector joins the basis. Neither full nor exhausted."""
        k, storage = self.size, self._storage
        current = storage.row(k)
        vector = matvec(current).clone(memory_format=torch.contiguous_format)
        self.num_matvecs += 1
        coupled = self._matrix[k, :k].nonzero().flatten().tolist()
        if len(coupled) == 1:
            vector.sub_(storage.row(coupled[0]), alpha=self._matrix[k, coupled[0]].item())
        elif coupled:
            vector.sub_(storage.combine(self._matrix[k, :k]))
        alpha = accurate_dot(vector, current)
        vector.sub_(current, alpha=alpha)
        beta = orthogonalize(vector, storage, k + 1).norm
        self._matrix[:k, k] = self._matrix[k, :k]
        self._matrix[k, k] = alpha
        self._dropped[k] = 0.0
        self.size = k + 1
        self._matrix[k + 1, : k + 1] = 0.0
        tolerance = BREAKDOWN * torch.finfo(storage.dtype).eps * self.size**0.5
        self.is_exhausted = self.size == storage.size or beta <= tolerance * self._scale()
        if not self.is_exhausted:
            self._matrix[k + 1, k] = beta
            torch.div(vector, beta, out=storage.place(k + 1))
            storage.keep(k + 1)

    def _scale(self) -> float:
        return self._matrix[: self.size, : self.size].abs().sum(0).max().item()

    def restart(self, pairs: Pairs, kept: Tensor) -> None:
        """Keep the Ritz vectors of these indices (p,), p < k, as the basis; the next vector stays."""
        k, p = self.size, kept.numel()
        couplings = (self._matrix[k, :k] @ pairs.coefficients)[kept]
        dropped = (self._dropped[:k] @ pairs.coefficients.abs())[kept]
        self._storage.rotate(pairs.coefficients[:, kept].T)  # (p, k)
        self._matrix.zero_()
        self._matrix[:p, :p] = torch.diag(pairs.values[kept])
        self._matrix[p, :p] = couplings
        self._dropped[:p] = dropped
        self.size = p

    def deflate(self, pairs: Pairs, locked: Tensor, start: Tensor) -> None:
        """Keep converged Ritz vectors (p,) as they are and go on from a fresh start (n,), made orthogonal to them.

        One Krylov space holds one vector of each eigenspace; a fresh one finds a further copy. What couples the locked vectors
        to the rest is dropped, and enters every residual norm. `pairs` are those of all rows.
        """
        self.restart(pairs, locked)
        p, storage = self.size, self._storage
        self._dropped[:p] = pairs.residual_norms[locked]
        self._num_locked = p
        self._matrix[p, :p] = 0.0
        vector = start.clone()
        for _ in range(2):  # the locked rows were combined in the working precision
            vector.div_(orthogonalize(vector, storage, p).norm)
        torch.div(vector, accurate_norm(vector), out=storage.place(p))
        storage.keep(p)
        self.is_exhausted = False


def outermost(num_pairs: int, *, lowest: int) -> Tensor:
    """Indices of the Ritz pairs that a restart keeps of k ≥ 3: the wanted lowest with a margin, and some of the highest.

    About half in all, which balances what a restart forgets against what it costs (Wu, Simon, section 4).
    """
    high = max(1, num_pairs // 8)
    low = max(1, min(lowest + 2, num_pairs // 2), (3 * num_pairs) // 8)
    return torch.cat([torch.arange(min(low, num_pairs - 1 - high)), torch.arange(num_pairs - high, num_pairs)])


def run(
    space: KrylovSpace,
    matvec: Matvec,
    *,
    max_matvecs: int,
    lowest: int,
    should_stop: Callable[[Pairs], bool],
    first: int = 0,
    check_every: int = 5,
) -> bool:
    """Expand and restart until `should_stop` holds of the Ritz pairs of the rows from `first` on; whether it did.

    Costs at most `max_matvecs` products. The `first` rows are locked: they survive every restart unchanged.
    """
    spent = 0
    while True:
        at_end = space.is_full or space.is_exhausted or spent >= max_matvecs
        if space.size > first and (at_end or spent % check_every == 0):
            pairs = space.ritz(first)
            if should_stop(pairs):
                return True
            if space.is_exhausted or spent >= max_matvecs:
                return False
            if space.is_full:
                if space.capacity - first < 3:
                    return False
                kept = outermost(pairs.values.numel(), lowest=lowest)
                every = torch.cat([torch.arange(first), first + kept])
                space.restart(_beside_locked(space, pairs, first), every)
        elif spent >= max_matvecs:
            return False
        space.expand(matvec)
        spent += 1


def _beside_locked(space: KrylovSpace, pairs: Pairs, first: int) -> Pairs:
    """Ritz pairs of the rows from `first` on as pairs of all rows, the locked ones standing for themselves."""
    locked, k = space.locked(first), first + pairs.values.numel()
    coefficients = torch.eye(k, dtype=torch.float64)
    coefficients[first:, first:] = pairs.coefficients
    return Pairs(
        torch.cat([locked.values, pairs.values]),
        torch.cat([locked.residual_norms, pairs.residual_norms]),
        coefficients,
    )
