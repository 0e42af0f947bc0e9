"""Does Newton's method, started at θ, head for a critical point nearby? A minimum is claimed of nothing else.

Eigenvalues at a θ whose gradient is merely small say nothing of a critical point: e^{−y} has a positive curvature and a
gradient as small as one likes, and no critical point at all. One Newton step v = −H⁺g tells them apart: with
h = ‖H⁻¹‖·‖v‖·K, K the Lipschitz constant of H, the gradient after it is at most h/2 of the one before, in the norm of H⁻¹,
and h ≤ ½ is what the theorem of Newton and Kantorovich asks (Ortega 1968). So a quarter is the most that may be left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.criticality import TRUST_RADIUS
from saddlescope.curvature.dense import DenseSpectrum
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective

MOST_LEFT = 0.25
SOLVE_PRODUCTS = 100
SOLVE_RTOL = 1e-2
ROUNDINGS = 4

Solve = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Contraction:
    """What one Newton step from θ did.

    Attributes:
        before: the Newton decrement √(gᵀ|H|⁺g) at θ, in √(units of L).
        after: the same, in θ's metric, at the end of the step.
        distance: the step's length in units of θ's own size, tensor by tensor.
        holds: enough is gone, within the trust region.
    """

    before: float
    after: float
    distance: float
    holds: bool


UNTRIED = Contraction(math.inf, math.inf, 0.0, holds=False)
"""There was no time for the step."""


def newton_contraction(objective: Objective, measured: Preflight, solve: Solve) -> Contraction:
    """Take one Newton step, `solve` being v ↦ H⁺v, and compare decrements. Costs one gradient and two solves.

    What is left may be rounding: a decrement that L cannot show counts as none. A critical point beyond the trust region is
    not θ's.
    """
    gradient = measured.gradient
    step = solve(gradient)
    before = _decrement(gradient, step)
    distance = (step.double() / objective.relative_scales().double()).norm().item() / math.sqrt(step.numel())
    if distance > TRUST_RADIUS:
        return Contraction(before, before, distance, holds=False)
    _, gradient_after = objective.gradient(objective.theta - step)
    if not torch.isfinite(gradient_after).all():
        return Contraction(before, math.inf, distance, holds=False)
    after = _decrement(gradient_after, solve(gradient_after))
    is_rounding = (
        after**2 <= ROUNDINGS * measured.loss_noise
        or gradient_after.double().norm().item() <= ROUNDINGS * measured.gradient_floor
    )
    return Contraction(before, after, distance, holds=after <= MOST_LEFT * before or is_rounding)


def dense_solve(dense: DenseSpectrum, zero_tol: float) -> Solve:
    """H⁺ on the eigenvectors beyond ±τ; all of H, by a factorization, where none lies within."""
    is_curved = dense.eigenvalues.abs() > zero_tol
    if bool(is_curved.all()):
        factors, pivots = torch.linalg.lu_factor(dense.hessian)
        return lambda vector: torch.linalg.lu_solve(factors, pivots, vector.to(factors)[:, None])[:, 0].to(vector)
    values, vectors = dense.eigenvalues[is_curved], dense.eigenvectors[:, is_curved]

    def solve(vector: Tensor) -> Tensor:
        solved: Tensor = (vectors @ ((vectors.T @ vector.to(vectors)) / values)).to(vector)
        return solved

    return solve


def conjugate_gradients(matvec: Callable[[Tensor], Tensor]) -> Solve:
    """H⁻¹ for a positive definite H, to a relative residual of 1 % or for 100 products (Hestenes, Stiefel 1952)."""

    def solve(vector: Tensor) -> Tensor:
        solved, residual = torch.zeros_like(vector), vector.clone()
        direction, square = residual.clone(), _dot(residual, residual)
        goal = SOLVE_RTOL**2 * square
        for _ in range(SOLVE_PRODUCTS):
            if square <= goal:
                break
            product = matvec(direction)
            curvature = _dot(direction, product)
            if curvature <= 0.0:
                break
            length = square / curvature
            solved.add_(direction, alpha=length)
            residual.sub_(product, alpha=length)
            square, former = _dot(residual, residual), square
            direction = residual + (square / former) * direction
        return solved

    return solve


def _decrement(gradient: Tensor, solved: Tensor) -> float:
    return math.sqrt(abs(_dot(gradient, solved)))


def _dot(first: Tensor, second: Tensor) -> float:
    return torch.dot(first.double(), second.double()).item()
