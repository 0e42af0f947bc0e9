"""Whether orders three and four may decide at θ, and what they say there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from saddlescope.curvature.criticality import Criticality
from saddlescope.curvature.degenerate import NOTHING, NUM_STARTS, KernelFinding, examine_complement, examine_kernel
from saddlescope.curvature.derivatives import is_consistent
from saddlescope.curvature.errors import OutOfMemory
from saddlescope.curvature.knowledge import SpectralKnowledge
from saddlescope.curvature.low_rank import MAX_DISTINCT, Range, find_range
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.probes import arc_escape
from saddlescope.curvature.symmetry import explain_kernel

WHOLE_EXACT = 32  # parameters; where H = 0 with more of them, autograd's fourth derivatives may take the square of n

NOT_NEEDED = "which is not needed here"
SINGLE_PRECISION = "which single precision cannot resolve: analyse with dtype float64"
NOT_ZERO = "only where the gradient is zero to rounding, which it is not here: train on, or search the critical point"
INCONSISTENT = (
    "but an operation of this loss has wrong third or fourth derivatives in autograd (layer_norm is known to): "
    "write it out in elementary operations"
)
NO_MEMORY = "for whose derivatives the memory does not suffice"
NO_RANGE = (
    "but which directions are flat is not known: H has too many different eigenvalues to be told apart by products"
)


@dataclass(frozen=True)
class HigherOrders:
    """What orders three and four say, or what was in the way.

    Attributes:
        counts: (n₋, n₀, n₊) where the kernel is too large for the finding to exclude anything: a descent that a quartic hides in
            a cone of measured width was missed from 24 dimensions on, and from 12 starts never in up to 16.
    """

    finding: KernelFinding | None
    obstacle: str
    counts: tuple[int, int, int] | None = None


def obstacle(objective: Objective, critical: Criticality, knowledge: SpectralKnowledge) -> str:
    """Why orders three and four are not examined; empty where they may decide.

    They do where H is semidefinite with a kernel that is known, in double precision, and ‖g‖ is zero to rounding.
    """
    if not _is_silent(knowledge):
        return NOT_NEEDED
    if knowledge.dense is None and not _has_few_eigenvalues(knowledge):
        return NO_RANGE
    if objective.dtype != torch.float64:
        return SINGLE_PRECISION
    return "" if critical.is_zero_to_rounding else NOT_ZERO


def _is_silent(knowledge: SpectralKnowledge) -> bool:
    """H has a kernel as far as is known, and eigenvalues of one sign beside it."""
    if knowledge.inertia is not None:
        negative, zero, positive = knowledge.inertia
        return zero > 0 and not (negative and positive)
    low, high, tau = knowledge.lambda_min, knowledge.lambda_max, knowledge.zero_tol
    return (low.estimate >= -tau and low.low <= tau) or (high.estimate <= tau and high.high >= -tau)


def _has_few_eigenvalues(knowledge: SpectralKnowledge) -> bool:
    cycle = knowledge.cycle
    return cycle is not None and cycle.is_exhausted and cycle.num_steps <= MAX_DISTINCT


def examined(
    objective: Objective,
    operator: HessianOperator,
    measured: Preflight,
    knowledge: SpectralKnowledge,
    *,
    generator: torch.Generator,
) -> HigherOrders:
    """What orders three and four say on the kernel, or what was in the way after all."""
    try:
        if knowledge.dense is None:
            return _beside_the_range(objective, operator, measured, knowledge, generator)
        return _on_the_kernel(objective, operator, measured, knowledge, generator)
    except OutOfMemory:
        return HigherOrders(None, NO_MEMORY)


def _on_the_kernel(
    objective: Objective,
    operator: HessianOperator,
    measured: Preflight,
    knowledge: SpectralKnowledge,
    generator: torch.Generator,
) -> HigherOrders:
    dense = knowledge.dense
    assert dense is not None  # noqa: S101 - the caller's branch
    is_zero = dense.eigenvalues.abs() <= knowledge.zero_tol
    if bool(is_zero.all()) and operator.size > WHOLE_EXACT:
        return HigherOrders(
            _confirmed_beside(Range.empty(operator.theta), objective, operator, measured, generator),
            "",
            knowledge.inertia,
        )
    kernel = dense.eigenvectors[:, is_zero]
    explanation = explain_kernel(objective, operator, kernel, measured, knowledge.scale)
    is_explained = explanation.dimension == kernel.shape[1]
    theta = operator.theta.detach()
    if not is_explained and not is_consistent(objective, theta, generator=generator):
        return HigherOrders(None, INCONSISTENT)
    finding = examine_kernel(
        objective,
        theta,
        kernel=kernel,
        pseudo_inverse=(dense.eigenvalues[~is_zero], dense.eigenvectors[:, ~is_zero]),
        generator=generator,
        explanation=explanation,
    )
    is_searched = kernel.shape[1] - explanation.dimension <= NUM_STARTS
    return HigherOrders(finding, "", None if is_searched else knowledge.inertia)


def _beside_the_range(
    objective: Objective,
    operator: HessianOperator,
    measured: Preflight,
    knowledge: SpectralKnowledge,
    generator: torch.Generator,
) -> HigherOrders:
    """H of low rank: its kernel is the complement of what few products find."""
    theta = operator.theta.detach()
    known = find_range(
        operator.matvec,
        operator.size,
        zero_tol=knowledge.zero_tol,
        generator=generator,
        dtype=theta.dtype,
        device=theta.device,
        bases=operator.objective.problem.bases,
    )
    if known is None:
        return HigherOrders(None, NO_RANGE)
    counts = known.counts(operator.size)
    if counts[0] and counts[2]:
        return HigherOrders(None, NOT_NEEDED)
    return HigherOrders(_confirmed_beside(known, objective, operator, measured, generator), "", counts)


def _confirmed_beside(
    known: Range, objective: Objective, operator: HessianOperator, measured: Preflight, generator: torch.Generator
) -> KernelFinding:
    """What differences find beside the range of H; a descent only where L itself falls along it."""
    theta = operator.theta.detach()
    finding = examine_complement(
        objective,
        theta,
        measured.gradient,
        pseudo_inverse=(known.values.to(theta), known.vectors),
        loss_noise=measured.loss_noise,
        generator=generator,
    )
    if finding.down is None:
        return finding
    path = arc_escape(objective, operator, measured, finding.down)
    return finding if path is not None and path.verified else replace(NOTHING, num_directions=finding.num_directions)
