"""What is known of the spectrum, by either method, in one shape: bounds, tolerance, inertia, directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saddlescope.curvature.certificate import lambda_max_bound, lambda_min_bound
from saddlescope.curvature.dense import DenseSpectrum, dense_spectrum
from saddlescope.curvature.escape import Direction
from saddlescope.curvature.lanczos import LanczosCycle, sphere_vector, tridiagonalize
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.quadrature import Share, mass_below, share_interval
from saddlescope.curvature.verdict import Bounds

RESIDUAL_RTOL = 1e-3
BOUND_RTOL = 1e-2
TOLERANCE_FACTOR = 8
MIN_LANCZOS_STEPS = 20


@dataclass(frozen=True)
class SpectralKnowledge:
    """Either all eigenpairs (`dense`) or a Lanczos cycle with certified bounds (`cycle`).

    Attributes:
        scale: max|λ| as far as known.
        zero_tol: τ; an eigenvalue within ±τ counts as zero.
        error: a bound on what rounding does to an eigenvalue, ‖E‖.
        asymmetry: ‖(H − Hᵀ)/2‖ as measured.
        negative: share of eigenvalues below −τ, with bounds.
        positive: share above τ; the minimum ratio.
        inertia: (n₋, n₀, n₊) where every eigenvalue is known.
        is_budget_spent: the cycle ended before its bounds had settled.
    """

    dense: DenseSpectrum | None
    cycle: LanczosCycle | None
    scale: float
    zero_tol: float
    error: float
    asymmetry: float
    lambda_min: Bounds
    lambda_max: Bounds
    negative: Share
    positive: Share
    inertia: tuple[int, int, int] | None
    lowest: tuple[Direction, ...]
    highest: Direction
    is_budget_spent: bool


def tolerance(error: float, *, zero_tol: float | None, loss_noise: float, reach: float) -> float:
    """τ: eight times the error of an eigenvalue, the user's, or what changes L by its rounding at the trust radius `reach`."""
    return max(TOLERANCE_FACTOR * error, zero_tol or 0.0, 2 * loss_noise / reach**2)


def by_eigendecomposition(
    operator: HessianOperator,
    measured: Preflight,
    *,
    zero_tol: float | None,
    num_directions: int,
    generator: torch.Generator,
    on_progress: Callable[[float], None],
) -> SpectralKnowledge:
    """All eigenpairs, for n products and O(n³) flops."""
    dense = dense_spectrum(operator, on_progress=on_progress)
    values, n = dense.eigenvalues, operator.size
    error = max(dense.asymmetry, 2 * measured.matvec_noise, dense.rounding)
    tau = tolerance(error, zero_tol=zero_tol, loss_noise=measured.loss_noise, reach=_reach(operator))
    negative, positive = int((values < -tau).sum()), int((values > tau).sum())
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
        positive=Share(positive / n, positive / n, positive / n),
        inertia=(negative, n - negative - positive, positive),
        lowest=directions,
        highest=_dense_direction(operator, dense, dense.eigenvectors[:, -1]),
        is_budget_spent=False,
    )


def _reach(operator: HessianOperator) -> float:
    return float(operator.objective.relative_scales().double().norm().item())


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
        chosen.append(dense.eigenvectors[:, start:stop] @ torch.linalg.qr(mixture).Q)
        start = stop
    return torch.cat(chosen, dim=1) if chosen else dense.eigenvectors[:, :0]


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
) -> SpectralKnowledge:
    """One reorthogonalized Lanczos cycle from a uniform start: Ritz pairs, certified bounds, and shares by quadrature.

    Costs at most `max_matvecs` products and two more for each direction that is kept.
    """
    objective, n = operator.objective, operator.size
    start = sphere_vector(n, generator=generator, dtype=objective.dtype, device=objective.device)
    reach = _reach(operator)

    def tau_of(scale: float) -> tuple[float, float]:
        error = max(2 * measured.matvec_noise, 8 * torch.finfo(objective.dtype).eps * scale)
        return error, tolerance(error, zero_tol=zero_tol, loss_noise=measured.loss_noise, reach=reach)

    settled = False

    def should_stop(cycle: LanczosCycle) -> bool:
        nonlocal settled
        ritz = cycle.ritz()
        scale = ritz.values.abs().max().item()
        _, tau = tau_of(scale)
        on_progress(cycle.num_steps / max_matvecs, ritz.values[0].item(), ritz.residual_norms[0].item())
        wanted = max(1, min(num_directions, int((ritz.values < -tau).sum())))
        ends = torch.cat([ritz.residual_norms[:wanted], ritz.residual_norms[-1:]])
        settled = cycle.num_steps >= MIN_LANCZOS_STEPS and bool((ends <= RESIDUAL_RTOL * scale).all())
        if settled and ritz.values[0].item() > -tau:
            bound = lambda_min_bound(
                cycle, size=n, failure_probability=failure_probability, product_error=measured.matvec_noise
            )
            settled = ritz.values[0].item() - bound <= BOUND_RTOL * scale
        return settled

    cycle = tridiagonalize(operator.matvec, start, num_matvecs=max_matvecs, should_stop=should_stop)
    ritz = cycle.ritz()
    scale = ritz.values.abs().max().item()
    error, tau = tau_of(scale)
    low = lambda_min_bound(cycle, size=n, failure_probability=failure_probability, product_error=measured.matvec_noise)
    high = lambda_max_bound(cycle, size=n, failure_probability=failure_probability, product_error=measured.matvec_noise)
    num_negative = int((ritz.values < -tau).sum())
    lowest = tuple(
        _measured_direction(operator, cycle.vector(ritz.coefficients[:, index]))
        for index in range(max(1, min(num_directions, num_negative)))
    )
    highest = _measured_direction(operator, cycle.vector(ritz.coefficients[:, -1]))
    below, above = mass_below(cycle, -tau), mass_below(cycle, tau)
    negative = share_interval(below, size=n, failure_probability=failure_probability)
    positive = share_interval((1 - above[1], 1 - above[0]), size=n, failure_probability=failure_probability)
    # A Ritz value within its residual norm of zero may stand for a zero eigenvalue: its weight estimates neither side.
    weights, width = ritz.weights, ritz.residual_norms.clamp(min=tau)
    return SpectralKnowledge(
        dense=None,
        cycle=cycle,
        scale=scale,
        zero_tol=tau,
        error=error,
        asymmetry=measured.asymmetry,
        # A Rayleigh quotient of a measured unit vector bounds λ_min from above, whatever Lanczos did.
        lambda_min=Bounds(ritz.values[0].item(), low, lowest[0].curvature + error, failure_probability),
        lambda_max=Bounds(ritz.values[-1].item(), highest.curvature - error, high, failure_probability),
        negative=replace(negative, estimate=_clipped(weights[ritz.values < -width].sum().item(), negative)),
        positive=replace(positive, estimate=_clipped(weights[ritz.values > width].sum().item(), positive)),
        inertia=None,
        lowest=lowest if num_negative else (),
        highest=highest,
        is_budget_spent=not (settled or cycle.is_exhausted),
    )


def _clipped(estimate: float, share: Share) -> float:
    return min(max(estimate, share.low), share.high)


def _measured_direction(operator: HessianOperator, vector: Tensor) -> Direction:
    """A unit vector with its Rayleigh quotient and residual from one product of its own."""
    product = operator.matvec(vector).double()
    unit = vector.double()
    curvature = (torch.dot(unit, product) / torch.dot(unit, unit)).item()
    return Direction(vector, curvature, (product - curvature * unit).norm().item())
