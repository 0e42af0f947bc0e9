"""The search ends at a critical point, or says that it does not; and what scales may not change."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from himmelblau import CRITICAL_POINTS, himmelblau
from sklearn.datasets import load_digits
from torch import Tensor

import saddlescope
from saddlescope.curvature.critical_point import find_critical_point
from saddlescope.curvature.noise import preflight
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.search_outcome import CriticalPointSearch, SearchOutcome

Tensors = dict[str, Tensor]
Loss = Callable[[Tensors], Tensor]


def at(**values: object) -> Tensors:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def search(loss: Loss, theta: Tensors, **options: int) -> tuple[CriticalPointSearch, Tensors]:
    objective = Objective(Problem(loss=lambda t, _: loss(t), params=theta), dtype=torch.float64)
    operator = HessianOperator(objective, objective.theta)
    measured = preflight(objective, operator, generator=torch.Generator().manual_seed(0))
    found = find_critical_point(objective, measured, **options)
    moved = (found.theta - objective.theta).norm().item()
    assert found.distance == pytest.approx(moved, rel=1e-12)
    assert found.gradient_norm_after == pytest.approx(objective.gradient(found.theta)[1].norm().item(), rel=1e-9)
    assert found.gradient_norm_after <= found.gradient_norm_before
    return found, objective.tensors(found.theta)


def lecture(t: Tensors) -> Tensor:
    return (1 - t["w1"] * t["w2"]) ** 2


def rosenbrock(t: Tensors) -> Tensor:
    x, y = t["w"][0::2], t["w"][1::2]
    return (100 * (y - x**2) ** 2 + (1 - x) ** 2).sum()


def separable(t: Tensors) -> Tensor:
    return torch.nn.functional.softplus(-t["w"])


def test_from_the_slope_of_the_lecture_it_says_which_critical_point_it_reached() -> None:
    found, tensors = search(lecture, at(w1=1.0, w2=0.0))
    assert found.is_critical
    assert found.is_zero_to_rounding
    report = saddlescope.analyze(lecture, tensors, landscape=False)
    w1, w2 = tensors["w1"].item(), tensors["w2"].item()
    if abs(w1) + abs(w2) < 1e-6:
        assert report.verdict == "saddle"
        assert found.distance == pytest.approx(1.0)
    else:
        assert w1 * w2 == pytest.approx(1.0)
        assert report.verdict == "flat_minimum"


@pytest.mark.parametrize(("critical", "verdict"), CRITICAL_POINTS, ids=str)
def test_himmelblaus_nine_critical_points_attract_their_neighbourhoods(
    critical: tuple[float, float], verdict: str
) -> None:
    for angle in range(4):
        start = [critical[0] + 0.1 * math.cos(angle), critical[1] + 0.1 * math.sin(angle)]
        found, tensors = search(himmelblau, at(w=start))
        assert found.is_zero_to_rounding
        assert tensors["w"].tolist() == pytest.approx(critical, abs=1e-12)
        assert found.num_matvecs <= 20
    assert saddlescope.analyze(himmelblau, tensors, landscape=False).verdict == verdict


@pytest.mark.parametrize("blocks", [1, 20])
def test_rosenbrocks_valley_is_followed_to_its_end(blocks: int) -> None:
    found, tensors = search(rosenbrock, at(w=[-1.2, 1.0] * blocks))
    assert found.is_zero_to_rounding
    assert tensors["w"].tolist() == pytest.approx([1.0] * (2 * blocks), abs=1e-12)


@pytest.mark.parametrize(
    ("loss", "theta", "outcomes"),
    [
        (
            lambda t: t["x"] ** 3 / 3 + 0.001 * t["x"] + 0.5 * t["y"] ** 2,
            at(x=0.0, y=0.0),
            {SearchOutcome.GRADIENT_FLAT},
        ),
        (
            lambda t: t["x"] ** 3 / 3 + 0.001 * t["x"] + 0.5 * t["y"] ** 2,
            at(x=0.5, y=0.3),
            {SearchOutcome.GRADIENT_FLAT},
        ),
        (lambda t: t["x"] + t["y"] ** 2, at(x=0.0, y=1.0), {SearchOutcome.GRADIENT_FLAT, SearchOutcome.STALLED}),
        *((separable, at(w=w), {SearchOutcome.TOO_FAR}) for w in (0.0, 1.0, 5.0, 30.0)),
        (separable, at(w=500.0), {SearchOutcome.TOO_FAR, SearchOutcome.GRADIENT_FLAT, SearchOutcome.STALLED}),
    ],
)
def test_where_there_is_no_critical_point_none_is_claimed(
    loss: Loss, theta: Tensors, outcomes: set[SearchOutcome]
) -> None:
    found, _ = search(loss, theta)
    assert not found.is_critical
    assert not found.is_zero_to_rounding
    assert found.outcome in outcomes


def test_a_spent_budget_is_said() -> None:
    found, _ = search(rosenbrock, at(w=[-1.2, 1.0]), max_matvecs=10)
    assert found.outcome is SearchOutcome.BUDGET_SPENT
    assert found.num_matvecs <= 12


def test_a_critical_point_is_not_moved() -> None:
    found, _ = search(rosenbrock, at(w=[1.0, 1.0]))
    assert (found.outcome, found.distance, found.num_matvecs) == (SearchOutcome.CONVERGED, 0.0, 0)


def digits() -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    chosen = labels < 3
    images = torch.tensor(pixels[chosen][:90] / 16).view(-1, 1, 8, 8)
    return torch.nn.functional.avg_pool2d(images, 2).view(-1, 16), torch.tensor(labels[chosen][:90])


def test_a_network_in_the_middle_of_training_reaches_a_critical_point() -> None:
    inputs, labels = digits()
    generator = torch.Generator().manual_seed(0)

    def loss(t: Tensors) -> Tensor:
        scores = torch.tanh(inputs @ t["a"].T + t["b"]) @ t["c"].T + t["d"]
        decay = sum(tensor.square().sum() for tensor in t.values())
        return torch.nn.functional.cross_entropy(scores, labels) + 5e-3 * decay

    theta = {
        "a": torch.randn(3, 16, generator=generator, dtype=torch.float64) / 4,
        "b": torch.zeros(3, dtype=torch.float64),
        "c": torch.randn(3, 3, generator=generator, dtype=torch.float64) / 2,
        "d": torch.zeros(3, dtype=torch.float64),
    }
    for _ in range(60):
        leaves = {name: tensor.requires_grad_() for name, tensor in theta.items()}
        gradients = torch.autograd.grad(loss(leaves), list(leaves.values()))
        theta = {n: (t - 0.3 * g).detach() for (n, t), g in zip(leaves.items(), gradients, strict=True)}
    found, tensors = search(loss, theta)
    assert found.gradient_norm_before > 1e-2
    assert found.is_critical
    assert found.gradient_norm_after < 1e-12
    report = saddlescope.analyze(loss, tensors, landscape=False)
    assert report.verdict in {"saddle", "local_minimum"}, report.summary


def test_rescaling_a_layer_or_the_loss_changes_no_verdict_and_no_outcome() -> None:
    inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets = inputs @ torch.tensor([[1.0, -2.0], [0.5, 0.0], [0.0, 1.0]], dtype=torch.float64)

    def loss(t: Tensors) -> Tensor:
        return (inputs @ t["a"] @ t["b"] - targets).square().mean() + 0.3

    generator = torch.Generator().manual_seed(2)
    start = {
        "a": torch.randn(3, 2, generator=generator, dtype=torch.float64),
        "b": torch.randn(2, 2, generator=generator, dtype=torch.float64),
    }
    _, minimum = search(loss, start)
    origin = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
    for theta in (start, minimum, origin):
        plain = saddlescope.analyze(loss, theta, landscape=False)
        found, _ = search(loss, theta)
        for factor in (1e-2, 1e2):
            rescaled = {"a": theta["a"] * factor, "b": theta["b"] / factor}
            assert saddlescope.analyze(loss, rescaled, landscape=False).verdict == plain.verdict
            again, _ = search(loss, rescaled)
            assert again.outcome == found.outcome
            assert again.relative_distance == pytest.approx(found.relative_distance, rel=1e-4, abs=1e-9)
        for slope, shift in ((1e-6, 0.0), (1e6, 0.0), (2.0, 5.0)):
            other = saddlescope.analyze(lambda t, a=slope, b=shift: a * loss(t) + b, theta, landscape=False)
            assert other.verdict == plain.verdict, (other.summary, plain.summary)
