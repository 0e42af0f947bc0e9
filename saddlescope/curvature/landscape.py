"""The loss on a plane through θ, beside its quadratic model."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.escape import relative_step
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator

SIDES = (25, 17, 11, 7)
BUDGET_SECONDS = 2.0


@dataclass(frozen=True)
class Plane:
    """L(θ + x[j]·u + y[i]·v) as loss[i][j], and the quadratic model on the same grid; None where L is not finite."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    loss: tuple[tuple[float | None, ...], ...]
    quadratic: tuple[tuple[float, ...], ...]


def plane(
    objective: Objective, operator: HessianOperator, measured: Preflight, axes: tuple[Tensor, Tensor], *, reach: float
) -> Plane:
    """Evaluate L on a square grid spanned by two orthonormal directions (n,), out to one and a half times `reach`.

    Where `reach` is zero, a step as long as θ stands for it.

    Costs two products and 625 evaluations, or fewer where those would take more than two seconds.
    """
    began = time.perf_counter()
    for _ in range(3):
        objective.loss(operator.theta)
    affordable = BUDGET_SECONDS / max((time.perf_counter() - began) / 3, 1e-9)
    side = next((k for k in SIDES if k * k <= affordable), SIDES[-1])
    x, y = (_axis(reach or relative_step(objective, axis), side) for axis in axes)
    u, v = axes
    products = operator.matvec(u), operator.matvec(v)
    slopes = [torch.dot(measured.gradient.double(), axis.double()).item() for axis in axes]
    uu, vv = (torch.dot(axis.double(), hv.double()).item() for axis, hv in zip(axes, products, strict=True))
    uv = torch.dot(v.double(), products[0].double()).item()
    losses, models = [], []
    for b in y:
        values = [objective.loss(operator.theta + a * u + b * v) for a in x]
        losses.append(tuple(value if math.isfinite(value) else None for value in values))
        models.append(
            tuple(
                measured.loss + a * slopes[0] + b * slopes[1] + 0.5 * (a * a * uu + 2 * a * b * uv + b * b * vv)
                for a in x
            )
        )
    return Plane(x=x, y=y, loss=tuple(losses), quadratic=tuple(models))


def _axis(reach: float, side: int) -> tuple[float, ...]:
    half = side // 2
    return tuple(1.5 * reach * index / half for index in range(-half, half + 1))
