"""Stochastic Lanczos quadrature: what share of the spectrum lies on each side of a point.

Weights, never counts: the Gauss-Radau rule of a Lanczos cycle with a node at x brackets the start vector's spectral mass on
either side of x (Chebyshev-Markov-Stieltjes), and for a uniform start the mass of m out of n eigenvalues is
Beta(m/2, (n−m)/2), which is inverted for a confidence interval. Golub, Meurant, Matrices, Moments and Quadrature (2010), ch. 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.lanczos import LanczosCycle, tridiagonal


@dataclass(frozen=True)
class Share:
    """A share of n eigenvalues: an estimate between bounds."""

    estimate: float
    low: float
    high: float


def mass_below(cycle: LanczosCycle, point: float) -> tuple[float, float]:
    """(sure lower bound of the mass on (−∞, point), sure upper bound of the mass on (−∞, point])."""
    k = cycle.num_steps
    shifted = tridiagonal(cycle.alpha, cycle.beta[:-1]) - point * torch.eye(k, dtype=torch.float64)
    if cycle.is_exhausted or cycle.beta[-1] == 0:
        ritz = cycle.ritz()
        return ritz.weights[ritz.values < point].sum().item(), ritz.weights[ritz.values <= point].sum().item()
    unit = torch.zeros(k, dtype=torch.float64)
    unit[-1] = cycle.beta[-1].item() ** 2
    correction, info = torch.linalg.solve_ex(shifted, unit)
    last = point + correction[-1].item()
    if info.item() or not math.isfinite(last):  # the point is a Ritz value: the Gauss rule has its node there already
        ritz = cycle.ritz()
        nearest = (ritz.values - point).abs().argmin().item()
        return ritz.weights[:nearest].sum().item(), ritz.weights[: nearest + 1].sum().item()
    alpha = torch.cat([cycle.alpha, torch.tensor([last], dtype=torch.float64)])
    values, vectors = torch.linalg.eigh(tridiagonal(alpha, cycle.beta))
    weights = vectors[0].square()
    node = (values - point).abs().argmin().item()
    return weights[:node].sum().item(), min(1.0, weights[: node + 1].sum().item())


def share_interval(mass: tuple[float, float], *, size: int, failure_probability: float) -> Share:
    """Share m/n of the eigenvalues whose spectral mass under one uniform probe lies between `mass[0]` and `mass[1]`.

    Clopper-Pearson: the smallest and the largest m under which the observed mass is not too unlikely.
    """
    low, high = max(0.0, mass[0]), min(1.0, mass[1])
    tail = failure_probability / 2

    def mass_cdf(m: int, x: float) -> float:
        if m == 0:
            return 1.0
        return 0.0 if m == size else regularized_beta(x, m / 2, (size - m) / 2)

    fewest = _first(size, lambda m: m == size or 1 - mass_cdf(m, low) > tail) if low > 0 else 0
    most = _first(size, lambda m: m == size or mass_cdf(m + 1, high) <= tail) if high < 1 else size
    return Share(estimate=(low + high) / 2, low=fewest / size, high=most / size)


def _first(size: int, holds: Callable[[int], bool]) -> int:
    """The least m in 0..size at which a monotone condition holds."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def regularized_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b), the distribution function of Beta(a, b), by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - regularized_beta(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    fraction, c, d = 1.0, 1.0, 0.0
    for index in range(1, 200_000):
        half = index // 2
        if index == 1:
            numerator = 1.0
        elif index % 2 == 1:
            numerator = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            m = half - 1
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / _nonzero(1.0 + numerator * d)
        c = _nonzero(1.0 + numerator / c)
        fraction *= c * d
        if index > 1 and abs(c * d - 1.0) < 1e-14:
            break
    return math.exp(log_front) * (fraction - 1.0) / a


def _nonzero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


def smoothed_density(cycle: LanczosCycle, grid: Tensor) -> Tensor:
    """Gaussian-smoothed density (g,) on a grid (g,), for looking at; its width is a sixtieth of the range."""
    ritz = cycle.ritz()
    width = max((grid[-1] - grid[0]).item() / 60, 1e-300)
    bumps = torch.exp(-0.5 * ((grid[:, None] - ritz.values[None, :]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return bumps @ ritz.weights
