"""Losses whose critical points are known in closed form: verdict, inertia, eigenvalues and the way out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

import saddlescope

Tensors = dict[str, Tensor]
MINIMA = {"local_minimum", "flat_minimum"}


def at(**values: object) -> Tensors:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


@dataclass(frozen=True)
class Case:
    name: str
    loss: Callable[[Tensors], Tensor]
    theta: Tensors
    verdicts: set[str]
    eigenvalues: list[float] | None = None
    inertia: tuple[int, int, int] | None = None
    order: int | None = None
    options: dict[str, object] = field(default_factory=dict)


def lecture(t: Tensors) -> Tensor:
    return (1 - t["w1"] * t["w2"]) ** 2


def ring(t: Tensors) -> Tensor:
    return (t["x"] ** 2 + t["y"] ** 2 - 1) ** 2


def decayed(mu: float) -> Callable[[Tensors], Tensor]:
    return lambda t: lecture(t) + mu / 2 * (t["w1"] ** 2 + t["w2"] ** 2)


def rotated(spectrum: Tensor) -> Callable[[Tensors], Tensor]:
    normal = torch.randn(spectrum.numel(), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    normal = normal / normal.norm()

    def loss(t: Tensors) -> Tensor:
        q = normal.to(t["x"].dtype)
        y = t["x"] - 2 * q * torch.dot(q, t["x"])
        return 0.5 * (spectrum.to(y.dtype) * y * y).sum()

    return loss


def spectrum_of(*parts: tuple[float, float, int]) -> Tensor:
    return torch.cat([torch.linspace(low, high, count, dtype=torch.float64) for low, high, count in parts])


def quadratic(name: str, spectrum: Tensor, verdicts: set[str], **options: object) -> Case:
    return Case(
        name, rotated(spectrum), at(x=[0.0] * spectrum.numel()), verdicts, sorted(spectrum.tolist()), options=options
    )


SIGNAL = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
POWER = torch.dot(SIGNAL, SIGNAL).item()


def phase_retrieval(t: Tensors) -> Tensor:
    z = t["z"]
    return 0.75 * (z @ z) ** 2 + 0.75 * POWER**2 - 0.5 * POWER * (z @ z) - (SIGNAL.to(z.dtype) @ z) ** 2


def perpendicular() -> Tensor:
    z = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    return z / z.norm() * math.sqrt(POWER / 3)


ROTATION = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
SYMMETRIC = ROTATION @ torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)) @ ROTATION.T


def rayleigh(t: Tensors) -> Tensor:
    return -(t["x"] @ SYMMETRIC.to(t["x"].dtype) @ t["x"]) / (t["x"] @ t["x"])


def autoencoder(t: Tensors) -> Tensor:
    residual = torch.eye(4).to(t["A"].dtype) - t["B"] @ t["A"]
    return 0.5 * torch.trace(residual @ torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0])).to(t["A"].dtype) @ residual.T)


def autoencoder_at(*chosen: int) -> Tensors:
    basis = torch.zeros(4, 2, dtype=torch.float64)
    for column, index in enumerate(chosen):
        basis[index - 1, column] = 1.0
    return {"A": basis.T.contiguous(), "B": basis}


def rosenbrock(t: Tensors) -> Tensor:
    x, y = t["w"][0::2], t["w"][1::2]
    return (100 * (y - x**2) ** 2 + (1 - x) ** 2).sum()


CASES = [
    Case("lecture, origin", lecture, at(w1=0.0, w2=0.0), {"saddle"}, [-2, 2]),
    Case("lecture, valley", lecture, at(w1=1.0, w2=1.0), {"flat_minimum"}, [0, 4]),
    Case("lecture, far valley", lecture, at(w1=1000.0, w2=0.001), {"flat_minimum"}, inertia=(0, 1, 1)),
    Case("lecture, slope", lecture, at(w1=1.0, w2=0.0), {"not_critical"}, [1 - math.sqrt(5), 1 + math.sqrt(5)]),
    Case(
        "three factors",
        lambda t: (1 - t["w1"] * t["w2"] * t["w3"]) ** 2,
        at(w1=0.0, w2=0.0, w3=0.0),
        {"saddle"},
        [0, 0, 0],
        order=3,
    ),
    Case("product of ones", lambda t: (1 - t["w"].prod()) ** 2, at(w=[1.0] * 10), {"flat_minimum"}, [0.0] * 9 + [20]),
    Case("decay 0.5", decayed(0.5), at(w1=0.0, w2=0.0), {"saddle"}, [-1.5, 2.5]),
    Case("decay 2", decayed(2.0), at(w1=0.0, w2=0.0), {"local_minimum"}, [0, 4], order=4),
    Case("decay 3", decayed(3.0), at(w1=0.0, w2=0.0), {"local_minimum"}, [1, 5], order=2),
    Case("tied, 0", lambda t: (1 - t["w"] ** 2) ** 2, at(w=0.0), {"local_maximum"}, [-4]),
    Case("tied, 1", lambda t: (1 - t["w"] ** 2) ** 2, at(w=1.0), {"local_minimum"}, [8]),
    quadratic("one negative", spectrum_of((-0.1, -0.1, 1), (0.5, 10, 49)), {"saddle"}),
    quadratic("mixed", spectrum_of((-3, -1, 30), (0, 0, 40), (1, 2, 30)), {"saddle"}),
    quadratic("all negative", spectrum_of((-5, -1, 40)), {"local_maximum"}),
    quadratic("barely negative", spectrum_of((-1e-9, -1e-9, 1), (1, 2, 99)), {"saddle"}),
    Case(
        "monkey saddle", lambda t: t["x"] ** 3 - 3 * t["x"] * t["y"] ** 2, at(x=0.0, y=0.0), {"saddle"}, [0, 0], order=3
    ),
    Case("quartic up", lambda t: t["x"] ** 2 + t["y"] ** 4, at(x=0.0, y=0.0), {"local_minimum"}, [0, 2], order=4),
    Case("quartic down", lambda t: t["x"] ** 2 - t["y"] ** 4, at(x=0.0, y=0.0), {"saddle"}, [0, 2], order=4),
    Case(
        "Peano",
        lambda t: (t["y"] - t["x"] ** 2) * (t["y"] - 2 * t["x"] ** 2),
        at(x=0.0, y=0.0),
        {"saddle"},
        [0, 2],
        order=4,
    ),
    Case("ring, centre", ring, at(x=0.0, y=0.0), {"local_maximum"}, [-4, -4]),
    Case("ring", ring, at(x=0.6, y=0.8), {"flat_minimum"}, [0, 8]),
    Case(
        "Rosenbrock",
        rosenbrock,
        at(w=[1.0] * 10),
        {"local_minimum"},
        [501 - math.sqrt(250601)] * 5 + [501 + math.sqrt(250601)] * 5,
    ),
    Case(
        "no critical point near",
        lambda t: t["x"] ** 3 / 3 + 0.001 * t["x"] + 0.5 * t["y"] ** 2,
        at(x=0.0, y=0.0),
        {"gradient_flat", "not_critical"},
        [0, 1],
    ),
    Case("autoencoder, origin", autoencoder, at(A=[[0.0] * 4] * 2, B=[[0.0] * 2] * 4), {"saddle"}, inertia=(8, 0, 8)),
    Case("autoencoder {1}", autoencoder, autoencoder_at(1), {"saddle"}, inertia=(3, 3, 10)),
    Case("autoencoder {1,2}", autoencoder, autoencoder_at(1, 2), {"flat_minimum"}, inertia=(0, 4, 12)),
    Case("autoencoder {1,3}", autoencoder, autoencoder_at(1, 3), {"saddle"}, inertia=(1, 4, 11)),
    Case("autoencoder {3,4}", autoencoder, autoencoder_at(3, 4), {"saddle"}, inertia=(4, 4, 8)),
    Case("separable, w=0", lambda t: torch.nn.functional.softplus(-t["w"]), at(w=0.0), {"not_critical"}),
    Case("separable, w=5", lambda t: torch.nn.functional.softplus(-t["w"]), at(w=5.0), {"not_critical"}),
    Case("separable, w=30", lambda t: torch.nn.functional.softplus(-t["w"]), at(w=30.0), {"not_critical"}),
    Case(
        "kink",
        lambda t: (1 - t["v"] * torch.relu(t["w"])) ** 2,
        at(v=1.0, w=0.0),
        {"undecided", "not_critical"},
    ),
    Case(
        "phase retrieval, z = x", phase_retrieval, {"z": SIGNAL}, {"local_minimum"}, [2 * POWER, 2 * POWER, 6 * POWER]
    ),
    Case("phase retrieval, 0", phase_retrieval, at(z=[0.0] * 3), {"local_maximum"}, [-3 * POWER, -POWER, -POWER]),
    Case("phase retrieval, z ⊥ x", phase_retrieval, {"z": perpendicular()}, {"saddle"}, [-2 * POWER, 0, 2 * POWER]),
    *(
        Case(f"Rayleigh {index} at {radius}", rayleigh, {"x": radius * ROTATION[:, index]}, {verdict})
        for radius in (1.0, 100.0)
        for index, verdict in ((0, "flat_maximum"), (1, "saddle"), (3, "flat_minimum"))
    ),
    Case("underflow", lambda t: (torch.tanh(t["w"]) + 1) ** 2, at(w=20.0), {"not_critical", "plateau"}, [0]),
    Case(
        "tiny curvature", lambda t: 1 + 1e-9 * (t["x"] ** 2 - t["y"] ** 2), at(x=0.0, y=0.0), {"saddle"}, [-2e-9, 2e-9]
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict_and_spectrum_match_the_closed_form(case: Case) -> None:
    report = saddlescope.analyze(case.loss, case.theta, landscape=False, **case.options)
    assert report.verdict in case.verdicts, report.summary
    assert report.inertia.exact
    if case.eigenvalues is not None:
        scale = max(1e-300, *(abs(value) for value in case.eigenvalues))
        assert report.spectrum.eigenvalues == pytest.approx(case.eigenvalues, abs=1e-12 * scale, rel=1e-9)
    if case.inertia is not None:
        assert (report.inertia.negative, report.inertia.zero, report.inertia.positive) == case.inertia
    if case.order is not None:
        assert report.evidence.order == case.order


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_loss_times_1e_minus_8_changes_no_verdict(case: Case) -> None:
    report = saddlescope.analyze(case.loss, case.theta, landscape=False, **case.options)
    scaled = saddlescope.analyze(lambda t: 1e-8 * case.loss(t), case.theta, landscape=False, **case.options)
    assert scaled.verdict == report.verdict, scaled.summary
    assert scaled.inertia.negative == report.inertia.negative


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_single_precision_claims_no_minimum_that_is_not_one(case: Case) -> None:
    report = saddlescope.analyze(case.loss, case.theta, landscape=False, dtype="float32")
    if not case.verdicts & MINIMA:
        assert report.verdict not in MINIMA, report.summary


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_verified_escape_has_the_loss_it_says(case: Case) -> None:
    report = saddlescope.analyze(case.loss, case.theta, landscape=False)
    for escape in report.escapes:
        if not escape.verified:
            continue
        theta = {name: tensor.clone() for name, tensor in case.theta.items()}
        escape.apply_(theta)
        assert case.loss(theta).item() == pytest.approx(escape.loss_after, rel=1e-12, abs=1e-15)
        assert escape.loss_after < escape.loss_before
        assert sum((part**2).sum() for part in escape.vector.values()) == pytest.approx(1.0)


def test_the_lectures_escape_is_the_diagonal_and_reaches_zero_loss() -> None:
    report = saddlescope.analyze(lecture, at(w1=0.0, w2=0.0), lower_bound=0.0)
    (escape,) = report.escapes
    u = torch.stack([escape.vector["w1"], escape.vector["w2"]])
    assert u.abs().tolist() == pytest.approx([math.sqrt(0.5)] * 2)
    assert u.prod() > 0
    assert escape.step == pytest.approx(math.sqrt(2), rel=1e-6)
    assert (escape.loss_before, escape.loss_after) == (1.0, pytest.approx(0.0, abs=1e-12))
    assert report.advice.action == "escape"
    assert report.minimum_ratio.estimate == 0.5


def test_peanos_escape_follows_the_arc() -> None:
    report = saddlescope.analyze(
        lambda t: (t["y"] - t["x"] ** 2) * (t["y"] - 2 * t["x"] ** 2), at(x=0.0, y=0.0), landscape=False
    )
    escape = next(escape for escape in report.escapes if escape.verified)
    x, y = (escape.step * escape.vector[name].item() for name in "xy")
    assert x**2 < y < 2 * x**2
    assert escape.loss_after < 0


def test_zero_weights_of_tanh_networks_are_saddles() -> None:
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    y = torch.sin(3 * x)

    def two_layers(t: Tensors, batch: Tensors) -> Tensor:
        return 0.5 * ((torch.tanh(batch["x"] @ t["W"].T) @ t["v"] - batch["y"][:, 0]) ** 2).mean()

    report = saddlescope.analyze(two_layers, at(W=[[0.0]] * 4, v=[0.0] * 4), {"x": x, "y": y})
    slope = (x * y).mean().item()
    assert report.verdict == "saddle"
    assert report.spectrum.eigenvalues == pytest.approx([-slope] * 4 + [slope] * 4, abs=1e-12)

    def three_layers(t: Tensors, batch: Tensors) -> Tensor:
        hidden = torch.tanh(torch.tanh(batch["x"] @ t["W1"].T + t["b1"]) @ t["W2"].T + t["b2"])
        return 0.5 * ((hidden @ t["v"] + t["c"] - batch["y"][:, 0]) ** 2).mean()

    zeros = at(W1=[[0.0]] * 3, b1=[0.0] * 3, W2=[[0.0] * 3] * 3, b2=[0.0] * 3, v=[0.0] * 3, c=0.0)
    report = saddlescope.analyze(three_layers, zeros, {"x": x, "y": y - y.mean()})
    assert report.verdict == "saddle"
    assert report.evidence.order == 3


def test_softmax_regression_at_zero_is_flat_by_the_shift_symmetry() -> None:
    classes, features = 3, 2
    inputs = math.sqrt(features) * torch.eye(features, dtype=torch.float64).repeat_interleave(classes, 0)
    labels = torch.arange(classes).repeat(features)

    def loss(t: Tensors, batch: Tensors) -> Tensor:
        return torch.nn.functional.cross_entropy(batch["x"] @ t["W"].T, batch["y"])

    report = saddlescope.analyze(loss, at(W=[[0.0] * features] * classes), {"x": inputs, "y": labels})
    assert report.verdict == "flat_minimum", report.summary
    assert report.spectrum.eigenvalues == pytest.approx([0.0] * 2 + [1 / 3] * 4, abs=1e-12)


def test_a_relu_network_at_zero_weights_is_undecided_because_of_its_kink() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(t: Tensors, batch: Tensors) -> Tensor:
        return ((torch.relu(batch["x"] @ t["W"].T) @ t["v"] - 1) ** 2).mean()

    report = saddlescope.analyze(loss, at(W=[[0.0] * 4] * 5, v=[0.0] * 5), {"x": x})
    assert report.verdict == "undecided"
    assert "non_smooth" in [warning.code for warning in report.warnings]


@pytest.mark.parametrize(
    ("point", "verdict"),
    [
        ((3.0, 2.0), "local_minimum"),
        ((-2.805118, 3.131312), "local_minimum"),
        ((-3.779310, -3.283186), "local_minimum"),
        ((3.584428, -1.848126), "local_minimum"),
        ((-0.270845, -0.923039), "local_maximum"),
        ((-3.073026, -0.081353), "saddle"),
        ((-0.127961, -1.953715), "saddle"),
        ((0.086678, 2.884255), "saddle"),
        ((3.385154, 0.073852), "saddle"),
    ],
)
def test_himmelblaus_nine_critical_points(point: tuple[float, float], verdict: str) -> None:
    def loss(t: Tensors) -> Tensor:
        x, y = t["p"][0], t["p"][1]
        return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2

    p = torch.tensor(point, dtype=torch.float64)
    for _ in range(5):  # six printed digits, polished by Newton's method
        gradient, hessian = (
            torch.func.grad(lambda q: loss({"p": q}))(p),
            torch.func.hessian(lambda q: loss({"p": q}))(p),
        )
        p = p - torch.linalg.solve(hessian, gradient)
    assert saddlescope.analyze(loss, {"p": p}, landscape=False).verdict == verdict
