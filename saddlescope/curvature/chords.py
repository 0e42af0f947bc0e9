"""The straight way from θ to another point, as an escape that was measured and not searched."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.extremes import measured_direction
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator

CURVE = tuple(index / 8 for index in range(1, 13))  # of the step


def chord(objective: Objective, operator: HessianOperator, measured: Preflight, target: Tensor) -> EscapePath | None:
    """θ + step·u = `target` (n,) to the rounding of the checkpoint's dtypes, with L measured there.

    None if that is θ itself, or L is not finite there.

    Curvature and slope are those of u at θ, from one product. u goes where the target is, uphill or down at first.
    """
    displacement = target.double() - operator.theta.double()
    step = displacement.norm().item()
    held = objective.rounded(displacement / step) if step > 0 else displacement
    if not held.any():
        return None
    direction = measured_direction(operator.matvec, held.to(objective.dtype))
    slope = torch.dot(measured.gradient.double(), held.double()).item()
    losses = [objective.loss(objective.moved(share * step, held)) for share in CURVE]
    curve = [(0.0, measured.loss), *((share * step, loss) for share, loss in zip(CURVE, losses, strict=True))]
    finite = [(at, loss) for at, loss in curve if math.isfinite(loss)]
    after = losses[CURVE.index(1.0)]
    if not math.isfinite(after):
        return None
    return EscapePath(
        vector=held.to(objective.dtype),
        curvature=direction.curvature,
        residual_norm=direction.residual_norm,
        slope=slope,
        step=step,
        loss_before=measured.loss,
        loss_after=after,
        predicted_decrease=-(step * slope + 0.5 * step**2 * direction.curvature),
        verified=after < measured.loss - 4 * measured.loss_noise,
        is_lost_to_rounding=False,
        steps=tuple(at for at, _ in finite),
        losses=tuple(loss for _, loss in finite),
    )
