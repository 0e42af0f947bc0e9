"""Student's t distribution for whole degrees of freedom, in closed form."""

from __future__ import annotations

import math


def t_tail(value: float, degrees: int) -> float:
    """P(T > value) for value ≥ 0: Abramowitz and Stegun 26.7.3 and 26.7.4, exact to rounding (about 1e-15).

    Raises:
        ValueError: unless degrees >= 1.
    """
    if degrees < 1:
        raise ValueError(f"Student's t needs at least one degree of freedom, not {degrees}")
    angle = math.atan2(value, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2 == 1
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for index in range((degrees - 1) // 2 if is_odd else degrees // 2):
        total += term
        term *= cosine**2 * ((2 * index + 2) / (2 * index + 3) if is_odd else (2 * index + 1) / (2 * index + 2))
    inside = 2 / math.pi * (angle + sine * total) if is_odd else sine * total
    return max(0.5 * (1 - inside), 0.0)


def t_quantile(tail: float, degrees: int) -> float:
    """t with P(T > t) = tail, for 1e-12 <= tail <= 0.5, by bisection.

    Raises:
        ValueError: if the tail probability is out of range.
    """
    if not 1e-12 <= tail <= 0.5:
        raise ValueError(f"tail must be between 1e-12 and 0.5, not {tail}")
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > tail:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        if t_tail(middle, degrees) > tail:
            low = middle
        else:
            high = middle
    return high
