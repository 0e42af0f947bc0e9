"""Further random probes for the shares of the spectrum, where they narrow them, and what is proven of the counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from saddlescope.curvature.basis import ONE_DEVICE, Bases
from saddlescope.curvature.certificate import recurrence_slack
from saddlescope.curvature.escape import Direction
from saddlescope.curvature.lanczos import LanczosCycle, Matvec, tridiagonalize
from saddlescope.curvature.quadrature import Share, Shares, clipped, mass_below, probe_norm, spectral_shares


def probe_shares(
    matvec: Matvec,
    draw: Callable[[torch.Generator], Tensor],
    cycle: LanczosCycle,
    *,
    size: int,
    zero_tol: float,
    failure_probability: float,
    num_affordable: int,
    max_probes: int,
    generator: torch.Generator,
    bases: Bases = ONE_DEVICE,
) -> tuple[Shares, int]:
    """Shares from the first cycle, or from it and up to `num_affordable` − 1 more of its length; and the number of probes used.

    More probes narrow the statistical part of an interval, not the Radau bracket, which only longer cycles do: they are run
    where the former is the wider. Since the first cycle decides, its interval alone and those of 2…max_probes probes share
    the failure probability, half and half. Each further probe costs as many products as the first, and its basis.

    Args:
        draw: a start, uniform in Rⁿ, in the coordinates that `matvec` takes.
        size: n.
    """
    shares = partial(spectral_shares, size=size, zero_tol=zero_tol)
    alone = failure_probability / 2 if max_probes > 1 else failure_probability
    first = shares([cycle], [1.0], failure_probability=alone)
    num_probes = min(max_probes, num_affordable)
    below, above = mass_below(cycle, -zero_tol), mass_below(cycle, zero_tol)
    brackets = (below[1] - below[0], above[1] - above[0])
    sides = zip((first.negative, first.positive), brackets, strict=True)
    if num_probes < 2 or not any(share.width > max(2 * bracket, 2 / size) for share, bracket in sides):
        return first, 1
    cycles = [cycle]
    for _ in range(num_probes - 1):
        probe = tridiagonalize(matvec, draw(generator), num_matvecs=cycle.num_steps, bases=bases)
        cycles.append(probe.without_basis())
        del probe
    norms = [probe_norm(size, generator=generator) for _ in cycles]
    return shares(cycles, norms, failure_probability=failure_probability / 2 / (max_probes - 1)), num_probes


def proven_counts(
    cycle: LanczosCycle, lowest: Sequence[Direction], zero_tol: float, *, error: float
) -> tuple[int, int]:
    """(at least so many eigenvalues below −τ, at least so many above τ), whatever the start was.

    T = QᵀHQ interlaces H (Cauchy), Q being orthonormal to rounding. Orthonormal measured directions u_i do the same: the largest
    eigenvalue of UᵀHU is at most max ρ_i + (Σ r_i²)^½.
    """
    slack = recurrence_slack(cycle, product_error=error)
    values = cycle.ritz().values
    negative, positive = int((values < -zero_tol - slack).sum()), int((values > zero_tol + slack).sum())
    residual = 0.0
    for count, direction in enumerate(sorted(lowest, key=lambda found: found.curvature), start=1):
        residual = math.hypot(residual, direction.residual_norm)
        if direction.curvature + residual + error < -zero_tol:
            negative = max(negative, count)
    return negative, positive


def at_least(share: Share, low: float) -> Share:
    """The share with a proven lower bound."""
    return clipped(Share(share.estimate, max(share.low, low), max(share.high, low)), max(share.estimate, low))


def at_most(share: Share, high: float) -> Share:
    """The share with a proven upper bound."""
    return clipped(Share(share.estimate, min(share.low, high), min(share.high, high)), min(share.estimate, high))
