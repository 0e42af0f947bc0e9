"""Lanczos tridiagonalization with a basis that stays orthonormal, its Ritz pairs, and its state for a later resumption."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saddlescope.curvature.orthogonal import accurate_dot, accurate_norm, breakdown_tol, orthogonalize
from saddlescope.curvature.reorthogonalization import Overlaps

Matvec = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LanczosCycle:
    """H Q = Q T + β_k q_{k+1} e_kᵀ with orthonormal rows of `basis`.

    Attributes:
        storage: (rows, n), rows > k; row j is q_{j+1}, row k is q_{k+1} unless exhausted, further rows are undefined.
        alpha: (k,) float64, the diagonal of T.
        beta: (k,) float64; beta[j] couples q_{j+1} and q_{j+2}, beta[k-1] belongs to the residual.
        is_exhausted: the Krylov space is invariant; β_k is zero to rounding.
    """

    storage: Tensor
    alpha: Tensor
    beta: Tensor
    is_exhausted: bool

    @property
    def num_steps(self) -> int:
        return self.alpha.numel()

    @property
    def basis(self) -> Tensor:
        """(k, n), row j is q_{j+1}."""
        return self.storage[: self.num_steps]

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
        combined = coefficients.to(self.storage) @ self.basis
        return combined.div_(combined.norm())

    def mirrored(self) -> LanczosCycle:
        """The coefficients of −H from the same start; the basis vectors' signs are left as they are."""
        return replace(self, alpha=-self.alpha)

    def without_basis(self) -> LanczosCycle:
        """The coefficients alone, which certificates and quadrature need; the basis' memory can go."""
        return replace(self, storage=self.storage.new_empty(0, self.storage.shape[1]))


@dataclass(frozen=True)
class RitzPairs:
    """Ritz values (k,) ascending, their residual norms, weights, and coefficients (k, k) in the basis (columns)."""

    values: Tensor
    residual_norms: Tensor
    weights: Tensor
    coefficients: Tensor


@dataclass(frozen=True)
class LanczosState:
    """All that a tridiagonalization needs to go on as if it had never stopped.

    Attributes:
        alpha: (step,) float64.
        beta: (step,) float64.
        basis: (step, n), a view of the running basis: save it before the next product.
        vector: (n,), q_{step+1}.
        step: products done.
        seed: whatever the caller drew the start vector from, to know its own states again.
        overlaps: (2, step), `Overlaps.state`.
    """

    alpha: Tensor
    beta: Tensor
    basis: Tensor
    vector: Tensor
    step: int
    seed: int | None
    overlaps: Tensor


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
    state: LanczosState | None = None,
    on_state: Callable[[LanczosState], None] | None = None,
    state_every_seconds: float = 60.0,
    seed: int | None = None,
) -> LanczosCycle:
    """Tridiagonalize a symmetric operator from a start vector (n,).

    Costs k products and at most O(n k²) flops: a vector is made orthogonal to all before it when `Overlaps` says that it is no
    longer so. k is smaller than asked if the Krylov space is exhausted or `should_stop` says so, which is asked every
    `check_every` steps. Reserves num_matvecs + 1 vectors, of which the system commits those that are written, and uses no
    further one.

    A run that starts from another's `state`, with the same arguments, gives the same cycle bit for bit; `on_state` is told
    the state every `state_every_seconds`, and may raise to stop.

    Raises:
        ValueError: unless 1 <= num_matvecs <= n, or if `state` belongs to another problem.
    """
    size = start.numel()
    if not 1 <= num_matvecs <= size:
        raise ValueError(f"num_matvecs must be between 1 and {size}, not {num_matvecs}")
    basis = start.new_empty(num_matvecs + 1, size)
    alpha: list[float] = []
    beta: list[float] = []
    if state is None:
        torch.div(start, accurate_norm(start), out=basis[0])
    else:
        _restore(state, basis, seed)
        alpha, beta = state.alpha.tolist(), state.beta.tolist()
    is_exhausted = False
    overlaps = Overlaps(start.dtype, None if state is None else state.overlaps)
    told = time.monotonic()
    for step in range(len(alpha), num_matvecs):
        vector = basis[step + 1]
        if step > 0:
            torch.sub(matvec(basis[step]), basis[step - 1], alpha=beta[-1], out=vector)
        else:
            vector.copy_(matvec(basis[step]))
        alpha.append(accurate_dot(vector, basis[step]))
        vector.sub_(basis[step], alpha=alpha[-1])
        norm = accurate_norm(vector)
        if overlaps.advance(alpha, beta, norm):
            norm, overlap = orthogonalize(vector, basis[: step + 1])
            overlaps.orthogonalized(overlap)
        beta.append(norm)
        is_exhausted = step + 1 == size or beta[-1] <= breakdown_tol(alpha, beta, start.dtype)
        if is_exhausted:
            break
        vector.div_(beta[-1])
        if should_stop is not None and (step + 1) % check_every == 0 and should_stop(_cycle(basis, alpha, beta, False)):
            break
        if on_state is not None and time.monotonic() - told >= state_every_seconds:
            on_state(_state(basis, alpha, beta, seed, overlaps))
            told = time.monotonic()
    return _cycle(basis, alpha, beta, is_exhausted)


def _restore(state: LanczosState, basis: Tensor, seed: int | None) -> None:
    rows, size = basis.shape
    if state.basis.shape != (state.step, size) or state.step >= rows or state.basis.dtype != basis.dtype:
        raise ValueError(
            f"the state holds {state.step} vectors of shape {tuple(state.basis.shape[1:])} in {state.basis.dtype}; "
            f"this run has room for {rows - 1} of ({size},) in {basis.dtype}"
        )
    if state.seed != seed:
        raise ValueError(f"the state was drawn from seed {state.seed}, this run from {seed}")
    basis[: state.step] = state.basis
    basis[state.step] = state.vector


def _state(basis: Tensor, alpha: list[float], beta: list[float], seed: int | None, overlaps: Overlaps) -> LanczosState:
    step = len(alpha)
    coefficients = torch.tensor([alpha, beta], dtype=torch.float64)
    return LanczosState(coefficients[0], coefficients[1], basis[:step], basis[step], step, seed, overlaps.state)


def _cycle(basis: Tensor, alpha: list[float], beta: list[float], is_exhausted: bool) -> LanczosCycle:
    return LanczosCycle(
        storage=basis,
        alpha=torch.tensor(alpha, dtype=torch.float64),
        beta=torch.tensor(beta, dtype=torch.float64),
        is_exhausted=is_exhausted,
    )
