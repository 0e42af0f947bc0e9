"""Coordinates of the row space of a first layer's inputs: the same Hessian, bounds and directions, from shorter vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from saddlescope.analysis import analyze_problem
from saddlescope.contract.jobs import Options
from saddlescope.curvature import operator as operator_module
from saddlescope.curvature.coordinates import RowSpaceCoordinates, coordinates_of
from saddlescope.curvature.knowledge import SpectralKnowledge
from saddlescope.curvature.lanczos import tridiagonalize
from saddlescope.curvature.modes import ModeChoice
from saddlescope.curvature.noise import preflight
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.products import Mode
from saddlescope.curvature.row_space import RowSpace
from saddlescope.curvature.saved import SavedRun
from saddlescope.curvature.spectrum import by_lanczos
from saddlescope.results import AnalysisReport

WIDTH, HEIGHT, ROWS, CLASSES = 40, 12, 15, 3
GENERATOR = torch.Generator().manual_seed(0)
PARAMS = {
    "first": 0.3 * torch.randn(HEIGHT, WIDTH, generator=GENERATOR),
    "bias": 0.1 * torch.randn(HEIGHT, generator=GENERATOR),
    "last": 0.3 * torch.randn(CLASSES, HEIGHT, generator=GENERATOR),
}
DATA = {
    "inputs": torch.randn(ROWS, WIDTH, generator=GENERATOR),
    "targets": torch.randint(0, CLASSES, (ROWS,), generator=GENERATOR),
}
Batch = Mapping[str, Tensor]


def cross_entropy(hidden: Tensor, params: Batch, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(torch.tanh(hidden) @ params["last"].T, batch["targets"])


def as_linear(params: Batch, batch: Batch) -> Tensor:
    hidden = nn.functional.linear(batch["inputs"], params["first"], params["bias"])
    return cross_entropy(hidden, params, batch)


def as_product(params: Batch, batch: Batch) -> Tensor:
    return cross_entropy(batch["inputs"] @ params["first"] + params["bias"], params, batch)


def twice(params: Batch, batch: Batch) -> Tensor:
    """The same inputs meet the weight in two places."""
    hidden = nn.functional.linear(batch["inputs"], params["first"], params["bias"])
    return cross_entropy(hidden, params, batch) + 0.1 * as_linear(params, batch)


def decayed(params: Batch, batch: Batch) -> Tensor:
    return as_linear(params, batch) + 0.05 * (params["first"] ** 2).sum()


def scaled(params: Batch, batch: Batch) -> Tensor:
    """What the weight meets moves with θ."""
    return as_linear(params, {**batch, "inputs": batch["inputs"] * (1 + params["bias"].sum())})


def shared(params: Batch, batch: Batch) -> Tensor:
    """Other inputs meet the weight elsewhere."""
    other = {**batch, "inputs": batch["inputs"].flip(1)}
    return as_linear(params, batch) + as_linear(params, other)


def forked(params: Batch, batch: Batch) -> Tensor:
    """Two weights meet the inputs, and a part of them that begins where they begin."""
    hidden = nn.functional.linear(batch["inputs"], params["first"], params["bias"])
    beside = nn.functional.linear(batch["inputs"][:, : WIDTH - 5], params["beside"])
    return cross_entropy(hidden + beside.sin(), params, batch)


def operator_of(
    loss: Callable[[Batch, Batch], Tensor], *, dtype: torch.dtype = torch.float64, **settings: float
) -> HessianOperator:
    params = dict(PARAMS)
    if loss is as_product:
        params["first"] = PARAMS["first"].T.contiguous()
    if loss is forked:
        params["beside"] = PARAMS["first"][:, 5:].contiguous()
    problem = Problem(loss, params, data=DATA, weight_decay=settings.get("weight_decay", 0.0))
    batch_size = int(settings.get("batch_size", ROWS))
    objective = Objective(problem, dtype=dtype, batch_size=batch_size)
    operator = HessianOperator(objective, objective.theta, mode=Mode.LINEARIZED)
    operator.matvec(torch.ones_like(objective.theta))
    return operator


def space_of(operator: HessianOperator) -> RowSpace:
    space = operator.row_space()
    assert space is not None
    return space


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
@pytest.mark.parametrize("loss", [as_linear, as_product, forked])
def test_the_hessian_is_its_own_in_the_coordinates_and_nothing_beside_them(
    loss: Callable[[Batch, Batch], Tensor], weight_decay: float, dtype: torch.dtype
) -> None:
    operator = operator_of(loss, dtype=dtype, weight_decay=weight_decay)
    space, tol = space_of(operator), 100 * torch.finfo(dtype).eps
    hidden = HEIGHT * (WIDTH - ROWS) + (HEIGHT * (WIDTH - 5 - ROWS) if loss is forked else 0)
    assert space.rank == operator.size - hidden
    vector = torch.randn(operator.size, generator=torch.Generator().manual_seed(1), dtype=dtype)
    inside = space.reduce(vector)
    assert torch.allclose(space.reduce(space.expand(inside)), inside, rtol=0, atol=10 * tol)
    assert torch.isclose(space.expand(inside).norm(), inside.norm(), rtol=tol)
    outside = vector - space.expand(inside)
    scale = operator.matvec(vector).norm().item()
    assert (operator.matvec(outside) - weight_decay * outside).norm() <= tol * scale
    within = operator.matvec_within(space, torch.cat([inside, torch.tensor([3.0], dtype=dtype)]))
    assert within[-1] == pytest.approx(3.0 * weight_decay)
    assert (space.expand(within[:-1]) - operator.matvec(vector - outside)).norm() <= tol * scale


@pytest.mark.parametrize("loss", [decayed, scaled, shared, twice])
def test_a_weight_that_meets_more_than_constant_inputs_stays_whole(loss: Callable[[Batch, Batch], Tensor]) -> None:
    operator = operator_of(loss)
    space = operator.row_space()
    if space is not None:  # only where it is the truth
        assert loss is twice
        vector = torch.randn(operator.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        assert operator.matvec(vector - space.expand(space.reduce(vector))).norm() <= 1e-12


def test_several_batches_and_wide_data_are_left_as_they_are() -> None:
    assert operator_of(as_linear, batch_size=8).row_space() is None
    many = {name: torch.cat([value] * 3) for name, value in DATA.items()}
    objective = Objective(Problem(as_linear, PARAMS, data=many), dtype=torch.float64, batch_size=3 * ROWS)
    operator = HessianOperator(objective, objective.theta, mode=Mode.LINEARIZED)
    operator.matvec(torch.ones_like(objective.theta))
    assert operator.row_space() is None


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_bounds_shares_and_directions_are_those_of_the_whole_space(
    weight_decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known(operator: HessianOperator) -> SpectralKnowledge:
        generator = torch.Generator().manual_seed(5)
        measured = preflight(operator.objective, operator, generator=generator)
        return by_lanczos(
            operator,
            measured,
            max_matvecs=120,
            failure_probability=1e-3,
            zero_tol=1e-9,
            num_directions=3,
            generator=generator,
            on_progress=lambda *_: None,
            max_probes=1,
        )

    within = known(operator_of(as_linear, weight_decay=weight_decay))
    monkeypatch.setattr(operator_module, "find_row_space", lambda *_, **__: None)
    operator = operator_of(as_linear, weight_decay=weight_decay)
    whole = known(operator)
    assert within.cycle is not None
    assert whole.cycle is not None
    assert torch.allclose(within.cycle.alpha, whole.cycle.alpha, rtol=0, atol=1e-9)
    for one, other in (
        (within.lambda_min, whole.lambda_min),
        (within.lambda_max, whole.lambda_max),
        (within.negative, whole.negative),
        (within.zero, whole.zero),
        (within.positive, whole.positive),
    ):
        assert (one.estimate, one.low, one.high) == pytest.approx((other.estimate, other.low, other.high), abs=1e-9)
    assert len(within.lowest) == len(whole.lowest)
    for direction in (*within.lowest, within.lowest_direction, within.highest):
        product = operator.matvec(direction.vector)
        assert direction.vector.norm() == pytest.approx(1)
        assert torch.dot(direction.vector, product) == pytest.approx(direction.curvature, abs=1e-10)
        residual = (product - direction.curvature * direction.vector).norm().item()
        assert residual == pytest.approx(direction.residual_norm, abs=1e-10)


def test_a_run_in_coordinates_exhausts_them_with_every_eigenvalue_that_the_start_can_see() -> None:
    operator = operator_of(as_linear)
    space = coordinates_of(operator)
    assert isinstance(space, RowSpaceCoordinates)
    start = space.start(torch.Generator().manual_seed(2))
    values = tridiagonalize(space.matvec, start, num_matvecs=space.size).ritz().values
    dense = torch.stack([operator.matvec(unit) for unit in torch.eye(operator.size, dtype=torch.float64)])
    truth = torch.linalg.eigvalsh((dense + dense.T) / 2)
    assert values[0].item() == pytest.approx(truth[0].item(), abs=1e-10)
    assert values[-1].item() == pytest.approx(truth[-1].item(), abs=1e-10)
    assert all((truth - value).abs().min() <= 1e-9 for value in values)


def test_without_memory_the_same_product_comes_by_way_of_the_whole_space() -> None:
    operator = operator_of(as_linear, weight_decay=0.02)
    space = space_of(operator)
    vector = torch.randn(space.rank + 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected, replay = operator.matvec_within(space, vector), space.product
    assert replay is not None

    def full(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    space.product = full  # type: ignore[assignment]
    assert torch.allclose(operator.matvec_within(space, vector), expected, rtol=0, atol=1e-12)
    assert space.product is None


def test_a_run_in_coordinates_is_resumed_bit_for_bit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(operator_module, "choose_mode", lambda *_, **__: ModeChoice(Mode.LINEARIZED))
    options = Options(method="lanczos", max_matvecs=80, landscape=False)

    def analysed(**state: object) -> tuple[AnalysisReport, list[SavedRun]]:
        saves: list[SavedRun] = []
        problem = Problem(as_linear, PARAMS, data=DATA)
        return analyze_problem(problem, options, on_save=saves.append, save_every_seconds=0.0, **state), saves

    whole, saves = analysed()
    half = saves[len(saves) // 2]
    rank = PARAMS["first"].shape[0] * ROWS + PARAMS["bias"].numel() + PARAMS["last"].numel()
    assert {product.numel() for product in half.products.values()} == {rank + 1, whole.num_parameters}
    half.write(tmp_path / "run")
    resumed, later = analysed(saved=SavedRun.read(tmp_path / "run"))
    assert len(later) == len(saves) - len(saves) // 2 - 1  # no product was computed twice
    plain = {"numerics": {"seconds"}}
    assert resumed.report.model_dump(exclude=plain) == whole.report.model_dump(exclude=plain)
    for one, other in zip(resumed.escapes, whole.escapes, strict=True):
        assert all(torch.equal(one.vector[name], other.vector[name]) for name in PARAMS)
