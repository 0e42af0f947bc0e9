"""Is there a critical point near θ, how far, and has it this inertia? The Newton–Kantorovich test.

With β = ‖H⁻¹‖, η = ‖H⁻¹g‖ and a Lipschitz constant K of the Hessian near θ, h = βηK ≤ ½ proves one critical point within
t* = (1 − √(1 − 2h))/(βK); there ‖H(x) − H(θ)‖ ≤ K t* ≤ 1/β, so no eigenvalue changes sign (Ortega 1968). The constant is
estimated here from sampled directions, which bounds it from below: the outcome is numerical evidence, not a proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator

SAFETY = 4.0
NUM_DIRECTIONS = 4
NUM_POWER_STEPS = 3


@dataclass(frozen=True)
class Kantorovich:
    """β, η, K and h = βηK; `distance` is t* where h ≤ ½, else None."""

    inverse_norm: float
    newton_norm: float
    lipschitz: float
    h: float
    distance: float | None

    @property
    def holds(self) -> bool:
        return self.distance is not None


def kantorovich_test(*, inverse_norm: float, newton_norm: float, lipschitz: float) -> Kantorovich:
    """The test from β, η and K; an infinite β is that of a singular Hessian."""
    if newton_norm == 0 or lipschitz == 0:
        return Kantorovich(inverse_norm, newton_norm, lipschitz, 0.0, newton_norm)
    h = inverse_norm * newton_norm * lipschitz
    if not h <= 0.5:
        return Kantorovich(inverse_norm, newton_norm, lipschitz, h, None)
    # (1 − √(1−2h))/(βK), without cancellation for small h.
    return Kantorovich(inverse_norm, newton_norm, lipschitz, h, 2 * newton_norm / (1 + math.sqrt(1 - 2 * h)))


def near_critical_point(
    objective: Objective,
    theta: Tensor,
    gradient: Tensor,
    *,
    inverse_norm: float,
    eigenpairs: tuple[Tensor, Tensor] | None,
    generator: torch.Generator,
) -> Kantorovich:
    """The test at θ (n,) from g (n,), ‖H⁻¹‖ ≤ `inverse_norm`, and all eigenpairs of H, values (n,) and columns (n, n), if known.

    Without them ‖H⁻¹g‖ is bounded by ‖H⁻¹‖‖g‖, and the gradient's direction stands for the Newton step's. About 28 products.
    """
    step = gradient * inverse_norm
    if eigenpairs is not None:
        values, vectors = eigenpairs
        step = (vectors @ ((vectors.T @ gradient.to(vectors)) / values)).to(gradient)
    if not torch.isfinite(step).all():
        return Kantorovich(inverse_norm, math.inf, math.inf, math.inf, None)
    return kantorovich_test(
        inverse_norm=inverse_norm,
        newton_norm=step.norm().item(),
        lipschitz=lipschitz_estimate(objective, theta, step, generator=generator),
    )


def lipschitz_estimate(
    objective: Objective, theta: Tensor, newton_step: Tensor, *, generator: torch.Generator
) -> float:
    """Four times the largest ‖H(θ + rv) − H(θ − rv)‖/2r seen, for v the Newton step (n,) and three random directions.

    r = 2‖newton_step‖ is the radius within which the test needs K. Each norm comes from three power steps. Costs about
    28 products at 8 points.
    """
    radius = 2 * newton_step.norm().item()
    if radius == 0.0:
        return 0.0
    size = objective.num_parameters

    def draw() -> Tensor:
        return sphere_vector(size, generator=generator, dtype=objective.dtype, device=objective.device)

    largest = 0.0
    for direction in (newton_step / newton_step.norm(), *(draw() for _ in range(NUM_DIRECTIONS - 1))):
        ahead, behind = (
            HessianOperator(objective, theta + sign * radius * direction, graph_bytes=0) for sign in (1, -1)
        )
        vector = draw()
        for _ in range(NUM_POWER_STEPS):
            image = (ahead.matvec(vector) - behind.matvec(vector)) / (2 * radius)
            norm = image.norm().item()
            largest = max(largest, norm)
            if norm == 0.0:
                break
            vector = image / norm
    return SAFETY * largest
