"""Every way to a product against the dense Hessian of the full-data loss, and what happens when memory is short."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from saddlescope.contract.vocabulary import Reduction
from saddlescope.curvature.dense import dense_hessian
from saddlescope.curvature.errors import OutOfMemory
from saddlescope.curvature.memory import available_bytes, graph_bytes, plan_batch_size
from saddlescope.curvature.modes import Timing, _total_seconds, choose_mode
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.products import Mode, prepare

Tensors = Mapping[str, Tensor]
Loss = Callable[[Tensors, Tensors], Tensor]
NUM_ROWS = 10


@dataclass(frozen=True)
class Case:
    loss: Loss
    params: dict[str, Tensor]
    data: dict[str, Tensor]
    constants: dict[str, Tensor]


class Attention(nn.Module):
    """A transformer block of one head between an embedding and an output that is tied to it."""

    def __init__(self, words: int = 5, width: int = 4, length: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.randn(length, width))
        self.before, self.middle, self.after = (nn.LayerNorm(width) for _ in range(3))
        self.mixing = nn.Linear(width, 3 * width)
        self.feed = nn.Sequential(nn.Linear(width, 6), nn.GELU(), nn.Linear(6, width))
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position
        query, key, value = self.mixing(self.before(x)).chunk(3, dim=-1)
        scores = query @ key.transpose(-1, -2) / 2
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        x = x + scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value
        return self.head(self.after(x + self.feed(self.middle(x)))).mean(1)


class WithIdle(nn.Module):
    """One weight is used twice, one not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))
        self.idle = nn.Parameter(torch.randn(2))
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(torch.tanh(x @ self.weight) @ self.weight.T))


def convolutional() -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.SiLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(2, 2, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2, 2),
    ).eval()
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2.0)
    return model


def case(name: str, reduction: str = "mean") -> Case:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(NUM_ROWS, 3, generator=generator, dtype=torch.float64)
    model: nn.Module
    match name:
        case "tanh":
            model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        case "gelu":
            model = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 4), nn.Softplus(), nn.Linear(4, 2))
        case "convolution":
            model, x = convolutional(), torch.randn(NUM_ROWS, 1, 4, 4, generator=generator, dtype=torch.float64)
        case "transformer":
            model, x = Attention(), torch.randint(0, 5, (NUM_ROWS, 3), generator=generator)
        case _:
            model = WithIdle()
    model = model.double()
    labels = torch.randint(0, 2, (NUM_ROWS,), generator=generator)

    def loss(tensors: Tensors, batch: Tensors) -> Tensor:
        output = torch.func.functional_call(model, dict(tensors), (batch["x"],))
        return nn.functional.cross_entropy(output, batch["y"], reduction=reduction)

    params = {key: tensor.detach() for key, tensor in model.named_parameters()}
    return Case(loss, params, {"x": x, "y": labels}, dict(model.named_buffers()))


def truth(given: Case) -> Tensor:
    shapes = [(key, tensor.shape, tensor.numel()) for key, tensor in given.params.items()]

    def flat(theta: Tensor) -> Tensor:
        pieces = torch.split(theta, [size for _, _, size in shapes])
        named = {key: piece.view(shape) for (key, shape, _), piece in zip(shapes, pieces, strict=True)}
        return given.loss({**given.constants, **named}, given.data)

    # Not torch.func.hessian: with torch 2.13 it differs from differences of gradients on the transformer.
    return torch.autograd.functional.hessian(flat, torch.cat([tensor.reshape(-1) for tensor in given.params.values()]))


def objective_of(given: Case, *, batch_size: int | None = None, **changes: object) -> Objective:
    problem = Problem(given.loss, given.params, constants=given.constants, data=given.data, **changes)
    return Objective(problem, dtype=torch.float64, batch_size=batch_size)


def columns(operator: HessianOperator) -> Tensor:
    return torch.stack([operator.matvec(unit) for unit in torch.eye(operator.size, dtype=torch.float64)])


