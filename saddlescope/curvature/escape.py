"""The way out: along a direction of negative curvature, by line search on the true loss over the whole data set.

A finite drop proves a lower loss at that distance; only curvature proves that θ is no minimum. The two stay apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective

GRID = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 3))  # relative steps 1e-4 to 10
SECTIONS = 8
CURVE_POINTS = 12
PARABOLAS = 8
SUFFICIENT = 0.1
STEP_RTOL = 1e-9
KEPT_SHARE = 0.9  # of the decrease: a cast that keeps this much is good enough
HELD_TRIALS = 8
LONGER = tuple(2.0 ** (exponent / 2) for exponent in range(1, 13))
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Direction:
    """A unit vector (n,), its curvature uᵀHu and the residual norm ‖Hu − (uᵀHu)u‖."""

    vector: Tensor
    curvature: float
    residual_norm: float


@dataclass(frozen=True)
class EscapePath:
    """What was measured along a direction; the vector is the unit direction as the checkpoint's dtypes can hold it.

    θ + step·vector, rounded to the checkpoint's dtypes, has the loss `loss_after`.
    """

    vector: Tensor
    curvature: float
    residual_norm: float
    slope: float
    step: float
    loss_before: float
    loss_after: float
    predicted_decrease: float
    verified: bool
    is_lost_to_rounding: bool
    steps: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def decrease(self) -> float:
        return self.loss_before - self.loss_after

    def quadratic(self, step: float) -> float:
        return self.loss_before + step * self.slope + 0.5 * step**2 * self.curvature


def relative_step(objective: Objective, direction: Tensor) -> float:
    """The length of a step along a unit direction (n,) that is as long as θ in relative coordinates."""
    relative = (direction.double() / objective.relative_scales().double()).norm().item()
    return float(math.sqrt(objective.num_parameters) / relative)


def search(
    objective: Objective,
    direction: Direction,
    measured: Preflight,
    *,
    scale: float | None = None,
    keeps_side: bool = False,
) -> EscapePath:
    """Follow a direction both ways over a geometric grid, refine the best step, and measure it as the checkpoint holds it.

    Downhill (gᵀu ≤ 0) is taken as positive; where the slope is zero to rounding, the side that falls further is. A step
    counts if L falls by at least a tenth of what the quadratic model says and by more than its rounding. About 45
    evaluations of L. The grid is in units of `scale`, a step as long as θ where none is given. With `keeps_side` the
    direction is followed as it is given, and only so.
    """
    unit = _unit(objective, direction.vector)
    slope = torch.dot(measured.gradient.double(), unit.double()).item()
    if slope > 0 and not keeps_side:
        unit, slope = -unit, -slope
    scale = relative_step(objective, unit) if scale is None else scale
    line = partial(_Side, objective=objective, measured=measured, curvature=direction.curvature, scale=scale)
    sides = [line(unit=unit, slope=slope)]
    if -slope <= measured.gradient_floor and not keeps_side:
        sides.append(line(unit=-unit, slope=-slope))
    outcomes = [side.best() for side in sides]
    chosen = min(range(len(sides)), key=lambda k: outcomes[k][1])
    side, (step, _) = sides[chosen], outcomes[chosen]
    seen = dict(side.seen)
    if len(sides) == 2:
        seen |= {-alpha: value for alpha, value in sides[1 - chosen].seen.items()}
    seen[0.0] = measured.loss
    step, after = side.held(step)
    is_lower = step > 0.0 and after < measured.loss - 4 * measured.loss_noise
    steps = tuple(sorted(alpha for alpha in seen if math.isfinite(seen[alpha])))
    return EscapePath(
        vector=side.unit,
        curvature=direction.curvature,
        residual_norm=direction.residual_norm,
        slope=side.slope,
        step=step,
        loss_before=measured.loss,
        loss_after=after,
        predicted_decrease=-(step * side.slope + 0.5 * step**2 * direction.curvature),
        verified=is_lower,
        is_lost_to_rounding=step > 0.0 and not is_lower,
        steps=steps,
        losses=tuple(seen[alpha] for alpha in steps),
    )


def _unit(objective: Objective, vector: Tensor) -> Tensor:
    held = objective.rounded(vector / vector.norm())
    return vector / vector.norm() if not held.any() else held


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One side of the line: α > 0 along `unit`."""

    objective: Objective
    measured: Preflight
    unit: Tensor
    slope: float
    curvature: float
    scale: float
    seen: dict[float, float] = field(default_factory=dict)

    def loss(self, step: float) -> float:
        if step not in self.seen:
            value = self.objective.loss(self.objective.theta + step * self.unit)
            self.seen[step] = value if math.isfinite(value) else math.inf
        return self.seen[step]

    def is_sufficient(self, step: float) -> bool:
        predicted = min(step * self.slope + 0.5 * step**2 * self.curvature, 0.0)
        target = self.measured.loss + SUFFICIENT * predicted
        return self.loss(step) <= target and self.loss(step) < self.measured.loss - 4 * self.measured.loss_noise

    def best(self) -> tuple[float, float]:
        """(step, loss) of the lowest sufficient point, or (0, L(θ)) when there is none."""
        grid = [relative * self.scale for relative in GRID]
        enough = [index for index, step in enumerate(grid) if self.is_sufficient(step)]
        if not enough:
            return 0.0, self.measured.loss
        index_of_best = min(enough, key=lambda k: self.loss(grid[k]))
        low, high = grid[max(index_of_best - 1, 0)], grid[min(index_of_best + 1, len(grid) - 1)]
        self._refine(low, high)
        for index in range(1, CURVE_POINTS + 1):  # evenly spaced, for whoever looks at the curve
            self.loss(2 * grid[index_of_best] * index / CURVE_POINTS)
        candidates = [step for step in self.seen if self.is_sufficient(step)]
        step = min(candidates, key=lambda alpha: (self.seen[alpha], alpha))
        return step, self.seen[step]

    def held(self, step: float) -> tuple[float, float]:
        """The step, and L at θ + step·unit as the checkpoint's dtypes hold it; another step where rounding spoils this one.

        In bfloat16 a step is lost where it is under 1/256 of θ, so longer ones are tried, and other good ones of the curve.
        """
        if step == 0.0:
            return step, self.measured.loss
        after = self._loss_held(step)
        if self.measured.loss - after >= KEPT_SHARE * (self.measured.loss - self.loss(step)):
            return step, after
        others = sorted((a for a in self.seen if a > 0 and self.is_sufficient(a)), key=lambda a: self.seen[a])
        tried = {step: after}
        for other in [*others[1 : 1 + HELD_TRIALS], *(step * factor for factor in LONGER)]:
            tried[other] = self._loss_held(other)
        best = min(tried, key=lambda alpha: (tried[alpha], alpha))
        return best, tried[best]

    def _loss_held(self, step: float) -> float:
        value = self.objective.loss(self.objective.moved(step, self.unit))
        return value if math.isfinite(value) else math.inf

    def _refine(self, low: float, high: float) -> None:
        """Golden sections, then parabolas through the best three points, which converge faster than linearly."""
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        for _ in range(SECTIONS):
            if self.loss(left) <= self.loss(right):
                high, right = right, left
                left = high - GOLDEN * (high - low)
            else:
                low, left = left, right
                right = low + GOLDEN * (high - low)
        for _ in range(PARABOLAS):
            nearest = sorted(self.seen.items(), key=lambda pair: pair[1])[:3]
            vertex = _vertex(nearest)
            if vertex is None or not low / 2 < vertex < high * 2:
                return
            if min(abs(vertex - step) for step, _ in nearest) <= STEP_RTOL * vertex:
                return
            self.loss(vertex)


def _vertex(points: Sequence[tuple[float, float]]) -> float | None:
    (a, fa), (b, fb), (c, fc) = points
    numerator = (b - a) ** 2 * (fb - fc) - (b - c) ** 2 * (fb - fa)
    denominator = (b - a) * (fb - fc) - (b - c) * (fb - fa)
    if denominator == 0 or not math.isfinite(numerator / denominator):
        return None
    return b - 0.5 * numerator / denominator


def descent(objective: Objective, measured: Preflight) -> float:
    """What a line-searched step along −g gains on the true loss; 0 where the gradient is zero to rounding."""
    norm = measured.gradient.double().norm().item()
    if norm <= measured.gradient_floor:
        return 0.0
    path = search(objective, Direction(-measured.gradient / norm, 0.0, 0.0), measured)
    return max(path.decrease, 0.0) if path.verified else 0.0
