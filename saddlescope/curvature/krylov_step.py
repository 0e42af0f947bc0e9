"""Steps within a trust region from one Krylov cycle started at the gradient: towards g = 0, or down L.

HQ = Q̄T̄ turns both into problems of k unknowns that are solved for any radius without another product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.lanczos import LanczosCycle

DAMPING_RTOL = 1e-7
SOLVE_RTOL = 1e-3
BISECTIONS = 60


@dataclass(frozen=True)
class Step:
    """Coefficients y (k,) in the Krylov basis, ‖y‖, and what the model predicts.

    `predicted` is ‖Hd + g‖ for a root step and −gᵀd − ½dᵀHd for a descent step.
    """

    coefficients: Tensor
    length: float
    predicted: float


def displacement(cycle: LanczosCycle, step: Step) -> Tensor:
    """Σ y_j q_j (n,)."""
    return cycle.storage.combine(step.coefficients)


class RootModel:
    """min ‖T̄y + ‖g‖e₁‖ over ‖y‖ ≤ radius, T̄ (k+1, k) tridiagonal, through its singular values."""

    def __init__(self, cycle: LanczosCycle, norm: float) -> None:
        steps = cycle.num_steps
        wide = torch.zeros(steps + 1, steps, dtype=torch.float64)
        index = torch.arange(steps)
        wide[index, index] = cycle.alpha
        wide[index + 1, index] = cycle.beta
        wide[index[:-1], index[1:]] = cycle.beta[:-1]
        if cycle.is_exhausted:
            wide[steps, steps - 1] = 0.0
        left, values, self.right = torch.linalg.svd(wide, full_matrices=False)
        self.scale: float = values[0].item()  # the largest singular value of H on the Krylov space
        self.values = values / self.scale if self.scale > 0 else values  # their squares may underflow
        self.cycle, self.norm = cycle, norm
        self.slopes = -norm * left[0]  # (k,)
        self.outside = math.sqrt(max(norm**2 - self.slopes.square().sum().item(), 0.0))
        rounding = 30 * torch.finfo(cycle.storage.dtype).eps
        self.damping = max(DAMPING_RTOL, rounding) ** 2  # in units of scale²

    @property
    def is_solved(self) -> bool:
        return self.step(math.inf).predicted <= SOLVE_RTOL * self.norm

    @property
    def image_norm(self) -> float:
        """‖Hg‖."""
        norm: float = (self.values * self.slopes).norm().item()
        return self.scale * norm

    def step(self, radius: float) -> Step:
        farthest = self._damped(self.damping)
        if farthest.length <= radius:
            return farthest
        high = max(self.damping, self.norm / self.scale / radius)
        return self._damped(_bisect(lambda mu: self._damped(mu).length <= radius, self.damping, high))

    def _damped(self, mu: float) -> Step:
        if self.scale == 0.0:
            return Step(torch.zeros_like(self.slopes), 0.0, self.norm)
        shrunk = self.values / (self.values.square() + mu) * self.slopes
        residual = (self.values * shrunk - self.slopes).norm().item()
        solved = shrunk / self.scale
        return Step(self.right.T @ solved, solved.norm().item(), math.hypot(residual, self.outside))


class DescentModel:
    """min gᵀd + ½dᵀHd over ‖d‖ ≤ radius in the Krylov space, through the Ritz pairs (Moré, Sorensen 1983)."""

    def __init__(self, cycle: LanczosCycle, norm: float) -> None:
        ritz = cycle.ritz()
        self.cycle, self.norm = cycle, norm
        self.values, self.coefficients = ritz.values, ritz.coefficients
        self.slopes = norm * ritz.coefficients[0]  # (k,) gᵀ of each Ritz vector

    def step(self, radius: float) -> Step:
        lowest, scale = self.values[0].item(), self.values.abs().max().item()
        least = max(0.0, -lowest) + DAMPING_RTOL * max(scale, self.norm / radius)
        inside = self._shifted(least)
        if inside.length <= radius:  # nearly so on the hard case, which random rounding of g excludes
            return inside
        high = least + self.norm / radius
        return self._shifted(_bisect(lambda mu: self._shifted(mu).length <= radius, least, high))

    def _shifted(self, mu: float) -> Step:
        solved = -self.slopes / (self.values + mu)
        decrease = -(self.slopes * solved + 0.5 * self.values * solved.square()).sum().item()
        return Step(self.coefficients @ solved, solved.norm().item(), decrease)


def _bisect(is_enough: Callable[[float], bool], low: float, high: float) -> float:
    """The least damping in [low, high] that is enough, by halving in log scale."""
    for _ in range(BISECTIONS):
        middle = math.sqrt(max(low, 1e-30 * high) * high)
        if is_enough(middle):
            high = middle
        else:
            low = middle
        if high <= 1.01 * low:
            break
    return high
