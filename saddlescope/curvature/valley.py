"""Along the floor of a valley: does L fall where orders two, three and four are silent?

A kernel direction on which the reduced quartic vanishes may still descend at a higher order, and along a curve:
(y − x³)(y − 2x³) rises on every line through its origin and falls on y = 1.5x³. So the kernel is walked: a step of finite
length along z, then down to the floor of the valley by Newton steps in the curved directions, θ's own H⁺ serving as the
inverse. A drop that is seen so does not prove a descent at θ, but it forbids the name of a minimum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.contraction import Solve
from saddlescope.curvature.escape import relative_step
from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective

RADII = (1e-2, 3e-2, 1e-1, 3e-1, 1.0)
NUM_DIRECTIONS = 8
NUM_CORRECTIONS = 4
ROUNDINGS = 4


@dataclass(frozen=True)
class Valley:
    """What a walk along the flat directions found.

    Attributes:
        change: how far L falls (positive), or rises where a rise was looked for, at the best point; 0 if nowhere.
        radius: the relative distance of that point.
        displacement: from θ to it, (n,); None if there is none.
        num_directions: how many flat directions were walked, both ways.
    """

    change: float
    radius: float
    displacement: Tensor | None
    num_directions: int


def walk_valley(
    objective: Objective,
    measured: Preflight,
    flat: Tensor,
    solve: Solve,
    *,
    generator: torch.Generator,
    upward: bool = False,
    first: Sequence[Tensor] = (),
) -> Valley:
    """Walk flat directions, columns of (n, m), at relative radii 1e-2 to 1, each corrected to the valley's floor.

    `solve` is v ↦ H⁺v on the curved directions, and `first` are flat directions to walk beside the random ones. Costs
    about 25 gradients and evaluations for each of eight directions and each sign.
    """
    sign = -1.0 if upward else 1.0
    columns = flat.shape[1]
    directions = [*first, *flat.T] if columns <= NUM_DIRECTIONS else [*first]
    while len(directions) < NUM_DIRECTIONS and columns > 1:
        drawn = flat @ sphere_vector(columns, generator=generator, dtype=flat.dtype, device=flat.device)
        directions.append(drawn / drawn.norm())
    best = Valley(0.0, 0.0, None, len(directions))
    for direction in directions:
        z = direction.to(objective.dtype)
        scale = relative_step(objective, z)
        for radius in (*RADII, *(-radius for radius in RADII)):
            displacement, change = _descended(objective, measured, radius * scale * z, solve, sign)
            if change > max(best.change, ROUNDINGS * measured.loss_noise):
                best = Valley(change, abs(radius), displacement, len(directions))
    return best


def _descended(
    objective: Objective, measured: Preflight, displacement: Tensor, solve: Solve, sign: float
) -> tuple[Tensor, float]:
    """The point reached from θ + displacement by Newton steps that lower sign·L, and how far it lies below L(θ)."""
    theta = objective.theta
    value = sign * objective.loss(theta + displacement)
    for _ in range(NUM_CORRECTIONS):
        if not math.isfinite(value):
            return displacement, 0.0
        _, gradient = objective.gradient(theta + displacement)
        step = solve(gradient)
        if not torch.isfinite(step).all() or not step.any():
            break
        moved, lower = displacement - step, math.inf
        for _ in range(NUM_CORRECTIONS):
            lower = sign * objective.loss(theta + moved)
            if lower < value:
                break
            step = step / 4
            moved = displacement - step
        if not lower < value:
            break
        is_settled = value - lower <= measured.loss_noise
        displacement, value = moved, lower
        if is_settled:
            break
    return displacement, sign * measured.loss - value if math.isfinite(value) else 0.0
