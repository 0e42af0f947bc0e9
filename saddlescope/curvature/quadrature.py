"""Stochastic Lanczos quadrature: what share of the spectrum lies on each side of a point.

Weights, never counts: the Gauss-Radau rule of a Lanczos cycle with a node at x brackets the start vector's spectral mass on
either side of x (Chebyshev-Markov-Stieltjes), and for a uniform start the mass of m out of n eigenvalues is
Beta(m/2, (n−m)/2), which is inverted for a confidence interval. Golub, Meurant, Matrices, Moments and Quadrature (2010), ch. 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from saddlescope.curvature.beta_law import regularized_beta
from saddlescope.curvature.lanczos import LanczosCycle, tridiagonal

MASS_ROUNDING = 8 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Share:
    """A share of n eigenvalues: an estimate between bounds."""

    estimate: float
    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low


@dataclass(frozen=True)
class Shares:
    """Shares of the eigenvalues below −τ, within ±τ and above τ; their six bounds hold together."""

    negative: Share
    zero: Share
    positive: Share


def mass_below(cycle: LanczosCycle, point: float) -> tuple[float, float]:
    """(lower bound of the mass on (−∞, point), upper bound of the mass on (−∞, point]), sure but for product errors.

    The bounds belong to the H + E whose exact Lanczos coefficients these are (see `lambda_min_bound`): an eigenvalue within
    ‖E‖ of the point may be counted on either side. The eigensolver's own rounding of the weights is allowed for.
    """
    low, high = _bracket(cycle, point)
    slack = MASS_ROUNDING * (cycle.num_steps + 1)
    return max(0.0, low - slack), min(1.0, high + slack)


def _bracket(cycle: LanczosCycle, point: float) -> tuple[float, float]:
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
    return weights[:node].sum().item(), weights[: node + 1].sum().item()


def pooled(values: Sequence[tuple[float, float]], norms: Sequence[float]) -> tuple[float, float]:
    """Brackets of r unit probes' masses as one bracket, probe i weighted by its R_i² ~ χ²_n (see `probe_norm`).

    R_i times a uniform unit vector is Gaussian, so r of them see m of n eigenvalues with a mass of exactly
    Beta(rm/2, r(n−m)/2); equal weights would only come near that.
    """
    total = sum(norms)
    low = sum(weight * value[0] for weight, value in zip(norms, values, strict=True)) / total
    high = sum(weight * value[1] for weight, value in zip(norms, values, strict=True)) / total
    return low, high


def probe_norm(size: int, *, generator: torch.Generator) -> float:
    """A draw of χ²_n, n ≥ 2: the squared norm of a Gaussian vector (n,), independent of its direction."""
    # Marsaglia, Tsang 2000: d·v is Gamma(n/2) when log u < z²/2 + d − dv + d log v.
    d = size / 2 - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        z = torch.randn((), generator=generator, dtype=torch.float64).item()
        u = 1 - torch.rand((), generator=generator, dtype=torch.float64).item()
        v = (1 + c * z) ** 3
        if v > 0 and math.log(u) < 0.5 * z * z + d * (1 - v + math.log(v)):
            return 2 * d * v


def share_interval(mass: tuple[float, float], *, size: int, failure_probability: float, num_probes: int = 1) -> Share:
    """Share m/n of the eigenvalues whose spectral mass under uniform probes lies between `mass[0]` and `mass[1]`.

    Clopper-Pearson: the smallest and the largest m under which the observed mass is not too unlikely.
    """
    low, high = max(0.0, mass[0]), min(1.0, mass[1])
    tail = failure_probability / 2

    def mass_cdf(m: int, x: float) -> float:
        if m == 0:
            return 1.0
        return 0.0 if m == size else regularized_beta(x, num_probes * m / 2, num_probes * (size - m) / 2)

    fewest = _first(size, lambda m: m == size or 1 - mass_cdf(m, low) > tail) if low > 0 else 0
    most = _first(size, lambda m: m == size or mass_cdf(m + 1, high) <= tail) if high < 1 else size
    # Where a mass is too small for any count, one that is there at all still has an eigenvalue.
    return Share(estimate=(low + high) / 2, low=fewest / size, high=max(fewest, most) / size)


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


def spectral_shares(
    cycles: Sequence[LanczosCycle], norms: Sequence[float], *, size: int, zero_tol: float, failure_probability: float
) -> Shares:
    """Shares on either side of ±τ from independent probes' cycles, whose bounds all hold with probability 1 − p.

    n₋ and n₊ take p/2 each; n₀ = n − n₋ − n₊ follows. Estimates are the weights of the Ritz values: one within its residual
    norm of zero may stand for a zero eigenvalue, and counts for neither side.
    """
    interval = partial(share_interval, size=size, failure_probability=failure_probability / 2, num_probes=len(cycles))
    below = pooled([mass_below(cycle, -zero_tol) for cycle in cycles], norms)
    above = pooled([mass_below(cycle, zero_tol) for cycle in cycles], norms)
    negative = interval(below)
    positive = interval((1 - above[1], 1 - above[0]))
    signs = pooled([_signed_weights(cycle, zero_tol) for cycle in cycles], norms)
    negative = clipped(negative, signs[0])
    positive = clipped(positive, signs[1])
    low, high = max(0.0, 1 - negative.high - positive.high), max(0.0, 1 - negative.low - positive.low)
    zero = clipped(Share(low, low, high), 1 - negative.estimate - positive.estimate)
    return Shares(negative, zero, positive)


def _signed_weights(cycle: LanczosCycle, zero_tol: float) -> tuple[float, float]:
    ritz = cycle.ritz()
    width = ritz.residual_norms.clamp(min=zero_tol)
    return ritz.weights[ritz.values < -width].sum().item(), ritz.weights[ritz.values > width].sum().item()


def clipped(share: Share, estimate: float) -> Share:
    """The share with an estimate of its own, kept within its bounds."""
    return Share(min(max(estimate, share.low), share.high), share.low, share.high)


def smoothed_density(cycle: LanczosCycle, grid: Tensor) -> Tensor:
    """Gaussian-smoothed density (g,) on a grid (g,), for looking at; its width is a sixtieth of the range."""
    ritz = cycle.ritz()
    width = max((grid[-1] - grid[0]).item() / 60, 1e-300)
    bumps = torch.exp(-0.5 * ((grid[:, None] - ritz.values[None, :]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return bumps @ ritz.weights
