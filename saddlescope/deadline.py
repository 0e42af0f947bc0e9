"""Being done by a moment: what a run can still afford at the pace that was measured, and what it left out for want of time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

from saddlescope.contract.planning import DEFAULT_LANCZOS_MATVECS, Plan
from saddlescope.contract.reports import ReportWarning
from saddlescope.contract.vocabulary import Caution, Method
from saddlescope.curvature.criticality import KRYLOV_PRODUCTS
from saddlescope.curvature.operator import HessianOperator

MARGIN = 1.25  # of the measured pace: a step of Lanczos is more than its product, and a host has neighbours
EIGH_RATE = 2.5e9  # n³ a second of a full eigendecomposition on two slow cores
LINE_SEARCH = 90  # evaluations of L, both ways
ESSENTIAL = (
    KRYLOV_PRODUCTS + 3,
    LINE_SEARCH + 20,
)  # products and evaluations after the spectrum: criticality, one escape
FEWEST_MATVECS = 2


@dataclass
class Deadline:
    """A moment of `time.monotonic`, or None for as long as it takes.

    Attributes:
        omitted: what was left out, in words.
    """

    moment: float | None
    product_seconds: float = 0.0
    loss_seconds: float = 0.0
    omitted: list[str] = field(default_factory=list)

    def measure(self, operator: HessianOperator) -> None:
        """Time a product and an evaluation of L; neither is counted."""
        if self.moment is None:
            return
        self.product_seconds = operator.timed_product()
        began = time.perf_counter()
        operator.objective.loss(operator.theta)
        self.loss_seconds = time.perf_counter() - began

    def allows(self, *, products: float = 0.0, losses: float = 0.0, seconds: float = 0.0, or_else: str = "") -> bool:
        """Whether there is time for so much; if not, `or_else` is noted as left out."""
        fits = self._spare(products=products, losses=losses) >= seconds
        if not fits and or_else:
            self.omitted.append(or_else)
        return fits

    def _spare(self, *, products: float, losses: float) -> float:
        if self.moment is None:
            return math.inf
        left = self.moment - time.monotonic()
        return left - MARGIN * (products * self.product_seconds + losses * self.loss_seconds)

    def affordable_matvecs(self, *, reserve: tuple[int, int] = ESSENTIAL) -> float:
        """How many products fit beside a reserve of (products, evaluations)."""
        spare = self._spare(products=reserve[0], losses=reserve[1])
        return spare if math.isinf(spare) else max(0.0, spare / (MARGIN * max(self.product_seconds, 1e-9)))

    def is_late_for(self, products: int, losses: int) -> bool:
        """Whether there is no more time than for so much."""
        return not self.allows(products=products, losses=losses)

    def fitted(self, asked: Plan, num_parameters: int) -> Plan:
        """The plan, or the most of it that there is time for: Lanczos where all rows of H are too many, then fewer steps."""
        affordable = self.affordable_matvecs()
        if asked.method is Method.DENSE:
            seconds = num_parameters**3 / EIGH_RATE
            if self.allows(products=num_parameters, losses=ESSENTIAL[1], seconds=seconds):
                return asked
            self.omitted.append(f"the Hessian as a whole, for {num_parameters} products")
            asked = replace(asked, method=Method.LANCZOS, max_matvecs=min(num_parameters, DEFAULT_LANCZOS_MATVECS))
        if asked.max_matvecs <= affordable:
            return asked
        fewer = min(asked.max_matvecs, max(FEWEST_MATVECS, math.floor(affordable)))
        if fewer < asked.max_matvecs:
            self.omitted.append(f"{asked.max_matvecs - fewer} of at most {asked.max_matvecs} products of Lanczos")
        return replace(asked, max_matvecs=fewer)

    def cautions(self) -> tuple[ReportWarning, ...]:
        """What a reader should know was left out."""
        if not self.omitted:
            return ()
        detail = f"the deadline left no time for {'; '.join(self.omitted)}"
        return (ReportWarning(code=Caution.CUT_SHORT, detail=detail),)
