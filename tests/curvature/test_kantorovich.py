"""Newton–Kantorovich: where the test holds, the critical point lies within the distance, with the same inertia."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from saddlescope.curvature.dense import dense_spectrum
from saddlescope.curvature.kantorovich import kantorovich_test, lipschitz_estimate, near_critical_point
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator


def himmelblau(t: dict[str, Tensor], _: dict[str, Tensor]) -> Tensor:
    x, y = t["w"]
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


POINTS = {
    (3.0, 2.0): 0,
    (-2.805118086952745, 3.131312518250573): 0,
    (3.385154183607021, 0.0738518798377493): 1,
    (-0.2708445906673476, -0.9230385564799816): 2,
}


@pytest.mark.parametrize("critical", POINTS, ids=str)
@pytest.mark.parametrize("offset", [1e-2, 1e-4, 1e-8])
def test_the_critical_point_lies_within_the_distance(critical: tuple[float, float], offset: float) -> None:
    target = torch.tensor(critical, dtype=torch.float64)
    theta = target + offset * torch.tensor([0.6, -0.8], dtype=torch.float64)
    objective = Objective(Problem(loss=himmelblau, params={"w": theta}), dtype=torch.float64)
    dense = dense_spectrum(HessianOperator(objective, theta))
    _, gradient = objective.gradient(theta)
    outcome = near_critical_point(
        objective,
        theta,
        gradient,
        inverse_norm=1 / dense.eigenvalues.abs().min().item(),
        eigenpairs=(dense.eigenvalues, dense.eigenvectors),
        generator=torch.Generator().manual_seed(0),
    )
    assert outcome.holds
    assert outcome.distance is not None
    assert (theta - target).norm().item() <= outcome.distance * (1 + 1e-9) + 1e-14
    assert outcome.distance <= 2.1 * outcome.newton_norm
    assert int((dense.eigenvalues < 0).sum()) == POINTS[critical]


def test_it_does_not_hold_far_away_or_on_a_singular_hessian() -> None:
    assert not kantorovich_test(inverse_norm=1.0, newton_norm=1.0, lipschitz=0.51).holds
    assert kantorovich_test(inverse_norm=1.0, newton_norm=1.0, lipschitz=0.5).distance == pytest.approx(2.0)
    objective = Objective(Problem(loss=himmelblau, params={"w": torch.ones(2).double()}), dtype=torch.float64)
    pairs = torch.tensor([0.0, 2.0]).double(), torch.eye(2, dtype=torch.float64)
    gradient, generator = torch.ones(2).double(), torch.Generator().manual_seed(0)
    singular = near_critical_point(
        objective, objective.theta, gradient, inverse_norm=float("inf"), eigenpairs=pairs, generator=generator
    )
    assert not singular.holds


@pytest.mark.parametrize("x", [1e-1, 1e-4, 1e-8])
def test_it_does_not_hold_on_the_way_to_an_inflection(x: float) -> None:
    """x³ + y² has a definite Hessian at every x > 0, and no minimum."""
    theta = torch.tensor([x, 0.0], dtype=torch.float64)
    objective = Objective(
        Problem(loss=lambda t, _: t["w"][0] ** 3 + t["w"][1] ** 2, params={"w": theta}), dtype=torch.float64
    )
    dense = dense_spectrum(HessianOperator(objective, theta))
    outcome = near_critical_point(
        objective,
        theta,
        objective.gradient(theta)[1],
        inverse_norm=1 / (6 * x),
        eigenpairs=(dense.eigenvalues, dense.eigenvectors),
        generator=torch.Generator().manual_seed(0),
    )
    assert not outcome.holds


def test_the_estimate_bounds_the_hessian_along_the_way() -> None:
    # L = x³/6·k has H = kx: its Lipschitz constant is k exactly, and the estimate is four times it.
    objective = Objective(
        Problem(loss=lambda t, _: 7 * t["w"][0] ** 3 / 6 + t["w"].square().sum(), params={"w": torch.ones(3).double()}),
        dtype=torch.float64,
    )
    step = torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64)
    estimate = lipschitz_estimate(objective, objective.theta, step, generator=torch.Generator().manual_seed(0))
    assert estimate == pytest.approx(28.0, rel=1e-6)
