"""The whole recipe on questions that join several parts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import saddlescope

Tensors = dict[str, Tensor]


def noisy_quadratic(curvatures: list[float], *, rows: int, noise: float, seed: int) -> tuple[object, Tensors, Tensors]:
    """ℓ_i = ½ Σ_j (d_j + noise·z_ij) x_j²: the rows see the curvatures d only on average."""
    generator = torch.Generator().manual_seed(seed)
    d = torch.tensor(curvatures, dtype=torch.float64)
    z = torch.randn(rows, len(curvatures), generator=generator, dtype=torch.float64)

    def loss(t: Tensors, batch: Tensors) -> Tensor:
        return (0.5 * (d + noise * batch["z"]) * t["x"] ** 2).sum(1).mean()

    return loss, {"x": torch.zeros(len(curvatures), dtype=torch.float64)}, {"z": z}


def test_a_saddle_of_the_population_is_told_from_one_of_the_sample() -> None:
    loss, theta, data = noisy_quadratic([-1.0, 1.0, 2.0], rows=400, noise=1.0, seed=0)
    real = saddlescope.analyze(loss, theta, data, data_is_sample=True, landscape=False)
    assert real.verdict == "saddle", real.summary
    assert real.evidence.strength == "probabilistic"
    assert real.criticality.sampling_error is not None

    claimed = 0
    for seed in range(10):
        loss, theta, data = noisy_quadratic([0.02] * 30, rows=64, noise=1.0, seed=seed)
        assert saddlescope.analyze(loss, theta, data, landscape=False).verdict == "saddle"  # of these rows
        claimed += saddlescope.analyze(loss, theta, data, data_is_sample=True, landscape=False).verdict == "saddle"
    assert claimed == 0


def test_a_sample_never_certifies_a_minimum() -> None:
    loss, theta, data = noisy_quadratic([1.0, 2.0], rows=100, noise=0.1, seed=0)
    assert saddlescope.analyze(loss, theta, data, landscape=False).verdict == "local_minimum"
    report = saddlescope.analyze(loss, theta, data, data_is_sample=True, landscape=False)
    assert report.verdict == "undecided"
    assert "sample" in report.evidence.statement


@pytest.mark.parametrize("wanted", [0, 1, 2, 5])
def test_no_more_escapes_than_asked_the_best_measured_first(wanted: int) -> None:
    d = torch.tensor([-3.0, -2.0, -1.0, 1.0], dtype=torch.float64)

    def loss(t: Tensors) -> Tensor:
        return (0.5 * d * t["x"] ** 2).sum() + 0.1 * (t["x"] ** 4).sum()

    report = saddlescope.analyze(
        loss, {"x": torch.zeros(4, dtype=torch.float64)}, num_escape_vectors=wanted, landscape=False
    )
    assert len(report.escapes) <= wanted
    after = [escape.loss_after for escape in report.escapes]
    assert after == sorted(after)
    if wanted >= 2:  # the three negative directions do not meet: together they fall further than any alone
        assert after[0] < min(loss({"x": step * torch.eye(4).double()[0]}).item() for step in (1.0, 3.0, 15**0.5))


def test_a_loss_at_its_lower_bound_is_a_flat_minimum_at_any_size() -> None:
    for size in (50, 20_000):
        report = saddlescope.analyze(
            lambda t: (1 - t["w"].prod()) ** 2,
            {"w": torch.ones(size, dtype=torch.float64)},
            lower_bound=0.0,
            landscape=False,
        )
        assert report.verdict == "flat_minimum", report.summary
        assert report.minimum_ratio.low <= 1 / size <= report.minimum_ratio.high
        assert report.lambda_max.estimate == pytest.approx(2 * size)


def test_parameters_whose_squares_underflow_are_analysed_all_the_same() -> None:
    tiny = torch.full((2,), 1e-170, dtype=torch.float64)
    report = saddlescope.analyze(
        lambda t: (t["x"] * torch.tensor([1.0, -1.0]).double()) @ t["x"], {"x": tiny}, landscape=False
    )
    assert report.verdict in {"saddle", "undecided", "not_critical"}


def test_the_plane_holds_the_end_of_the_best_escape() -> None:
    def toy(t: Tensors) -> Tensor:
        return (1 - t["w1"] * t["w2"]) ** 2

    origin = {name: torch.zeros((), dtype=torch.float64) for name in ("w1", "w2")}
    report = saddlescope.analyze(toy, origin)
    assert report.landscape is not None
    assert report.landscape.escape is not None
    end = {"w1": torch.tensor(report.landscape.escape.x), "w2": torch.tensor(report.landscape.escape.y)}
    assert toy(end).item() == pytest.approx(report.escapes[0].loss_after, abs=1e-6)

    d = torch.tensor([-3.0, -2.0, 1.0, 1.0], dtype=torch.float64)
    report = saddlescope.analyze(
        lambda t: (0.5 * d * t["x"] ** 2).sum() + 0.1 * (t["x"] ** 4).sum(), {"x": torch.zeros(4, dtype=torch.float64)}
    )
    assert report.landscape is not None
    assert report.landscape.escape is not None
    # The direction spans the plane, so nothing of the step is lost on it.
    assert math.hypot(report.landscape.escape.x, report.landscape.escape.y) == pytest.approx(report.escapes[0].step)

    minimum = saddlescope.analyze(lambda t: (t["x"] ** 2).sum(), {"x": torch.zeros(2, dtype=torch.float64)})
    assert minimum.landscape is not None
    assert minimum.landscape.escape is None
