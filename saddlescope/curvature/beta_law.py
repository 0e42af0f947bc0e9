"""The distribution function of Beta(a, b), accurate for parameters from ½ to 10¹⁰."""

from __future__ import annotations

import math

MAX_TERMS = 2_000_000


def regularized_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) for a, b > 0, by Lentz's continued fraction (DLMF 8.17.22), which takes O(√max(a, b)) terms at worst."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - regularized_beta(1.0 - x, b, a)
    fraction, c, d = 1.0, 1.0, 0.0
    for index in range(1, MAX_TERMS):
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
    return math.exp(log_beta_front(x, a, b)) * (fraction - 1.0) / a


def log_beta_front(x: float, a: float, b: float) -> float:
    """log xᵃ(1−x)ᵇ/B(a, b), as a deviance from the mean (Loader 2000): log Γ's of 10⁹ would cancel to six digits."""
    total = a + b
    mean = a / total
    gap = x - mean
    deviance = a * _log1p(gap / mean, x / mean) + b * _log1p(-gap / (b / total), (1 - x) / (b / total))
    corrections = stirling_error(total) - stirling_error(a) - stirling_error(b)
    return deviance + corrections + 0.5 * (math.log(a) + math.log(b) - math.log(total) - math.log(2 * math.pi))


def _log1p(gap: float, ratio: float) -> float:
    return math.log1p(gap) if abs(gap) < 0.5 else math.log(ratio)


def stirling_error(x: float) -> float:
    """log Γ(x) − ((x − ½) log x − x + ½ log 2π) for x > 0."""
    if x < 15:
        return math.lgamma(x) - ((x - 0.5) * math.log(x) - x + 0.5 * math.log(2 * math.pi))
    square = x * x
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * square)) / square) / square) / x


def _nonzero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
