"""What is known of the spectrum, by either method, in one shape: bounds, tolerance, inertia, directions."""

from __future__ import annotations

from dataclasses import dataclass

from saddlescope.curvature.dense import DenseSpectrum
from saddlescope.curvature.escape import Direction
from saddlescope.curvature.evidence import Bounds
from saddlescope.curvature.lanczos import LanczosCycle
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.quadrature import Share

TOLERANCE_FACTOR = 8


@dataclass(frozen=True)
class SpectralKnowledge:
    """Either all eigenpairs (`dense`) or the coefficients of a Lanczos cycle with certified bounds (`cycle`, its basis gone).

    Attributes:
        scale: max|λ| as far as known.
        zero_tol: τ; an eigenvalue within ±τ counts as zero.
        error: a bound on what rounding does to an eigenvalue, ‖E‖.
        asymmetry: ‖(H − Hᵀ)/2‖ as measured.
        negative: share of eigenvalues below −τ, with bounds.
        zero: share within ±τ, with bounds.
        positive: share above τ; the minimum ratio.
        inertia: (n₋, n₀, n₊) where every eigenvalue is known.
        pivots: the same by an independent factorization, where the eigenvalues have one sign or are zero.
        lowest: measured directions of curvature below −τ, the lowest first, copies of a repeated eigenvalue included.
        lowest_direction: of the lowest curvature, whatever its sign.
        is_budget_spent: the products ended before the ends of the spectrum had settled.
        num_probes: random starts behind the shares; 0 where every eigenvalue is known.
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
    zero: Share
    positive: Share
    inertia: tuple[int, int, int] | None
    lowest: tuple[Direction, ...]
    lowest_direction: Direction
    highest: Direction
    is_budget_spent: bool
    num_probes: int = 0
    pivots: tuple[int, int, int] | None = None


def tolerance(error: float, *, zero_tol: float | None, loss_noise: float, reach: float) -> float:
    """τ: eight times the error of an eigenvalue, the user's, or what changes L by its rounding at the trust radius `reach`."""
    square = reach**2
    unseen = 2 * loss_noise / square if square > 0 else 0.0  # the square of a tiny reach may underflow
    return max(TOLERANCE_FACTOR * error, zero_tol or 0.0, unseen)


def reach_of(operator: HessianOperator) -> float:
    """‖s‖, the length of a step as long as θ in relative coordinates."""
    return float(operator.objective.relative_scales().double().norm().item())
