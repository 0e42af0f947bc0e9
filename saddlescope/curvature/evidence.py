"""What a verdict may rest on, and what it is: plain numbers and words, no tensors of H."""

from __future__ import annotations

from dataclasses import dataclass

from saddlescope.contract.vocabulary import Strength, Verdict
from saddlescope.curvature.contraction import Contraction
from saddlescope.curvature.criticality import Criticality
from saddlescope.curvature.degenerate import KernelFinding
from saddlescope.curvature.kantorovich import Kantorovich
from saddlescope.curvature.noise import Smoothness
from saddlescope.curvature.sampling import SampledCurvature
from saddlescope.curvature.valley import Valley


@dataclass(frozen=True)
class Bounds:
    """An extreme eigenvalue: what was measured, and an interval that holds up to `failure_probability`."""

    estimate: float
    low: float
    high: float
    failure_probability: float


@dataclass(frozen=True)
class Evidence:
    """All that a verdict may rest on.

    Attributes:
        inertia: (n₋, n₀, n₊) when every eigenvalue is known.
        kernel_obstacle: why orders three and four were not examined where `kernel` is None.
        gap_to_bound: L less a number that it never falls below, 0 where the difference is rounding; None if none is known.
        is_found: the point is where a search of the gradient's zeros ended.
        kantorovich: the test of a regular Hessian, where it was made.
        range_counts: (n₋, n₀, n₊) of a Hessian on whose large kernel `kernel` was only sampled.
        contraction: what a Newton step did, where ‖g‖ is not zero to rounding and an extremum might be claimed.
        valley: where a walk along the flat directions led, if a part of the kernel stayed silent.
        pivots: (n₋, n₀, n₊) by an independent factorization, where one was made.
    """

    criticality: Criticality
    smoothness: Smoothness
    lambda_min: Bounds
    lambda_max: Bounds
    zero_tol: float
    inertia: tuple[int, int, int] | None
    kernel: KernelFinding | None
    kernel_obstacle: str
    probe_decrease: float
    gap_to_bound: float | None
    sampled: SampledCurvature | None = None
    is_sample: bool = False
    is_found: bool = False
    kantorovich: Kantorovich | None = None
    range_counts: tuple[int, int, int] | None = None
    contraction: Contraction | None = None
    valley: Valley | None = None
    pivots: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Decision:
    """A verdict with the order of derivatives it rests on, its strength and one sentence."""

    verdict: Verdict
    order: int
    strength: Strength
    failure_probability: float
    statement: str


def undecided(statement: str) -> Decision:
    """Nothing is claimed, for this reason."""
    return Decision(Verdict.UNDECIDED, 2, Strength.NUMERICAL, 0.0, statement)
