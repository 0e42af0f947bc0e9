"""What four orders of derivatives cannot tell from a minimum is never called one, whatever lies beyond."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import saddlescope
from saddlescope.curvature.contraction import conjugate_gradients, dense_solve, newton_contraction
from saddlescope.curvature.dense import dense_spectrum
from saddlescope.curvature.noise import preflight
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator

Tensors = dict[str, Tensor]
EXTREMA = {"local_minimum", "flat_minimum", "local_maximum", "flat_maximum"}


def at(**values: float) -> Tensors:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def chain(names: str) -> Callable[[Tensors], Tensor]:
    return lambda t: (1 - torch.stack([t[name] for name in names]).prod()) ** 2


def deep_linear(depth: int) -> tuple[Callable[[Tensors], Tensor], Tensors]:
    """A product of 2×2 factors that has learnt the first of two singular values: descent has order `depth`."""
    target = torch.diag(torch.tensor([3.0, 2.0], dtype=torch.float64))
    factor = torch.diag(torch.tensor([3 ** (1 / depth), 0.0], dtype=torch.float64))

    def loss(t: Tensors) -> Tensor:
        product = torch.eye(2, dtype=t["f0"].dtype)
        for index in range(depth):
            product = product @ t[f"f{index}"]
        return ((product - target) ** 2).sum()

    return loss, {f"f{index}": factor.clone() for index in range(depth)}


def choi_lam(coupling: float) -> Callable[[Tensors], Tensor]:
    """A quartic form that is nonnegative and vanishes on lines up to a coupling of 4 (Choi, Lam 1977), then negative."""

    def loss(t: Tensors) -> Tensor:
        w, x, y, z = (t[name] for name in "wxyz")
        return w**4 + x**2 * y**2 + y**2 * z**2 + z**2 * x**2 - coupling * w * x * y * z

    return loss


@dataclass(frozen=True)
class Case:
    name: str
    loss: Callable[[Tensors], Tensor]
    theta: Tensors
    allowed: set[str]


HERE = at(x=0.0, y=0.0)
CASES = [
    Case("x²+y⁵", lambda t: t["x"] ** 2 + t["y"] ** 5, HERE, {"undecided"}),
    Case("x²−y⁶", lambda t: t["x"] ** 2 - t["y"] ** 6, HERE, {"undecided"}),
    Case("x²−y⁶/1000", lambda t: t["x"] ** 2 - 1e-3 * t["y"] ** 6, HERE, {"undecided"}),
    Case("x²+y⁶", lambda t: t["x"] ** 2 + t["y"] ** 6, HERE, {"flat_minimum", "undecided"}),
    Case("(y−x³)(y−2x³)", lambda t: (t["y"] - t["x"] ** 3) * (t["y"] - 2 * t["x"] ** 3), HERE, {"undecided"}),
    Case("(y−x²)(y−3x²)", lambda t: (t["y"] - t["x"] ** 2) * (t["y"] - 3 * t["x"] ** 2), HERE, {"saddle"}),
    Case(
        "(y−x²)(y−1.0001x²)",
        lambda t: (t["y"] - t["x"] ** 2) * (t["y"] - 1.0001 * t["x"] ** 2),
        HERE,
        {"saddle", "undecided"},
    ),
    Case("(y−x²)²", lambda t: (t["y"] - t["x"] ** 2) ** 2, HERE, {"flat_minimum"}),
    Case("(y−x²)²−x⁶/100", lambda t: (t["y"] - t["x"] ** 2) ** 2 - 1e-2 * t["x"] ** 6, HERE, {"undecided"}),
    Case("x²−y²·1e-14", lambda t: t["x"] ** 2 - 1e-14 * t["y"] ** 2, HERE, {"undecided", "saddle"}),
    Case("five factors", chain("abcde"), at(a=0.0, b=0.0, c=0.0, d=0.0, e=0.0), {"plateau", "saddle"}),
    Case("depth three", *deep_linear(3), {"saddle"}),
    Case("depth five", *deep_linear(5), {"undecided", "saddle"}),
    Case("Choi–Lam, 4", choi_lam(4.0), at(w=0.0, x=0.0, y=0.0, z=0.0), {"flat_minimum", "undecided"}),
    Case("Choi–Lam, 4.1", choi_lam(4.1), at(w=0.0, x=0.0, y=0.0, z=0.0), {"saddle"}),
    Case("x²+e⁻ʸ at 20", lambda t: t["x"] ** 2 + torch.exp(-t["y"]), at(x=0.0, y=20.0), {"undecided", "not_critical"}),
    Case("x²+e⁻ʸ at 40", lambda t: t["x"] ** 2 + torch.exp(-t["y"]), at(x=0.0, y=40.0), {"undecided", "not_critical"}),
    Case("x²+1/y at 1e4", lambda t: t["x"] ** 2 + 1 / t["y"], at(x=0.0, y=1e4), {"undecided", "not_critical"}),
    Case(
        "a floor far away",
        lambda t: 5e5 * t["x"] ** 2 + t["y"] + 5e-4 * t["y"] ** 2,
        HERE,
        {"undecided", "not_critical"},
    ),
    Case(
        "a saturated sigmoid",
        lambda t: t["x"] ** 2 + (torch.sigmoid(t["y"]) - 0.2) ** 2,
        at(x=0.0, y=40.0),
        {"undecided", "not_critical"},
    ),
]


@pytest.mark.parametrize("scale", [1.0, 1e-8])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_beyond_order_four(case: Case, scale: float) -> None:
    report = saddlescope.analyze(lambda t: scale * case.loss(t), case.theta, landscape=False)
    assert report.verdict in case.allowed


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name.startswith(("x²−y⁶", "x²+y⁵", "(y−x³)"))], ids=lambda case: case.name
)
def test_the_mirror_image_is_no_maximum(case: Case) -> None:
    assert saddlescope.analyze(lambda t: -case.loss(t), case.theta, landscape=False).verdict not in EXTREMA


def objective_of(loss: Callable[[Tensors], Tensor], theta: Tensors) -> Objective:
    return Objective(Problem(loss=lambda t, _: loss(t), params=theta), dtype=torch.float64)


@pytest.mark.parametrize("distance", [1e-6, 1e-3, 1e-1])
def test_near_a_minimum_a_newton_step_leaves_what_the_third_derivative_says(distance: float) -> None:
    """L = x²/2 + x³/6 has g = x + x²/2 and H = 1 + x; Newton's step from x ends at x²/2 /(1 + x)."""
    objective = objective_of(lambda t: t["x"] ** 2 / 2 + t["x"] ** 3 / 6, at(x=distance))
    operator = HessianOperator(objective, objective.theta)
    measured = preflight(objective, operator, generator=torch.Generator().manual_seed(0))
    found = newton_contraction(objective, measured, dense_solve(dense_spectrum(operator), 1e-12))
    end = distance**2 / 2 / (1 + distance)
    assert found.before == pytest.approx((distance + distance**2 / 2) / (1 + distance) ** 0.5, rel=1e-9)
    assert found.after == pytest.approx((end + end**2 / 2) / (1 + distance) ** 0.5, rel=1e-3)
    assert found.holds