CASES = ("tanh", "gelu", "convolution", "transformer", "tied_and_unused")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("mode", Mode)
def test_every_mode_gives_the_full_data_hessian(name: str, batch_size: int | None, mode: Mode) -> None:
    given = case(name)
    objective = objective_of(given, batch_size=batch_size)
    operator = HessianOperator(objective, objective.theta, mode=mode)
    assert columns(operator) == pytest.approx(truth(given), abs=1e-12)
    assert operator.mode is mode
    assert operator.num_matvecs == operator.size


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_sum_scale_and_weight_decay_enter_once_in_every_mode(mode: Mode, batch_size: int | None) -> None:
    given = case("gelu", reduction="sum")
    objective = objective_of(given, batch_size=batch_size, reduction=Reduction.SUM, scale=0.1, weight_decay=0.3)
    operator = HessianOperator(objective, objective.theta, mode=mode)
    expected = 0.1 * truth(given) + 0.3 * torch.eye(operator.size, dtype=torch.float64)
    assert columns(operator) == pytest.approx(expected, abs=1e-12)
    assert dense_hessian(operator) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("mode", Mode)
def test_a_product_is_linear_and_leaves_its_argument_alone(mode: Mode) -> None:
    objective = objective_of(case("transformer"))
    operator = HessianOperator(objective, objective.theta, mode=mode)
    v, w = torch.randn(2, operator.size, dtype=torch.float64)
    kept = v.clone()
    first = operator.matvec(v)
    assert operator.matvec(3 * v - w) == pytest.approx(3 * first - operator.matvec(w), abs=1e-12)
    assert torch.equal(operator.matvec(v), first)
    assert torch.equal(v, kept)


@pytest.mark.parametrize("mode", Mode)
def test_where_the_hessian_is_the_identity_the_product_is_no_alias_of_the_vector(mode: Mode) -> None:
    theta = {"w": torch.ones(3, dtype=torch.float64)}
    objective = Objective(Problem(lambda t, _: 0.5 * t["w"].square().sum(), theta), dtype=torch.float64)
    vector = torch.arange(3, dtype=torch.float64)
    product = HessianOperator(objective, objective.theta, mode=mode).matvec(vector)
    assert torch.equal(product, vector)
    assert product.data_ptr() != vector.data_ptr()


@pytest.mark.parametrize("mode", Mode)
def test_a_linear_loss_has_no_curvature(mode: Mode) -> None:
    objective = Objective(Problem(lambda t, _: 2 * t["w"].sum(), {"w": torch.ones(3)}), dtype=torch.float32)
    assert not HessianOperator(objective, objective.theta, mode=mode).matvec(torch.ones(3)).any()


def test_a_recorded_product_writes_in_place_only_where_nobody_looks() -> None:
    def loss(tensors: Tensors, _: Tensors) -> Tensor:
        buffer = torch.zeros(4, dtype=torch.float64)
        buffer[1:3] = tensors["w"].sin()
        buffer.mul_(tensors["w"].sum())
        return buffer.square().sum()

    given = Case(loss, {"w": torch.tensor([0.3, 0.7], dtype=torch.float64)}, {}, {})
    objective = objective_of(given)
    operator = HessianOperator(objective, objective.theta, mode=Mode.LINEARIZED)
    for _ in range(2):
        assert columns(operator) == pytest.approx(truth(given), abs=1e-12)


def test_the_truth_itself_agrees_with_differences_of_gradients() -> None:
    given, step = case("transformer"), 1e-5
    objective = objective_of(given)
    theta = objective.theta
    rows = [
        (objective.gradient(theta + step * unit)[1] - objective.gradient(theta - step * unit)[1]) / (2 * step)
        for unit in torch.eye(theta.numel(), dtype=torch.float64)
    ]
    assert torch.stack(rows) == pytest.approx(truth(given), abs=1e-7)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_measured_choice_agrees_with_the_truth(name: str, dtype: torch.dtype, monkeypatch) -> None:
    given = case(name)
    objective = Objective(Problem(given.loss, given.params, given.constants, given.data), dtype=dtype)
    monkeypatch.setattr("saddlescope.curvature.modes.QUICK_SECONDS", 0.0)  # measure even what is quick
    operator = HessianOperator(objective, objective.theta)
    assert operator.choice.timings
    assert not operator.choice.rejected
    assert columns32(operator) == pytest.approx(truth(given), abs=1e-12 if dtype == torch.float64 else 2e-6)


def columns32(operator: HessianOperator) -> Tensor:
    eye = torch.eye(operator.size, dtype=operator.objective.dtype)
    return torch.stack([operator.matvec(unit) for unit in eye]).double()


