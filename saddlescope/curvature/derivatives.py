"""Third and fourth derivatives of L along a direction, and whether autograd has them right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.backoff import with_less_memory
from saddlescope.curvature.errors import OutOfMemory
from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.objective import Objective, differentiate
from saddlescope.curvature.operator import HessianOperator

DIFFERENCE_RADIUS = 1e-3
NUM_CHECKS = 6


@dataclass(frozen=True)
class HigherOrder:
    """D³[z,z,·] (n,), D⁴[z,z,z,·] (n,) of L at θ along one z."""

    cubic: Tensor
    quartic: Tensor


def derivatives_along(objective: Objective, theta: Tensor, direction: Tensor) -> HigherOrder:
    """Third and fourth derivatives of L at θ (n,) along z (n,), by nested reverse mode; about twenty gradients.

    Raises:
        OutOfMemory: if even one row at a time does not fit, or the rows may not be regrouped.
    """

    def give_way(cause: OutOfMemory) -> None:
        if not objective.halve_batches():
            raise cause

    return with_less_memory(lambda: _derivatives(objective, theta, direction), give_way)


def _derivatives(objective: Objective, theta: Tensor, direction: Tensor) -> HigherOrder:
    cubic = torch.zeros_like(theta)
    quartic = torch.zeros_like(theta)
    leaf = theta.detach().clone().requires_grad_()
    for weight, batch in objective.batches():
        value = objective.batch_loss(leaf, batch)
        for order in range(1, 5):
            if not value.requires_grad:
                break
            derivative = differentiate(value, leaf, create_graph=order < 4)
            if order == 3:
                cubic.add_(derivative.detach(), alpha=weight)
            elif order == 4:
                quartic.add_(derivative.detach(), alpha=weight)
            value = torch.dot(derivative, direction)
    return HigherOrder(cubic, quartic)


def is_consistent(objective: Objective, theta: Tensor, *, generator: torch.Generator) -> bool:
    """Whether autograd's third and fourth derivatives along random directions agree with differences of vᵀHv.

    An operation may have a right second derivative and a wrong third one (torch 2.13's `layer_norm` has). Costs three
    products and one fourth derivative for each of six directions.
    """
    return all(_agrees(objective, theta, generator) for _ in range(NUM_CHECKS))


def _agrees(objective: Objective, theta: Tensor, generator: torch.Generator) -> bool:
    direction = sphere_vector(theta.numel(), generator=generator, dtype=theta.dtype, device=theta.device)
    terms = derivatives_along(objective, theta, direction)
    third, fourth = torch.dot(terms.cubic, direction).item(), torch.dot(terms.quartic, direction).item()
    step = DIFFERENCE_RADIUS * max(objective.relative_scales().norm().item(), 1e-300)

    def curvature(distance: float) -> float:
        operator = HessianOperator(objective, theta + distance * direction, graph_bytes=0)
        return torch.dot(direction, operator.matvec(direction)).item()

    ahead, here, behind = curvature(step), curvature(0.0), curvature(-step)
    size = abs(ahead) + abs(here) + abs(behind)
    noise = 1e3 * torch.finfo(theta.dtype).eps * size
    truncation = abs(fourth) * step**2 + abs(third) * step
    allowed = 0.05 * truncation + noise
    odd, even = (ahead - behind) / 2, ahead + behind - 2 * here
    return bool(abs(odd - third * step) <= allowed and abs(even - fourth * step**2) <= allowed)
