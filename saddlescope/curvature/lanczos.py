"""Lanczos tridiagonalization with full reorthogonalization, its Ritz pairs, and its state for a later resumption."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saddlescope.curvature.orthogonal import accurate_dot, accurate_norm, breakdown_tol, orthogonalize

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
    """

    alpha: Tensor
    beta: Tensor
    basis: Tensor
    vector: Tensor
    step: int
    seed: int | None = None


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

    Costs k products and O(n k²) flops; k is smaller than asked if the Krylov space is exhausted or `should_stop` says so,
    which is asked every `check_every` steps. Reserves num_matvecs + 1 vectors, of which the system commits those
    that are written, and uses two more.

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
    told = time.monotonic()
    for step in range(len(alpha), num_matvecs):
        vector = matvec(basis[step]).clone(memory_format=torch.contiguous_format)
        if step > 0:
            vector.sub_(basis[step - 1], alpha=beta[-1])
        alpha.append(accurate_dot(vector, basis[step]))
        vector.sub_(basis[step], alpha=alpha[-1])
        beta.append(orthogonalize(vector, basis[: step + 1]))
        is_exhausted = step + 1 == size or beta[-1] <= breakdown_tol(alpha, beta, start.dtype)
        if is_exhausted:
            break
        torch.div(vector, beta[-1], out=basis[step + 1])
        del vector
        if should_stop is not None and (step + 1) % check_every == 0 and should_stop(_cycle(basis, alpha, beta, False)):
            break
        if on_state is not None and time.monotonic() - told >= state_every_seconds:
            on_state(_state(basis, alpha, beta, seed))
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


def _state(basis: Tensor, alpha: list[float], beta: list[float], seed: int | None) -> LanczosState:
    step = len(alpha)
    coefficients = torch.tensor([alpha, beta], dtype=torch.float64)
    return LanczosState(coefficients[0], coefficients[1], basis[:step], basis[step], step, seed)


def _cycle(basis: Tensor, alpha: list[float], beta: list[float], is_exhausted: bool) -> LanczosCycle:
    return LanczosCycle(
        storage=basis,
        alpha=torch.tensor(alpha, dtype=torch.float64),
        beta=torch.tensor(beta, dtype=torch.float64),
        is_exhausted=is_exhausted,
    )
