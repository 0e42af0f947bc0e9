"""The last word: evaluations of L at finite distance, where derivatives say nothing or the way out is curved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from saddlescope.curvature.escape import GRID, Direction, EscapePath, relative_step, search
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator

PROBE_RADII = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def probe_decrease(objective: Objective, measured: Preflight, directions: Sequence[Tensor]) -> float:
    """How far L falls along ± directions (n,), given in units of a relative step, at relative radii 1e-4 to 1; 0 if nowhere."""
    lowest = measured.loss
    for direction in directions:
        for radius in PROBE_RADII:
            for sign in (1, -1):
                value = objective.loss(objective.theta + sign * radius * direction)
                lowest = min(lowest, value) if math.isfinite(value) else lowest
    decrease = measured.loss - lowest
    return decrease if decrease > 4 * measured.loss_noise else 0.0


def arc_escape(
    objective: Objective, operator: HessianOperator, measured: Preflight, down: tuple[Tensor, Tensor]
) -> EscapePath | None:
    """The escape to the lowest point of the arc θ + tz − ½t²·bend over a geometric grid of t, both ways.

    The chord to that point is the direction, so that θ + step·u lies on the arc. Costs about 80 evaluations of L.
    """
    z, bend = down
    scale = relative_step(objective, z)
    best: tuple[float, Tensor] | None = None
    for relative in GRID:
        for sign in (1.0, -1.0):
            t = sign * relative * scale
            displacement = t * z - 0.5 * t * t * bend
            value = objective.loss(objective.theta + displacement)
            if math.isfinite(value) and (best is None or value < best[0]):
                best = (value, displacement)
    if best is None or not best[0] < measured.loss - 4 * measured.loss_noise:
        return None
    length = best[1].norm().item()
    unit = best[1] / length
    product = operator.matvec(unit)
    curvature = torch.dot(unit, product).item()
    chord = Direction(unit, curvature, (product - curvature * unit).norm().item())
    return search(objective, chord, measured, scale=length)
