"""The critical point near a checkpoint: its verdict is told as its own, with how far away it is, and ways out from here."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from himmelblau import CRITICAL_POINTS, himmelblau
from sklearn.datasets import load_digits
from torch import Tensor

import saddlescope
from saddlescope.results import AnalysisReport

Tensors = dict[str, Tensor]
Loss = Callable[[Tensors], Tensor]
MINIMA = {"local_minimum", "flat_minimum"}


def at(*values: float, dtype: torch.dtype = torch.float64) -> Tensors:
    return {"w": torch.tensor(values, dtype=dtype)}


def searched(loss: Loss, theta: Tensors, **options: object) -> AnalysisReport:
    """With what holds of every search: whose verdict it is, how far away, and escapes that were measured from here."""
    report = saddlescope.analyze(loss, theta, critical_point_search=True, landscape=False, **options)
    codes = [warning.code for warning in report.warnings]
    found = report.evidence.facts.get("critical_point")
    assert report.loss == pytest.approx(loss({k: t.double() for k, t in theta.items()}).item(), rel=1e-6, abs=1e-12)
    if found is None:
        assert "at the critical point found" not in report.evidence.statement
        assert report.verdict not in MINIMA or report.criticality.is_critical
    else:
        assert not report.criticality.is_critical
        assert "critical_point_not_found" not in codes
        assert report.summary.startswith("The checkpoint itself is not critical")
        assert f"{found['distance']:.3g}" in report.summary
        assert found["distance"] > 0
        assert found["gradient_norm"] < report.criticality.gradient_norm
    for escape in report.escapes:
        moved = {name: tensor.clone() for name, tensor in theta.items()}
        escape.apply_(moved)
        assert loss(moved).item() == pytest.approx(escape.loss_after, rel=1e-6, abs=1e-12)
        assert escape.verified == (escape.loss_after < escape.loss_before)
        assert all(escape.vector[name].dtype == theta[name].dtype for name in theta)
    return report


def lecture(t: Tensors) -> Tensor:
    return (1 - t["w"][0] * t["w"][1]) ** 2


@pytest.mark.parametrize(("critical", "verdict"), CRITICAL_POINTS, ids=str)
def test_himmelblaus_critical_points_are_found_from_their_neighbourhoods(
    critical: tuple[float, float], verdict: str
) -> None:
    start = critical[0] + 0.1 * math.cos(1.0), critical[1] + 0.1 * math.sin(1.0)
    strict = {"critical_rtol": 1e-6}  # of the default 1 % some of these starts are critical already
    assert saddlescope.analyze(himmelblau, at(*start), landscape=False, **strict).verdict == "not_critical"
    report = searched(himmelblau, at(*start), **strict)
    assert report.verdict == verdict, report.summary
    assert report.evidence.facts["critical_point"]["distance"] == pytest.approx(0.1, rel=1e-9)
    assert report.advice.action != "stop"
    if verdict == "saddle":
        assert report.escapes[0].verified


def test_a_single_precision_checkpoint_is_searched_in_double_and_escapes_are_measured_in_its_own() -> None:
    report = searched(himmelblau, at(0.15, 2.8, dtype=torch.float32))
    assert report.verdict == "saddle"
    assert report.numerics.dtype == "float64"
    assert report.escapes[0].verified


def test_the_slope_of_the_lecture_leads_to_what_is_there() -> None:
    report = searched(lecture, at(1.0, 0.0))
    assert report.verdict in {"saddle", "flat_minimum"}
    assert "critical_point" in report.evidence.facts


def test_a_critical_checkpoint_is_not_moved() -> None:
    plain = saddlescope.analyze(lecture, at(0.0, 0.0), landscape=False)
    report = searched(lecture, at(0.0, 0.0))
    assert report.summary == plain.summary
    assert "critical_point" not in report.evidence.facts


@pytest.mark.parametrize(
    ("loss", "theta"),
    [
        (lambda t: t["w"][0] ** 3 / 3 + 0.001 * t["w"][0] + 0.5 * t["w"][1] ** 2, at(0.0, 0.0)),
        (lambda t: t["w"][0] ** 3 / 3 + 0.001 * t["w"][0] + 0.5 * t["w"][1] ** 2, at(0.5, 0.3)),
        (lambda t: torch.nn.functional.softplus(-t["w"]).sum(), at(1.0)),
        (lambda t: torch.nn.functional.softplus(-t["w"]).sum(), at(30.0)),
        (lambda t: t["w"][0] + t["w"][1] ** 2, at(0.0, 1.0)),
    ],
)
def test_where_there_is_none_the_checkpoints_verdict_stays_and_the_ending_is_told(loss: Loss, theta: Tensors) -> None:
    report = searched(loss, theta)
    assert report.verdict in {"not_critical", "gradient_flat"}
    assert "critical_point_not_found" in [warning.code for warning in report.warnings]


@pytest.mark.parametrize(
    "loss",
    [
        lambda t: t["w"][0] ** 3 - 3 * t["w"][0] * t["w"][1] ** 2,
        lambda t: t["w"][0] ** 3 + t["w"][1] ** 2,
        lambda t: t["w"][0] ** 5 + t["w"][1] ** 2,
        lambda t: t["w"][0] ** 2 - t["w"][1] ** 4,
        lambda t: (t["w"][1] - t["w"][0] ** 2) * (t["w"][1] - 2 * t["w"][0] ** 2),
        lambda t: (1 - t["w"][0] * t["w"][1] * (t["w"][0] + t["w"][1])) ** 2,
    ],
    ids=["monkey", "x³+y²", "x⁵+y²", "x²−y⁴", "Peano", "cubic"],
)
@pytest.mark.parametrize("angle", [0.3, 1.2, 2.9, 4.4])
def test_a_degenerate_point_is_never_called_a_minimum(loss: Loss, angle: float) -> None:
    report = searched(loss, at(0.2 * math.cos(angle), 0.2 * math.sin(angle)))
    found = report.evidence.facts.get("critical_point")
    near_zero = found is not None and found["distance"] < 0.3
    assert report.verdict not in MINIMA or not near_zero, report.summary


def test_without_a_dense_hessian_the_search_goes_by_products_alone() -> None:
    d = torch.cat([torch.tensor([-1.0]), torch.linspace(0.5, 2, 5999)]).double()
    theta = {"w": 0.3 * torch.randn(6000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}

    def loss(t: Tensors) -> Tensor:
        return 0.5 * (d * t["w"]) @ t["w"] + 0.25 * t["w"].pow(4).sum()

    report = searched(loss, theta)
    assert report.numerics.method == "lanczos"
    found = report.evidence.facts["critical_point"]
    assert report.verdict in {"saddle", "local_minimum"}
    assert (report.verdict == "saddle") == (found["loss"] == pytest.approx(0.0, abs=1e-9))
    if report.verdict == "local_minimum":  # at ±1 along the one negative direction
        assert found["loss"] == pytest.approx(-0.25)
        assert report.lambda_min.low > 0


def test_a_network_in_the_middle_of_training_is_told_where_it_stands() -> None:
    pixels, labels = load_digits(return_X_y=True)
    chosen = labels < 3
    images = torch.tensor(pixels[chosen][:90] / 16).view(-1, 1, 8, 8)
    inputs = torch.nn.functional.avg_pool2d(images, 2).view(-1, 16)
    targets = torch.tensor(labels[chosen][:90])
    generator = torch.Generator().manual_seed(0)

    def loss(t: Tensors) -> Tensor:
        scores = torch.tanh(inputs.to(t["a"]) @ t["a"].T + t["b"]) @ t["c"].T + t["d"]
        decay = sum(tensor.square().sum() for tensor in t.values())
        return torch.nn.functional.cross_entropy(scores, targets) + 5e-3 * decay

    theta = {
        "a": torch.randn(3, 16, generator=generator, dtype=torch.float64) / 4,
        "b": torch.zeros(3, dtype=torch.float64),
        "c": torch.randn(3, 3, generator=generator, dtype=torch.float64) / 2,
        "d": torch.zeros(3, dtype=torch.float64),
    }
    for _ in range(3):
        for _ in range(20):
            leaves = {name: tensor.requires_grad_() for name, tensor in theta.items()}
            gradients = torch.autograd.grad(loss(leaves), list(leaves.values()))
            theta = {n: (t - 0.3 * g).detach() for (n, t), g in zip(leaves.items(), gradients, strict=True)}
        report = searched(loss, theta)
        assert report.verdict in {"saddle", "local_minimum", "not_critical"}, report.summary
        if report.verdict == "local_minimum":
            assert report.evidence.facts["kantorovich"]["h"] <= 0.5
