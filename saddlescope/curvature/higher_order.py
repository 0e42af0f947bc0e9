"""Whether orders three and four may decide at θ, and what they say there."""

from __future__ import annotations

import torch

from saddlescope.curvature.criticality import Criticality
from saddlescope.curvature.degenerate import KernelFinding, examine_kernel, is_consistent
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.spectrum import SpectralKnowledge
from saddlescope.curvature.symmetry import explain_kernel

NOT_NEEDED = "which is not needed here"
SINGLE_PRECISION = "which single precision cannot resolve: analyse with dtype float64"
NOT_ZERO = "only where the gradient is zero to rounding, which it is not here: train on, or search the critical point"
INCONSISTENT = (
    "but an operation of this loss has wrong third or fourth derivatives in autograd (layer_norm is known to): "
    "write it out in elementary operations"
)


def obstacle(objective: Objective, critical: Criticality, knowledge: SpectralKnowledge) -> str:
    """Why orders three and four are not examined; empty where they may decide.

    They do where H is semidefinite with a kernel, in double precision, and ‖g‖ is zero to rounding.
    """
    inertia = knowledge.inertia
    if knowledge.dense is None or inertia is None or not inertia[1] or (inertia[0] and inertia[2]):
        return NOT_NEEDED
    if objective.dtype != torch.float64:
        return SINGLE_PRECISION
    return "" if critical.is_zero_to_rounding else NOT_ZERO


def examined(
    objective: Objective,
    operator: HessianOperator,
    measured: Preflight,
    knowledge: SpectralKnowledge,
    *,
    generator: torch.Generator,
) -> tuple[KernelFinding | None, str]:
    """What orders three and four say on the kernel, or what was in the way after all."""
    dense = knowledge.dense
    assert dense is not None  # noqa: S101 - there is no obstacle
    is_zero = dense.eigenvalues.abs() <= knowledge.zero_tol
    kernel = dense.eigenvectors[:, is_zero]
    explanation = explain_kernel(objective, operator, kernel, measured, knowledge.scale)
    is_explained = explanation.dimension == kernel.shape[1]
    theta = operator.theta.detach()
    if not is_explained and not is_consistent(objective, theta, generator=generator):
        return None, INCONSISTENT
    finding = examine_kernel(
        objective,
        theta,
        kernel=kernel,
        pseudo_inverse=(dense.eigenvalues[~is_zero], dense.eigenvectors[:, ~is_zero]),
        generator=generator,
        explanation=explanation,
    )
    return finding, ""
