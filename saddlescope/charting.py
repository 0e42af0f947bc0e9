"""The arrays that go with a report: the spectrum, and the loss on a plane through θ."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from saddlescope.contract.reports import Density, Landscape, LandscapePoint, RitzPair, Spectrum
from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.knowledge import SpectralKnowledge
from saddlescope.curvature.landscape import plane
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.quadrature import mass_below, smoothed_density

DENSITY_POINTS = 101


def make_spectrum(knowledge: SpectralKnowledge, *, size: int, with_density: bool) -> Spectrum:
    """All eigenvalues where they are known, else Ritz values and the quadrature of the start vector's spectral measure."""
    if knowledge.dense is not None:
        return Spectrum(
            exact=True,
            num_parameters=size,
            zero_tol=knowledge.zero_tol,
            spectral_scale=knowledge.scale,
            eigenvalues=tuple(knowledge.dense.eigenvalues.tolist()),
        )
    assert knowledge.cycle is not None  # noqa: S101 - one of the two methods ran
    ritz = knowledge.cycle.ritz()
    pairs = zip(ritz.values.tolist(), ritz.residual_norms.tolist(), ritz.weights.tolist(), strict=True)
    return Spectrum(
        exact=False,
        num_parameters=size,
        zero_tol=knowledge.zero_tol,
        spectral_scale=knowledge.scale,
        eigenvalues=None,
        ritz=tuple(RitzPair(value=value, residual_norm=residual, weight=weight) for value, residual, weight in pairs),
        density=_density(knowledge) if with_density else None,
    )


def _density(knowledge: SpectralKnowledge) -> Density:
    assert knowledge.cycle is not None  # noqa: S101 - the caller's branch
    ritz = knowledge.cycle.ritz()
    low, high = ritz.values[0].item(), ritz.values[-1].item()
    margin = 0.05 * max(high - low, math.ulp(high))
    grid = torch.linspace(low - margin, high + margin, DENSITY_POINTS, dtype=torch.float64)
    bounds = [mass_below(knowledge.cycle, point) for point in grid.tolist()]
    return Density(
        grid=tuple(grid.tolist()),
        density=tuple(smoothed_density(knowledge.cycle, grid).tolist()),
        cumulative_low=tuple(below for below, _ in bounds),
        cumulative_high=tuple(above for _, above in bounds),
    )


def make_landscape(
    objective: Objective,
    operator: HessianOperator,
    measured: Preflight,
    knowledge: SpectralKnowledge,
    paths: tuple[EscapePath, ...],
) -> Landscape | None:
    """L on the plane of the best escape (else the lowest curvature) and the highest curvature; of both parameters when n = 2.

    None for a single parameter, which spans no plane.
    """
    if objective.num_parameters < 2:
        return None
    if objective.num_parameters == 2:
        names = list(objective.tensors(objective.theta))
        labels = (names[0], names[1]) if len(names) == 2 else (f"{names[0]}[0]", f"{names[0]}[1]")
        x_axis, y_axis = torch.eye(2, dtype=objective.dtype, device=objective.device)
    else:
        labels = ("escape direction" if paths else "lowest curvature", "highest curvature")
        y_axis = knowledge.highest.vector / knowledge.highest.vector.norm()
        x_axis = paths[0].vector if paths else knowledge.lowest_direction.vector
        x_axis = x_axis - torch.dot(x_axis, y_axis) * y_axis
        x_axis = x_axis / x_axis.norm()
    reach = max((path.step for path in paths if path.verified), default=0.0)
    grid = plane(objective, operator, measured, (x_axis, y_axis), reach=reach)
    return Landscape(
        x_label=labels[0],
        y_label=labels[1],
        x=grid.x,
        y=grid.y,
        loss=grid.loss,
        quadratic=grid.quadratic,
        escape=_end_of_escape(paths, (x_axis, y_axis)),
    )


def _end_of_escape(paths: tuple[EscapePath, ...], axes: tuple[Tensor, Tensor]) -> LandscapePoint | None:
    """Where θ + step·u of the best escape lies on the plane; None unless its decrease was measured."""
    if not paths or not paths[0].verified:
        return None
    best = paths[0]
    x, y = (best.step * torch.dot(best.vector.double(), axis.double()).item() for axis in axes)
    return LandscapePoint(x=x, y=y)
