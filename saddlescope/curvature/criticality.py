"""Is θ critical? In units of loss: what could the gradient still buy?

ΔL_N = max over d of −gᵀd − ½dᵀ|H|d within a relative trust radius: the decrease that a saddle-free Newton step
predicts (Dauphin et al. 2014), in coordinates relative to each tensor's own size so that rescaling a layer changes nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.contract.numerals import number
from saddlescope.curvature.basis import ONE_DEVICE, Bases
from saddlescope.curvature.lanczos import sphere_vector, tridiagonalize
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective

KRYLOV_PRODUCTS = 30
TRUST_RADIUS = 1.0  # a step as long as θ itself, tensor by tensor
REFERENCE_RADIUS = 0.1
REFERENCE_DIRECTIONS = 9
FLAT_SHARE = 0.9


@dataclass(frozen=True)
class Criticality:
    """The numbers of the decision and its rule, in the units of L.

    Attributes:
        is_bounded_only: the products did not suffice for ΔL_N, so that `predicted_decrease` is only a lower bound of it.
        flat_share: share of ‖g‖² on directions along which a trust-radius step changes L by less than its rounding.
        sampling_error: how far ‖g‖ may be from the population's by the choice of rows, where the rows are a sample.
    """

    is_critical: bool
    gradient_norm: float
    gradient_tol: float | None
    rounding_floor: float
    predicted_decrease: float
    reference_decrease: float
    critical_rtol: float
    flat_share: float
    rule: str
    sampling_error: float | None = None
    is_bounded_only: bool = False

    @property
    def is_zero_to_rounding(self) -> bool:
        return self.gradient_norm <= self.rounding_floor


def assess(
    objective: Objective,
    matvec: Callable[[Tensor], Tensor],
    measured: Preflight,
    *,
    gradient_tol: float | None,
    critical_rtol: float,
    known_decrease: float,
    generator: torch.Generator,
    sampling_error: float | None = None,
    sampling_decrease: float = 0.0,
    num_products: int = KRYLOV_PRODUCTS,
) -> Criticality:
    """Decide whether θ is critical. Costs up to `num_products` products, and 9 evaluations where no lower bound of L is known.

    The reference is what could be gained at all: L less its lower bound, else the median change of L along random
    directions, or `known_decrease`, which an escape was measured to gain, if that is larger.
    """
    gradient, scales = measured.gradient, objective.relative_scales()
    norm = gradient.double().norm().item()
    decrease, flat_share = saddle_free_decrease(
        lambda vector: scales * matvec(scales * vector),
        scales * gradient,
        loss_noise=measured.loss_noise,
        num_products=num_products,
        bases=objective.problem.bases,
    )
    bound = objective.problem.lower_bound
    if bound is not None:
        reference = max(measured.loss - bound, 0.0)
    else:
        reference = max(random_decrease(objective, measured.loss, generator=generator), known_decrease)
    is_bounded_only = False
    if gradient_tol is not None:
        is_critical = norm <= gradient_tol
        rule = f"‖g‖ = {number(norm, 3)} {'≤' if is_critical else '>'} gradient_tol = {number(gradient_tol, 3)}"
    elif norm <= measured.gradient_floor:
        is_critical = True
        rule = f"‖g‖ = {number(norm, 3)} is zero to rounding (floor {number(measured.gradient_floor, 3)})"
    else:
        threshold = max(measured.loss_noise, sampling_decrease, critical_rtol * reference)
        is_critical = decrease <= threshold
        source = f"{number(critical_rtol, 3)} of the reference decrease {number(reference, 3)}"
        if sampling_decrease == threshold:
            source = "which the choice of rows alone could make it appear to"
        is_bounded_only = num_products < min(KRYLOV_PRODUCTS, objective.num_parameters)
        rule = (
            f"the gradient can buy {number(decrease, 3)} {'≤' if is_critical else '>'} {number(threshold, 3)}, {source}"
        )
    return Criticality(
        is_critical=is_critical,
        gradient_norm=norm,
        gradient_tol=gradient_tol,
        rounding_floor=measured.gradient_floor,
        predicted_decrease=decrease,
        reference_decrease=reference,
        critical_rtol=critical_rtol,
        flat_share=flat_share,
        rule=rule,
        sampling_error=sampling_error,
        is_bounded_only=is_bounded_only,
    )


def saddle_free_decrease(
    matvec: Callable[[Tensor], Tensor],
    gradient: Tensor,
    *,
    loss_noise: float,
    num_products: int = KRYLOV_PRODUCTS,
    bases: Bases = ONE_DEVICE,
) -> tuple[float, float]:
    """(ΔL_N, flat share) from a Krylov space started at the gradient (n,), both in relative coordinates."""
    norm = gradient.double().norm().item()
    if norm == 0.0:
        return 0.0, 0.0
    size = gradient.numel()
    cycle = tridiagonalize(matvec, gradient, num_matvecs=min(num_products, size), bases=bases)
    ritz = cycle.ritz()
    slopes = (norm * ritz.coefficients[0].abs()).tolist()
    curvatures = ritz.values.abs().tolist()
    radius = TRUST_RADIUS * math.sqrt(size)
    rounding = torch.finfo(gradient.dtype).eps * max(curvatures) * size**0.5
    tau = max(2 * loss_noise / radius**2, rounding)
    flat = sum(w for w, value in zip(ritz.weights.tolist(), curvatures, strict=True) if value <= tau)
    return trust_region_decrease(slopes, curvatures, radius), flat


def trust_region_decrease(slopes: list[float], curvatures: list[float], radius: float) -> float:
    """max Σ c_i d_i − ½ a_i d_i² subject to ‖d‖ ≤ radius, for a_i ≥ 0: d_i = c_i/(a_i + μ) with μ ≥ 0 by bisection."""
    pairs = [(c, a) for c, a in zip(slopes, curvatures, strict=True) if c > 0]

    def length(mu: float) -> float:
        return math.sqrt(sum((c / (a + mu)) ** 2 if a + mu > 0 else math.inf for c, a in pairs))

    def decrease(mu: float) -> float:
        return sum(c * c / (a + mu) - 0.5 * a * (c / (a + mu)) ** 2 for c, a in pairs)

    if not pairs:
        return 0.0
    if length(0.0) <= radius:
        return decrease(0.0)
    low, high = 0.0, math.sqrt(sum(c * c for c, _ in pairs)) / radius
    for _ in range(100):
        middle = (low + high) / 2
        if length(middle) > radius:
            low = middle
        else:
            high = middle
    return decrease(high)


def random_decrease(objective: Objective, loss: float, *, generator: torch.Generator) -> float:
    """The median change of L along random directions at relative radius 0.1."""
    scales, size = objective.relative_scales(), objective.num_parameters
    changes = []
    for _ in range(REFERENCE_DIRECTIONS):
        direction = sphere_vector(size, generator=generator, dtype=objective.dtype, device=objective.device)
        step = REFERENCE_RADIUS * math.sqrt(size) * scales * direction
        change = abs(objective.loss(objective.theta + step) - loss)
        if math.isfinite(change):
            changes.append(change)
    return statistics.median(changes) if changes else 0.0