def test_products_alone_give_the_same_contraction() -> None:
    curvatures = torch.linspace(0.5, 4, 40, dtype=torch.float64)
    objective = objective_of(
        lambda t: (0.5 * curvatures * t["x"] ** 2 + 0.1 * t["x"] ** 4).sum(),
        {"x": torch.linspace(-0.3, 0.3, 40, dtype=torch.float64)},
    )
    operator = HessianOperator(objective, objective.theta)
    measured = preflight(objective, operator, generator=torch.Generator().manual_seed(0))
    exact = newton_contraction(objective, measured, dense_solve(dense_spectrum(operator), 1e-12))
    products = newton_contraction(objective, measured, conjugate_gradients(operator.matvec))
    assert exact.holds
    assert products.holds
    assert products.before == pytest.approx(exact.before, rel=1e-2)


def test_an_infimum_at_infinity_never_contracts() -> None:
    for loss, place in (
        (lambda t: torch.exp(-t["x"]), 5.0),
        (lambda t: 1 / t["x"], 50.0),
        (lambda t: torch.nn.functional.softplus(-t["x"]), 12.0),
    ):
        objective = objective_of(loss, at(x=place))
        operator = HessianOperator(objective, objective.theta)
        measured = preflight(objective, operator, generator=torch.Generator().manual_seed(0))
        assert not newton_contraction(objective, measured, dense_solve(dense_spectrum(operator), 0.0)).holds


@pytest.mark.parametrize("lower_bound", [None, 0.0])
def test_a_strict_minimum_of_order_four_is_told_as_one_at_a_known_bound_too(lower_bound: float | None) -> None:
    report = saddlescope.analyze(lambda t: t["x"] ** 2 + t["y"] ** 4, HERE, lower_bound=lower_bound, landscape=False)
    assert (report.verdict, report.evidence.order) == ("local_minimum", 4)
