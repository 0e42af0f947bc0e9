"""A lower bound on the smallest eigenvalue that a Lanczos cycle certifies with a stated failure probability.

For orthonormal polynomials p_j of the start vector's spectral measure, the mass at any point λ is at most
1/Σ_{j≤k} p_j(λ)² (the Christoffel function). The mass of a uniform unit vector on an eigenvector is Beta(½, (n−1)/2), so
with probability 1 − p it is at least that law's p-quantile x_p; hence λ_min is at least the λ < θ_min at which the two meet.
Van Dorsselaer, Hochstenbach, van der Vorst, SIAM J. Matrix Anal. Appl. 22 (2001) 837-852.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from saddlescope.curvature.lanczos import LanczosCycle


def mass_quantile(size: int, probability: float) -> float:
    """A lower bound of the `probability`-quantile of Beta(½, (n−1)/2), the squared first entry of a uniform unit vector (n,).

    For n ≥ 3 the density of |u₁| is at most its value at 0, so P(|u₁| ≤ t) ≤ 2t·Γ(n/2)/(√π·Γ((n−1)/2)); exact to
    a relative (probability)² for the small probabilities in use. For n = 2 the law is the arcsine law.
    """
    if size == 1:
        return 1.0
    if size == 2:
        return math.sin(math.pi * probability / 2) ** 2
    log_density = math.log(2) + math.lgamma(size / 2) - math.lgamma((size - 1) / 2) - 0.5 * math.log(math.pi)
    return math.exp(2 * (math.log(probability) - log_density))


def log_christoffel_sum(alpha: Tensor, beta: Tensor, point: float) -> float:
    """log Σ_{j=0..k} p_j(point)² for the Jacobi coefficients alpha (k,), beta (k,); kept in range by rescaling.

    With β_k = 0 the last polynomial is infinite and so is the sum, unless the point is a Ritz value.
    """
    previous, current, total, exponent = 0.0, 1.0, 1.0, 0.0
    coupling = 0.0
    for a, b in zip(alpha.tolist(), beta.tolist(), strict=True):
        if b == 0.0:
            return math.inf
        previous, current = current, ((point - a) * current - coupling * previous) / b
        coupling = b
        total += current * current
        if total > 1e200:
            shrink = math.sqrt(total)
            previous, current, total, exponent = previous / shrink, current / shrink, 1.0, exponent + math.log(total)
    return math.log(total) + exponent


def recurrence_slack(cycle: LanczosCycle, *, product_error: float) -> float:
    """A bound on ‖E‖, where H + E has exactly the computed coefficients.

    HQ = QT + βqeᵀ + F with orthonormal Q belongs to a symmetric E with ‖E‖ ≤ 2‖F‖, ‖F‖ ≤ √k·(error of a step): that of the
    product, or the rounding of the recurrence in the working precision.
    """
    scale = (cycle.alpha.abs() + cycle.beta).max().item()
    rounding = 4 * torch.finfo(cycle.storage.dtype).eps * scale
    return 2 * math.sqrt(cycle.num_steps) * max(product_error, rounding)


def lambda_min_bound(cycle: LanczosCycle, *, size: int, failure_probability: float, product_error: float) -> float:
    """λ_min is at least this, with probability 1 − failure_probability over the uniform start vector.

    `product_error` bounds ‖H q − (computed H q)‖ for unit q; `recurrence_slack` is subtracted. The cycle must be unrestarted and
    its basis orthonormal to rounding.
    """
    slack = recurrence_slack(cycle, product_error=product_error)
    lowest = cycle.ritz().values[0].item()
    target = -math.log(mass_quantile(size, failure_probability))
    if log_christoffel_sum(cycle.alpha, cycle.beta, lowest) >= target:
        return lowest - slack
    width = max((cycle.alpha.abs() + cycle.beta).max().item(), math.ulp(lowest))
    low = lowest - width
    while log_christoffel_sum(cycle.alpha, cycle.beta, low) < target:
        width *= 2
        low = lowest - width
    high = lowest
    for _ in range(60):
        middle = (low + high) / 2
        if log_christoffel_sum(cycle.alpha, cycle.beta, middle) < target:
            high = middle
        else:
            low = middle
    return low - slack


def lambda_max_bound(cycle: LanczosCycle, *, size: int, failure_probability: float, product_error: float) -> float:
    """λ_max is at most this; the mirror image of `lambda_min_bound`."""
    return -lambda_min_bound(
        cycle.mirrored(), size=size, failure_probability=failure_probability, product_error=product_error
    )
