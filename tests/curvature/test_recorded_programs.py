"""A recorded derivative rewritten to write in place and to pool by products is the derivative still."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlescope.curvature.linear_map import LinearMap
from saddlescope.curvature.modes import CLEARLY, Timing, choose_mode, preferred
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.products import Linearized, Mode, prepare

POOLINGS = {
    "tiles": (lambda x: functional.avg_pool2d(x, 2), True),
    "oblong tiles": (lambda x: functional.avg_pool2d(x, (3, 2)), True),
    "padded": (lambda x: functional.avg_pool2d(x, 2, padding=1), False),
    "overlapping": (lambda x: functional.avg_pool2d(x, 3, stride=1), False),
    "left over": (lambda x: functional.avg_pool2d(x, 4), False),
    "rounded up": (lambda x: functional.avg_pool2d(x, 4, ceil_mode=True), False),
    "other divisor": (lambda x: functional.avg_pool2d(x, 2, divisor_override=3), False),
}


def pooled_objective(pooling) -> Objective:
    generator = torch.Generator().manual_seed(0)
    params = {
        "kernel": torch.randn(3, 1, 3, 3, generator=generator, dtype=torch.float64),
        "mixing": torch.randn(2, 3, 1, 1, generator=generator, dtype=torch.float64),
    }
    images = torch.randn(5, 1, 6, 6, generator=generator, dtype=torch.float64)

    def loss(t: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        hidden = pooling(functional.conv2d(batch["x"], t["kernel"], padding=1).tanh())
        return functional.conv2d(hidden, t["mixing"]).sin().square().mean()

    return Objective(Problem(loss, params, data={"x": images}), dtype=torch.float64)


def recorded(objective: Objective) -> LinearMap:
    _, batch = next(objective.batches())
    products = prepare(Mode.LINEARIZED, objective, objective.theta, batch)
    assert isinstance(products, Linearized)
    assert products.linear is not None
    return products.linear


def operations(linear: LinearMap) -> set[str]:
    return {str(node.target) for node in linear._product.graph.nodes}


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_by_products_is_pooling(name: str) -> None:
    pooling, is_tiling = POOLINGS[name]
    objective = pooled_objective(pooling)
    _, batch = next(objective.batches())
    truth = prepare(Mode.REVERSE_OVER_REVERSE, objective, objective.theta, batch)
    linear = recorded(objective)
    assert any("avg_pool" in operation for operation in operations(linear)) != is_tiling
    eye = torch.eye(objective.num_parameters, dtype=torch.float64)
    expected = torch.stack([truth.product(unit) for unit in eye])
    assert torch.stack([linear(unit) for unit in eye]) == pytest.approx(expected, abs=1e-12)
    assert linear.rows(eye) == pytest.approx(expected, abs=1e-12)


def test_writing_in_place_leaves_vector_constants_and_later_products_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)
    ).double()
    data = {"x": torch.randn(11, 5, dtype=torch.float64), "y": torch.randint(0, 3, (11,))}

    def loss(t: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return functional.cross_entropy(torch.func.functional_call(model, dict(t), (batch["x"],)), batch["y"])

    objective = Objective(Problem(loss, dict(model.named_parameters()), data=data), dtype=torch.float64)
    linear = recorded(objective)
    assert "aten.addmm_.default" in operations(linear)
    vector = torch.randn(objective.num_parameters, dtype=torch.float64)
    given, constants = vector.clone(), {name: value.clone() for name, value in linear.constants.items()}
    first = linear(vector).clone()
    linear(torch.randn_like(vector))
    assert torch.equal(linear(vector), first)
    assert torch.equal(vector, given)
    assert all(torch.equal(linear.constants[name], value) for name, value in constants.items())
    assert linear.rows(torch.stack([vector, -vector])) == pytest.approx(torch.stack([first, -first]), abs=1e-14)


def test_a_mode_gives_way_only_where_another_is_clearly_faster() -> None:
    for noise in (0.95, 1.0, 1.05):
        assert preferred({Mode.KEPT_GRAPH: 1.0, Mode.LINEARIZED: noise}) is Mode.LINEARIZED
    assert preferred({Mode.KEPT_GRAPH: 0.99 * CLEARLY, Mode.LINEARIZED: 1.0}) is Mode.KEPT_GRAPH
    assert preferred({Mode.REVERSE_OVER_REVERSE: 1.0, Mode.FORWARD_OVER_REVERSE: 0.9}) is Mode.REVERSE_OVER_REVERSE


def test_every_mode_is_timed_and_a_tiny_problem_is_not_measured_in_any_run() -> None:
    objective = pooled_objective(POOLINGS["tiles"][0])
    for _ in range(3):
        assert choose_mode(objective, objective.theta, expected_matvecs=50, budget_bytes=2**30).timings is None
    timings = choose_mode(objective, objective.theta, expected_matvecs=10**6, budget_bytes=2**30).timings
    assert timings is not None
    assert set(timings) == set(Mode)
    assert all(isinstance(timing, Timing) and timing.product_seconds > 0 for timing in timings.values())


ZERO_TENSORS = """
import torch
from torch.nn import functional
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.products import Mode

torch.manual_seed(0)
data = {"x": torch.randn(200, 4, dtype=torch.float64), "y": torch.randn(200, 1, dtype=torch.float64)}
params = {"a": torch.randn(16, 4), "b": torch.randn(16, 16), "c": torch.randn(1, 16)}

def loss(t, batch):
    hidden = torch.tanh(functional.linear(torch.tanh(functional.linear(batch["x"], t["a"])), t["b"]))
    return functional.mse_loss(functional.linear(hidden, t["c"]), batch["y"])

objective = Objective(Problem(loss, {name: t.double() for name, t in params.items()}, data=data), dtype=torch.float64)
vector = torch.randn(objective.num_parameters, dtype=torch.float64)
recorded, truth = (
    HessianOperator(objective, objective.theta, mode=mode).matvec(vector)
    for mode in (Mode.LINEARIZED, Mode.REVERSE_OVER_REVERSE)
)
assert torch.allclose(recorded, truth, rtol=1e-10), (recorded - truth).norm()
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_tensors_that_are_zero_without_memory_are_recorded_in_a_process_of_their_own(threads: str) -> None:
    """In this process a kernel that reads such a tensor would end the suite."""
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-c", ZERO_TENSORS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