def test_a_mode_that_is_wrong_is_dropped(monkeypatch) -> None:
    monkeypatch.setattr("saddlescope.curvature.modes.QUICK_SECONDS", 0.0)

    class Doubled(torch.autograd.Function):
        """The square, whose forward derivative is wrong."""

        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x.square()

        @staticmethod
        def setup_context(ctx, inputs, output) -> None:
            ctx.save_for_backward(inputs[0])
            ctx.save_for_forward(inputs[0])

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:
            return 2 * ctx.saved_tensors[0] * grad

        @staticmethod
        def jvp(ctx, tangent: Tensor) -> Tensor:
            return 7 * ctx.saved_tensors[0] * tangent

    problem = Problem(lambda t, _: Doubled.apply(t["w"]).square().sum(), {"w": torch.ones(3, dtype=torch.float64)})
    objective = Objective(problem, dtype=torch.float64)
    choice = choose_mode(objective, objective.theta, expected_matvecs=1000, budget_bytes=2**30)
    assert choice.rejected is not None
    assert {Mode.LINEARIZED, Mode.FORWARD_OVER_REVERSE} <= set(choice.rejected)
    assert choice.mode in (Mode.KEPT_GRAPH, Mode.REVERSE_OVER_REVERSE)


def test_nothing_is_kept_beyond_the_budget(monkeypatch) -> None:
    monkeypatch.setattr("saddlescope.curvature.modes.QUICK_SECONDS", 0.0)
    given = case("gelu")
    objective = objective_of(given, batch_size=4)
    choice = choose_mode(objective, objective.theta, expected_matvecs=1000, budget_bytes=10)
    assert choice.mode in (Mode.REVERSE_OVER_REVERSE, Mode.FORWARD_OVER_REVERSE)
    one_batch = graph_bytes(objective, objective.theta, 4)
    operator = HessianOperator(objective, objective.theta, mode=Mode.KEPT_GRAPH, graph_bytes=int(1.5 * one_batch))
    assert columns(operator) == pytest.approx(truth(given), abs=1e-12)
    assert sum(products.num_bytes for _, products in operator._products()) <= 1.5 * one_batch


def test_preparation_is_paid_back_by_the_products_expected() -> None:
    timings = {
        Mode.REVERSE_OVER_REVERSE: Timing(2.0, 0.0, 0),
        Mode.KEPT_GRAPH: Timing(1.2, 2.0, 100),
        Mode.LINEARIZED: Timing(1.0, 50.0, 100),
    }
    few, many = (_total_seconds(timings, 2, 1000, count) for count in (10, 1000))
    assert min(few, key=few.__getitem__) is Mode.KEPT_GRAPH
    assert min(many, key=many.__getitem__) is Mode.LINEARIZED
    half_fits = _total_seconds(timings, 20, 1000, 100)
    assert half_fits[Mode.KEPT_GRAPH] == pytest.approx(9 * 2.0 + 100 * (10 * 1.2 + 10 * 2.0))


def test_batches_planned_for_a_tiny_budget_give_the_same_product() -> None:
    given = case("gelu")
    whole = objective_of(given)
    theta, vector = whole.theta, torch.randn(whole.num_parameters, dtype=torch.float64)
    assert plan_batch_size(whole, theta) == NUM_ROWS
    per_row = (graph_bytes(whole, theta, 8) - graph_bytes(whole, theta, 4)) / 4
    small = plan_batch_size(whole, theta, budget_bytes=int(2 * graph_bytes(whole, theta, 3) + per_row))
    assert small == 3
    assert plan_batch_size(whole, theta, budget_bytes=0) == 1
    split = objective_of(given, batch_size=small)
    assert split.num_batches() == 4
    expected = HessianOperator(whole, theta).matvec(vector)
    assert HessianOperator(split, theta).matvec(vector) == pytest.approx(expected, abs=1e-12)


def test_rows_that_may_not_be_regrouped_are_not() -> None:
    objective = objective_of(case("gelu"), is_additive=False)
    assert plan_batch_size(objective, objective.theta, budget_bytes=0) == NUM_ROWS
    assert not objective.halve_batches()


def hungry(given: Case, most_rows: int, error: Exception) -> Case:
    """The same loss on a machine that has memory for so many rows."""

    def loss(tensors: Tensors, batch: Tensors) -> Tensor:
        if batch["x"].shape[0] > most_rows:
            raise error
        return given.loss(tensors, batch)

    return Case(loss, given.params, given.data, given.constants)


SHORT = (
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    MemoryError(),
)


