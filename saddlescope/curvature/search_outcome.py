"""Where a search of a critical point ended, and how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class SearchOutcome(StrEnum):
    """How a search ended; only the first is a critical point."""

    CONVERGED = "the gradient vanishes to the tolerance and the Newton steps die out"
    GRADIENT_FLAT = "‖g‖ has a local minimum that is not zero: g lies in the flat directions of H"
    STALLED = "no step reduces ‖g‖ further, yet it is above the tolerance"
    TOO_FAR = "‖g‖ falls only by leaving the neighbourhood of θ: no critical point was found near it"
    BUDGET_SPENT = "the products allowed were spent before ‖g‖ reached the tolerance"


@dataclass(frozen=True)
class CriticalPointSearch:
    """Where a search ended.

    Attributes:
        theta: the last point (n,), in the working dtype; θ itself where nothing was gained.
        gradient_norm_before: ‖g‖ at θ.
        gradient_norm_after: ‖g‖ at the last point.
        gradient_tol: what was asked of the latter.
        rounding_floor: below this ‖g‖ is zero to rounding at the last point; a pre-flight there measures it better.
        distance: how far the point moved, ‖θ* − θ‖.
        relative_distance: the root mean square of the move in units of each tensor's own size.
        newton_step: relative length of the next Newton step, which tells a critical point from a receding tail.
    """

    theta: Tensor
    outcome: SearchOutcome
    gradient_norm_before: float
    gradient_norm_after: float
    gradient_tol: float
    rounding_floor: float
    distance: float
    relative_distance: float
    newton_step: float
    num_matvecs: int
    num_steps: int

    @property
    def is_critical(self) -> bool:
        return self.outcome is SearchOutcome.CONVERGED

    @property
    def is_zero_to_rounding(self) -> bool:
        return self.is_critical and self.gradient_norm_after <= self.rounding_floor
