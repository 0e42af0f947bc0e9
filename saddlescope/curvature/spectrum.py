"""The spectrum by either method: all eigenpairs of a dense Hessian, or the ends and bounds that products give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from saddlescope.contract.planning import BASIS_BYTES
from saddlescope.curvature.certificate import lambda_max_bound, lambda_min_bound
from saddlescope.curvature.coordinates import coordinates_of
from saddlescope.curvature.dense import DenseSpectrum, dense_spectrum
from saddlescope.curvature.escape import Direction
from saddlescope.curvature.evidence import Bounds
from saddlescope.curvature.extremes import MIN_STEPS, EndsGoal, find_extremes
from saddlescope.curvature.inertia import inertia_by_ldl
from saddlescope.curvature.knowledge import SpectralKnowledge, reach_of, tolerance
from saddlescope.curvature.lanczos import LanczosCycle, tridiagonalize
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.planner import basis_rows
from saddlescope.curvature.probing import at_least, at_most, probe_shares, proven_counts
from saddlescope.curvature.quadrature import Share

BOUND_RTOL = 1e-2
MAX_PROBES = 8


def by_eigendecomposition(
    operator: HessianOperator,
    measured: Preflight,
    *,
    zero_tol: float | None,
    num_directions: int,
    generator: torch.Generator,
    on_progress: Callable[[float], None],
) -> SpectralKnowledge:
    """All eigenpairs, for n products and O(n³) flops.

    Where they would all have one sign, the count is made a second time by pivots, for a seventh of the eigensolver's time: a
    minimum shall not rest on one algorithm.
    """
    dense = dense_spectrum(operator, on_progress=on_progress)
    values, n = dense.eigenvalues, operator.size
    error = max(dense.asymmetry, 2 * measured.matvec_noise, dense.rounding)
    tau = tolerance(error, zero_tol=zero_tol, loss_noise=measured.loss_noise, reach=reach_of(operator))
    negative, positive = int((values < -tau).sum()), int((values > tau).sum())
    zero = n - negative - positive
    first, last = values[0].item(), values[-1].item()
    lowest = _generic_eigenvectors(dense, min(num_directions, negative), error, generator=generator)
    directions = tuple(_dense_direction(operator, dense, vector) for vector in lowest.T)
    return SpectralKnowledge(
        dense=dense,
        cycle=None,
        scale=dense.scale,
        zero_tol=tau,
        error=error,
        asymmetry=dense.asymmetry,
        lambda_min=Bounds(first, first - error, first + error, 0.0),
        lambda_max=Bounds(last, last - error, last + error, 0.0),
        negative=Share(negative / n, negative / n, negative / n),
        zero=Share(zero / n, zero / n, zero / n),
        positive=Share(positive / n, positive / n, positive / n),
        inertia=(negative, zero, positive),
        lowest=directions,
        lowest_direction=directions[0]
        if directions
        else _dense_direction(operator, dense, dense.invariant_basis(0, 1)[:, 0]),
        highest=_dense_direction(operator, dense, dense.invariant_basis(n - 1, n)[:, 0]),
        is_budget_spent=False,
        pivots=inertia_by_ldl(dense.hessian, tau) if tau > 0 and not (negative and positive) else None,
    )


def _generic_eigenvectors(dense: DenseSpectrum, count: int, error: float, *, generator: torch.Generator) -> Tensor:
    """Orthonormal eigenvectors (n, count) of the lowest eigenvalues, mixed at random within a repeated eigenvalue.

    A repeated eigenvalue comes from a symmetry such as equal hidden units; the solver's basis of its eigenspace tends to
    move one unit each, and a trainer that follows it keeps the others equal. A random member breaks the symmetry.
    """
    values, chosen, start = dense.eigenvalues, [], 0
    while start < count:
        stop = int((values <= values[start] + 2 * error).sum())
        wanted = min(stop, count) - start
        mixture = torch.randn(stop - start, wanted, generator=generator, dtype=torch.float64).to(values.device)
        chosen.append(dense.invariant_basis(start, stop) @ torch.linalg.qr(mixture).Q)
        start = stop
    # Eigenspaces found one by one overlap by rounding over their gap, and lose nothing when that is taken off.
    return torch.linalg.qr(torch.cat(chosen, dim=1)).Q if chosen else dense.hessian[:, :0]


def _dense_direction(operator: HessianOperator, dense: DenseSpectrum, vector: Tensor) -> Direction:
    product = dense.hessian @ vector
    curvature = torch.dot(vector, product).item()
    residual = (product - curvature * vector).norm().item()
    return Direction(vector.to(operator.objective.dtype), curvature, residual)


def by_lanczos(
    operator: HessianOperator,
    measured: Preflight,
    *,
    max_matvecs: int,
    failure_probability: float,
    zero_tol: float | None,
    num_directions: int,
    generator: torch.Generator,
    on_progress: Callable[[float, float, float], None],
    basis_bytes: int = BASIS_BYTES,
    max_probes: int = MAX_PROBES,
    is_late: Callable[[], bool] = lambda: False,
    is_brief: bool = False,
) -> SpectralKnowledge:
    """Extreme eigenpairs, certified bounds and shares of the spectrum from Hessian products alone.

    A first reorthogonalized cycle from a uniform start, as long as the budget and `basis_bytes` on each device allow, gives
    certificates and quadrature; restarts sharpen the ends beyond the memory, a deflated run finds copies, and what is left of
    the budget goes to further probes where those narrow the shares. At most `max_matvecs` products and one more for each
    direction kept. Once `is_late`, nothing more is begun. If `is_brief`, a saddle that is proven with as many directions as
    wanted ends the run: neither copies nor shares are looked for.
    """
    objective, n, reach = operator.objective, operator.size, reach_of(operator)
    epsilon = torch.finfo(objective.dtype).eps

    def error_of(scale: float) -> float:
        return max(2 * measured.matvec_noise, 8 * epsilon * scale)

    def tau_of(scale: float) -> float:
        return tolerance(error_of(scale), zero_tol=zero_tol, loss_noise=measured.loss_noise, reach=reach)

    goal = EndsGoal(tolerance_of=tau_of, num_directions=num_directions)

    def bounds_of(cycle: LanczosCycle) -> tuple[float, float]:
        noise, p = measured.matvec_noise, failure_probability
        return (
            lambda_min_bound(cycle, size=n, failure_probability=p, product_error=noise),
            lambda_max_bound(cycle, size=n, failure_probability=p, product_error=noise),
        )

    def is_settled(cycle: LanczosCycle) -> bool:
        ritz = cycle.ritz()
        values = ritz.values
        lowest, tau = values[0].item(), goal.see(values)
        on_progress(cycle.num_steps / max_matvecs, lowest, ritz.residual_norms[0].item())
        if cycle.num_steps < MIN_STEPS or not goal.is_met(values, ritz.residual_norms):
            return False
        bound = bounds_of(cycle)[0] if lowest >= -tau else lowest
        # A sign that a bound can still prove is worth the budget; that of zero is not to be had here.
        return bound > tau if lowest > tau else lowest - bound <= BOUND_RTOL * goal.scale

    bases = objective.problem.bases
    space = coordinates_of(operator)
    start = space.start(generator)
    rows = basis_rows(
        space.size * objective.theta.element_size(), bytes_per_device=basis_bytes, num_devices=bases.num_parts
    )
    cycle = tridiagonalize(
        space.matvec,
        start,
        num_matvecs=min(rows, max_matvecs, space.size),
        should_stop=lambda known: is_settled(known) or is_late(),
        bases=bases,
    )
    del start
    settled = cycle.is_exhausted or is_settled(cycle)
    low, high = bounds_of(cycle)
    steps = cycle.num_steps
    ends = find_extremes(
        space.matvec,
        cycle,
        goal,
        is_settled=settled,
        max_matvecs=0 if is_late() else max_matvecs - steps,
        generator=generator,
        on_progress=lambda spent, lowest, residual: on_progress((steps + spent) / max_matvecs, lowest, residual),
        is_brief=is_brief,
    )
    cycle = cycle.without_basis()
    error, tau = error_of(goal.scale), tau_of(goal.scale)
    is_saddle = ends.lowest[0].curvature + error < -tau and ends.highest.curvature - error > tau
    is_over = is_late() or (is_brief and is_saddle)
    spent = steps + ends.num_matvecs
    shares, num_probes = probe_shares(
        space.matvec,
        space.start,
        cycle,
        size=n,
        zero_tol=tau,
        failure_probability=failure_probability,
        num_affordable=1 if is_over else 1 + (max_matvecs - spent) // steps,
        max_probes=max_probes,
        generator=generator,
        bases=bases,
    )
    lowest = tuple(replace(found, vector=space.lift(found.vector)) for found in ends.lowest)
    negatives, positives = proven_counts(cycle, ends.lowest, tau, error=error)
    return SpectralKnowledge(
        dense=None,
        cycle=cycle,
        scale=goal.scale,
        zero_tol=tau,
        error=error,
        asymmetry=measured.asymmetry,
        # A Rayleigh quotient of a measured unit vector bounds λ_min from above, whatever Lanczos did.
        lambda_min=Bounds(
            max(ends.lowest[0].curvature, low), low, ends.lowest[0].curvature + error, failure_probability
        ),
        lambda_max=Bounds(min(ends.highest.curvature, high), ends.highest.curvature - error, high, failure_probability),
        negative=at_least(shares.negative, negatives / n),
        positive=at_least(shares.positive, positives / n),
        zero=at_most(shares.zero, 1 - (negatives + positives) / n),
        inertia=None,
        lowest=tuple(found for found in lowest if found.curvature < -tau),
        lowest_direction=lowest[0],
        highest=replace(ends.highest, vector=space.lift(ends.highest.vector)),
        is_budget_spent=not (settled or ends.is_settled),
        num_probes=num_probes,
    )