@pytest.mark.parametrize("error", SHORT, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("mode", [None, *Mode])
def test_short_memory_halves_the_batch_and_goes_on(error: Exception, mode: Mode | None) -> None:
    given = case("gelu")
    objective = objective_of(hungry(given, 3, error))
    operator = HessianOperator(objective, objective.theta, mode=mode)
    assert columns(operator) == pytest.approx(truth(given), abs=1e-12)
    assert objective.batch_size == 3
    assert operator.num_matvecs == operator.size


def test_short_memory_in_loss_and_gradient_halves_the_batch_too() -> None:
    given = case("gelu")
    whole, short = objective_of(given), objective_of(hungry(given, 5, SHORT[0]))
    assert short.loss(short.theta) == pytest.approx(whole.loss(whole.theta))
    assert short.batch_size == 5
    short = objective_of(hungry(given, 2, SHORT[0]))
    assert short.gradient(short.theta)[1] == pytest.approx(whole.gradient(whole.theta)[1], abs=1e-14)


def test_short_memory_at_one_row_or_where_rows_stay_together_is_said() -> None:
    for objective in (
        objective_of(hungry(case("gelu"), 0, SHORT[1])),
        objective_of(hungry(case("gelu"), 5, SHORT[0]), is_additive=False),
    ):
        with pytest.raises(OutOfMemory, match="memory"):
            HessianOperator(objective, objective.theta).matvec(
                torch.ones(objective.num_parameters, dtype=torch.float64)
            )
        with pytest.raises(OutOfMemory, match="memory"):
            objective.gradient(objective.theta)


def test_other_errors_are_not_taken_for_short_memory() -> None:
    objective = objective_of(hungry(case("gelu"), 0, RuntimeError("a shape does not fit")))
    with pytest.raises(RuntimeError, match="shape"):
        HessianOperator(objective, objective.theta).matvec(torch.ones(objective.num_parameters, dtype=torch.float64))
    assert objective.batch_size == NUM_ROWS


def test_some_memory_is_available_here() -> None:
    assert available_bytes(torch.device("cpu")) > 2**20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", Mode)
def test_every_mode_works_on_cuda(mode: Mode) -> None:
    given = case("transformer")
    problem = Problem(given.loss, given.params, constants=given.constants, data=given.data)
    objective = Objective(problem, dtype=torch.float64, device="cuda")
    vector = torch.ones(objective.num_parameters, dtype=torch.float64)
    found = HessianOperator(objective, objective.theta, mode=mode).matvec(vector.cuda()).cpu()
    assert found == pytest.approx(truth(given) @ vector, abs=1e-10)
    assert available_bytes(torch.device("cuda")) > 0


def test_a_block_is_its_rows_in_every_mode() -> None:
    given = case("tanh")
    objective = objective_of(given, batch_size=8)
    block = torch.randn(5, objective.num_parameters, dtype=torch.float64)
    for mode in Mode:
        operator = HessianOperator(objective, objective.theta, mode=mode)
        assert operator.matmat(block) == pytest.approx(block @ truth(given), abs=1e-12)
        assert operator.num_matvecs == 5
        _, batch = next(objective.batches())
        products = prepare(mode, objective, objective.theta, batch)
        assert products.rows(block)[0] == pytest.approx(products.product(block[0]), abs=1e-13)


class Unbatched(torch.autograd.Function):
    """x³ as a sum, differentiable twice, whose second backward no block of vectors can pass."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x**3).sum()

    @staticmethod
    def backward(ctx, weight: Tensor) -> Tensor:
        return weight * UnbatchedSlope.apply(*ctx.saved_tensors)


class UnbatchedSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 3 * x**2

    @staticmethod
    def backward(ctx, weight: Tensor) -> Tensor:
        weight.sum().item()
        return 6 * ctx.saved_tensors[0] * weight


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_block_of_any_height_works_where_blocks_do_not(count: int) -> None:
    theta = torch.linspace(-1, 1, 5, dtype=torch.float64)
    objective = Objective(Problem(loss=lambda t, _: Unbatched.apply(t["x"]), params={"x": theta}), dtype=torch.float64)
    operator = HessianOperator(objective, objective.theta, mode=Mode.KEPT_GRAPH)
    block = torch.randn(count, 5, dtype=torch.float64)
    assert torch.allclose(operator.matmat(block), 6 * theta * block)


def test_a_dense_hessian_of_any_size_works_where_blocks_do_not() -> None:
    for size in range(1, 40):
        theta = torch.linspace(-1, 1, size, dtype=torch.float64)
        problem = Problem(loss=lambda t, _: Unbatched.apply(t["x"]), params={"x": theta})
        objective = Objective(problem, dtype=torch.float64)
        operator = HessianOperator(objective, objective.theta, mode=Mode.KEPT_GRAPH)
        assert torch.allclose(dense_hessian(operator), torch.diag(6 * theta))
