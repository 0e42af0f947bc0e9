"""The wanted ends of the spectrum after the first Lanczos cycle: restarts, further copies, and measured directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from saddlescope.curvature.escape import Direction
from saddlescope.curvature.lanczos import LanczosCycle, Matvec, sphere_vector
from saddlescope.curvature.orthogonal import accurate_dot, accurate_norm
from saddlescope.curvature.restart import KrylovSpace, Pairs, run
from saddlescope.curvature.two_pass import outermost_vectors

RESIDUAL_RTOL = 1e-3
RESOLVED_RTOL = 0.1
LOCKED_FACTOR = 3
MIN_STEPS = 20
MODEST_ROWS = 12


@dataclass(frozen=True)
class Extremes:
    """Measured unit directions at both ends.

    Attributes:
        lowest: ascending by curvature, at least one; those after the first lie below −τ.
        highest: of the largest Ritz value.
        is_settled: their residual norms are within the tolerance.
        num_matvecs: products spent after the first cycle, those of the measurements not counted.
    """

    lowest: tuple[Direction, ...]
    highest: Direction
    is_settled: bool
    num_matvecs: int


@dataclass(kw_only=True)
class EndsGoal:
    """When the ends of the spectrum are known well enough, by residual norms.

    Attributes:
        tolerance_of: spectral scale to τ.
        num_directions: negative pairs wanted, copies included.
    """

    tolerance_of: Callable[[float], float]
    num_directions: int
    scale: float = field(default=0.0)

    def see(self, values: Tensor) -> float:
        """Take Ritz values into the spectral scale; τ."""
        self.scale = max(self.scale, values.abs().max().item())
        return self.tolerance_of(self.scale)

    def wanted(self, values: Tensor) -> int:
        """How many of the lowest Ritz pairs are wanted: those below −τ up to the number asked, and one in any case."""
        return max(1, min(self.num_directions, int((values < -self.see(values)).sum())))

    def is_met(self, values: Tensor, residual_norms: Tensor) -> bool:
        """The wanted pairs have converged, and the sign of the lowest is clear from its residual or is zero."""
        tau, wanted = self.see(values), self.wanted(values)
        ends = torch.cat([residual_norms[:wanted], residual_norms[-1:]])
        lowest = abs(values[0].item())
        is_resolved = lowest <= tau or residual_norms[0].item() <= RESOLVED_RTOL * lowest
        return is_resolved and bool((ends <= RESIDUAL_RTOL * self.scale).all())


def find_extremes(
    matvec: Matvec,
    cycle: LanczosCycle,
    goal: EndsGoal,
    *,
    is_settled: bool,
    max_matvecs: int,
    generator: torch.Generator,
    on_progress: Callable[[int, float, float], None],
    is_brief: bool = False,
) -> Extremes:
    """Restart until the goal is met, look for further copies of negative pairs, and measure each direction by a product.

    If `is_brief`, as many negative pairs as wanted are enough, be others as low. Costs at most `max_matvecs` products, and one for
    each direction. Overwrites the cycle's basis. Where that holds fewer than
    `MODEST_ROWS` vectors, two-pass Lanczos takes the place of restarts.
    """
    storage, spent = cycle.storage, 0
    if cycle.storage.num_rows <= MODEST_ROWS and not (is_settled or cycle.is_exhausted) and max_matvecs >= 4:
        start = storage.row(0).clone()
        del storage
        ends = outermost_vectors(matvec, start, num_matvecs=max_matvecs)
        low, high = (measured_direction(matvec, vector) for vector in ends)
        goal.see(torch.tensor([low.curvature, high.curvature], dtype=torch.float64))
        settled = max(low.residual_norm, high.residual_norm) <= RESIDUAL_RTOL * goal.scale
        return Extremes((low,), high, settled, max_matvecs)
    space = KrylovSpace(cycle)

    def is_met(pairs: Pairs) -> bool:
        on_progress(spent + space.num_matvecs, pairs.values[0].item(), pairs.residual_norms[0].item())
        return goal.is_met(pairs.values, pairs.residual_norms)

    if not (is_settled or cycle.is_exhausted):
        is_settled = run(space, matvec, max_matvecs=max_matvecs, lowest=goal.num_directions, should_stop=is_met)
    pairs = space.ritz()
    highest = measured_direction(matvec, space.vector(pairs.coefficients[:, -1]))
    allowed = min(max_matvecs - space.num_matvecs, cycle.num_steps + space.num_matvecs)
    is_enough = is_brief and goal.wanted(pairs.values) >= goal.num_directions
    if (is_settled or cycle.is_exhausted) and not is_enough:
        _find_copies(matvec, space, goal, max_matvecs=allowed, generator=generator)
    pairs = space.ritz()
    vectors = [space.vector(pairs.coefficients[:, index]) for index in range(goal.wanted(pairs.values))]
    lowest = sorted((measured_direction(matvec, vector) for vector in vectors), key=lambda found: found.curvature)
    return Extremes(tuple(lowest), highest, is_settled, space.num_matvecs)


def _find_copies(
    matvec: Matvec, space: KrylovSpace, goal: EndsGoal, *, max_matvecs: int, generator: torch.Generator
) -> None:
    """Lock the negative pairs found and start afresh beside them, until what is found no longer belongs among the wanted."""
    size, end = space.num_parameters, space.num_matvecs + max_matvecs
    if not goal.num_directions or space.size == size:
        return
    while space.num_matvecs < end:
        pairs = space.ritz()
        tau, tol = goal.see(pairs.values), RESIDUAL_RTOL * goal.scale
        # The bounds of pairs that were locked before add up to more than they are.
        converged = (pairs.values < -tau) & (pairs.residual_norms <= LOCKED_FACTOR * tol)
        locked = converged.nonzero().flatten()[: goal.num_directions]
        count = locked.numel()
        if not count or count >= min(size, space.capacity - MIN_STEPS // 2):
            return
        start = sphere_vector(size, generator=generator, dtype=space.dtype, device=space.device)
        least = min(MIN_STEPS, space.capacity - count)
        last = pairs.values[locked[-1]].item()
        space.deflate(pairs, locked, start)

        def is_met(found: Pairs, least: int = least, tol: float = tol) -> bool:
            enough = space.is_exhausted or found.values.numel() >= least
            return enough and found.residual_norms[0].item() <= tol

        met = run(
            space,
            matvec,
            max_matvecs=end - space.num_matvecs,
            lowest=goal.num_directions,
            should_stop=is_met,
            first=count,
        )
        found = space.ritz(count).values[0].item()
        if not met or found >= -tau or (count == goal.num_directions and found >= last):
            return


def measured_direction(matvec: Matvec, vector: Tensor) -> Direction:
    """A unit vector (n,) with its Rayleigh quotient and residual norm from one product of its own."""
    product = matvec(vector).clone(memory_format=torch.contiguous_format)
    curvature = accurate_dot(vector, product) / accurate_dot(vector, vector)
    product.sub_(vector, alpha=curvature)
    return Direction(vector, curvature, accurate_norm(product))
