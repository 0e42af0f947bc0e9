"""Kernels that symmetries explain: what is explained is verified on L, and what only looks like one is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from saddlescope.curvature.degenerate import examine_kernel
from saddlescope.curvature.dense import DenseSpectrum, dense_spectrum
from saddlescope.curvature.noise import Preflight, preflight
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.symmetry import Explanation, explain_kernel

Tensors = dict[str, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def explain(
    loss: Callable[[Tensors], Tensor], theta: Tensors
) -> tuple[Objective, HessianOperator, Preflight, DenseSpectrum, Tensor, Explanation]:
    objective = Objective(Problem(loss=lambda t, _: loss(t), params=theta), dtype=torch.float64)
    operator = HessianOperator(objective, objective.theta)
    measured = preflight(objective, operator, generator=seeded())
    dense = dense_spectrum(operator)
    kernel = dense.eigenvectors[:, dense.eigenvalues.abs() <= 1e-9 * dense.scale]
    return (
        objective,
        operator,
        measured,
        dense,
        kernel,
        explain_kernel(objective, operator, kernel, measured, dense.scale),
    )


def best_factors(m: int, p: int, r: int) -> tuple[Callable[[Tensors], Tensor], Tensors]:
    target = randn(m, p)
    left, values, right = torch.linalg.svd(target)
    root = values[:r].sqrt()
    mixed = torch.eye(r, dtype=torch.float64) + 0.2 * randn(r, r, seed=4)
    u, v = left[:, :r] * root @ mixed, right[:r].T * root @ torch.linalg.inv(mixed).T
    return lambda t: 0.5 * (t["U"] @ t["V"].T - target).square().sum(), {"U": u, "V": v}


def softmax_at_zero(t: Tensors) -> Tensor:
    inputs = torch.eye(3, dtype=torch.float64).repeat_interleave(4, 0)
    labels = torch.arange(4).repeat(3)
    return torch.nn.functional.cross_entropy(inputs @ t["W"].T, labels)


def normalised(t: Tensors) -> Tensor:
    a = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    return (t["w"] @ a @ t["w"]) / (t["w"] @ t["w"]) + (t["b"] - 1) ** 2


def partly_dead(t: Tensors) -> Tensor:
    inputs = randn(12, 3)
    inputs[:, 1] = 0.0
    return (inputs @ t["w"] - inputs @ torch.ones(3, dtype=torch.float64)).square().mean()


FACTORS, AT_BEST = best_factors(4, 5, 2)
DEEP_TARGET = randn(3, 3)


EXPLAINED = [
    (
        "lecture",
        lambda t: (1 - t["a"] * t["b"]) ** 2,
        {"a": torch.tensor(2.0).double(), "b": torch.tensor(0.5).double()},
        1,
    ),
    (
        "far valley",
        lambda t: (1 - t["a"] * t["b"]) ** 2,
        {"a": torch.tensor(1e3).double(), "b": torch.tensor(1e-3).double()},
        1,
    ),
    ("product of ten", lambda t: (1 - t["w"].prod()) ** 2, {"w": torch.ones(10, dtype=torch.float64)}, 9),
    ("best factors", FACTORS, AT_BEST, 4),
    ("softmax shift", softmax_at_zero, {"W": torch.zeros(4, 3, dtype=torch.float64)}, 3),
    ("normalised", normalised, {"w": torch.tensor([2.0, 0, 0]).double(), "b": torch.tensor(1.0).double()}, 1),
    ("dead input", partly_dead, {"w": torch.ones(3, dtype=torch.float64)}, 1),
]


@pytest.mark.parametrize(("name", "loss", "theta", "dimension"), EXPLAINED, ids=[case[0] for case in EXPLAINED])
def test_a_kernel_of_symmetries_is_explained_whole(
    name: str, loss: Callable[[Tensors], Tensor], theta: Tensors, dimension: int
) -> None:
    objective, _, _, dense, kernel, explanation = explain(loss, theta)
    assert kernel.shape[1] == explanation.dimension == dimension, explanation.generators
    assert explanation.generators
    identity = explanation.explained.T @ explanation.explained
    assert torch.allclose(identity, torch.eye(dimension, dtype=torch.float64), atol=1e-9)
    assert (dense.hessian @ explanation.explained).norm() <= 1e-8 * dense.scale
    before = objective.num_gradients
    finding = examine_kernel(
        objective,
        objective.theta,
        kernel=kernel,
        pseudo_inverse=(dense.eigenvalues[:0], dense.eigenvectors[:, :0]),
        generator=seeded(),
        explanation=explanation,
    )
    assert (finding.num_directions, finding.has_descent, finding.is_definite) == (0, False, False)
    assert finding.generators == explanation.generators
    assert objective.num_gradients == before


def point(**values: float) -> Tensors:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


UNEXPLAINED = [
    # Straight lines of equal loss through θ that no symmetry carries to its neighbours.
    ("line of minima", lambda t: t["x"] ** 2 * (1 + t["y"] ** 2), point(x=0.0, y=1.0)),
    ("quartic", lambda t: t["x"] ** 2 + t["y"] ** 4, point(x=0.0, y=0.0)),
    ("descending quartic", lambda t: t["x"] ** 2 - t["y"] ** 4, point(x=0.0, y=0.0)),
    ("Peano", lambda t: (t["y"] - t["x"] ** 2) * (t["y"] - 2 * t["x"] ** 2), point(x=0.0, y=0.0)),
    ("saturated", lambda t: (torch.tanh(t["w"]) + 1) ** 2 + t["x"] ** 2, point(w=40.0, x=0.0)),
    ("three factors", lambda t: (1 - t["a"] * t["b"] * t["c"]) ** 2, point(a=0.0, b=0.0, c=0.0)),
    # Too faint to be seen beside the constant: silence is no symmetry.
    ("faint", lambda t: t["x"] ** 2 + 1 + 1e-17 * (t["a"] * t["b"]), point(x=0.0, a=1.0, b=1.0)),
]


@pytest.mark.parametrize(("name", "loss", "theta"), UNEXPLAINED, ids=[case[0] for case in UNEXPLAINED])
def test_what_is_no_symmetry_is_left_to_the_higher_orders(
    name: str, loss: Callable[[Tensors], Tensor], theta: Tensors
) -> None:
    *_, kernel, explanation = explain(loss, theta)
    assert kernel.shape[1] > 0
    if name == "faint":
        assert explanation.generators == ("entries that L does not depend on",)
    else:
        assert explanation.dimension == 0, explanation.generators


def test_only_the_rest_is_searched_and_a_descent_there_is_found() -> None:
    def loss(t: Tensors) -> Tensor:
        return (1 - t["a"] * t["b"]) ** 2 - t["y"] ** 4

    objective, operator, _, dense, kernel, explanation = explain(loss, point(a=2.0, b=0.5, y=0.0))
    assert (kernel.shape[1], explanation.dimension) == (2, 1)
    is_zero = dense.eigenvalues.abs() <= 1e-9 * dense.scale
    finding = examine_kernel(
        objective,
        operator.theta.detach(),
        kernel=kernel,
        pseudo_inverse=(dense.eigenvalues[~is_zero], dense.eigenvectors[:, ~is_zero]),
        generator=seeded(),
        explanation=explanation,
    )
    assert (finding.order, finding.num_directions, finding.explained_dimension) == (4, 1, 1)
    assert finding.lowest == pytest.approx(-24, rel=1e-6)
    assert finding.down is not None
    assert abs(finding.down[0][2]) == pytest.approx(1, abs=1e-9)


def test_a_deep_linear_chain_and_rescaled_relu_units_are_explained() -> None:
    first, second = randn(3, 3, seed=1), randn(3, 3, seed=2)
    third = DEEP_TARGET @ torch.linalg.inv(second @ first)

    def chain(t: Tensors) -> Tensor:
        return 0.5 * (t["c"] @ t["b"] @ t["a"] - DEEP_TARGET).square().sum()

    *_, kernel, explanation = explain(chain, {"a": first, "b": second, "c": third})
    assert kernel.shape[1] == explanation.dimension == 18
    inputs, weights, bias, out = randn(200, 3), randn(4, 3, seed=5), randn(4, seed=6), randn(2, 4, seed=7)

    def relu(t: Tensors) -> Tensor:
        predicted = torch.relu(inputs @ t["w"].T + t["b"]) @ t["v"].T
        return (predicted - torch.relu(inputs @ weights.T + bias) @ out.T).square().mean()

    *_, kernel, explanation = explain(relu, {"w": weights, "b": bias, "v": out})
    assert kernel.shape[1] == explanation.dimension == 4
