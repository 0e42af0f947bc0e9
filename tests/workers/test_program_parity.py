"""A program in our interpreter is the eager model: the same loss, gradient and Hessian, in both precisions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from program_models import CASES, Case, build, mlp, write_archive
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from saddlescope.curvature.objective import Objective, Problem

# What torch says about torch, once a process: on the first forward derivative, and on copying an exported program.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
]

Params = dict[str, Tensor]
Loss = Callable[[Params], Tensor]
ROUNDING = {torch.float64: 1e-11, torch.float32: 3e-4}


@dataclass(frozen=True)
class Exported:
    case: Case
    archive: Path


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    case = CASES[request.param]()
    return Exported(case, write_archive(case, tmp_path_factory.mktemp(request.param)))


def cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Params:
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def eager_loss(case: Case, dtype: torch.dtype, data: Params) -> Loss:
    model = copy.deepcopy(case.model).to(dtype)

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m = model

        def forward(self) -> Tensor:
            return case.loss(self.m, data)

    wrapped = Wrapped()
    return lambda params: functional_call(
        wrapped, {f"m.{name}": tensor for name, tensor in params.items()}, (), tie_weights=False
    )


def program_loss(problem: Problem, dtype: torch.dtype, data: Params) -> Loss:
    constants = cast(problem.constants, dtype)
    return lambda params: problem.loss({**constants, **params}, data)


def reverse_over_reverse(loss: Loss, params: Params, v: Params) -> list[Tensor]:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    first = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True, materialize_grads=True)
    slope = sum((piece * v[name]).sum() for piece, name in zip(first, leaves, strict=True))
    return list(torch.autograd.grad(slope, list(leaves.values()), materialize_grads=True))


def forward_over_reverse(loss: Loss, params: Params, v: Params) -> list[Tensor]:
    return list(jvp(grad(loss), (params,), (v,))[1].values())


def distance(one: list[Tensor], other: list[Tensor]) -> float:
    flat_one, flat_other = (
        torch.cat([piece.detach().double().reshape(-1) for piece in pieces]) for pieces in (one, other)
    )
    return float((flat_one - flat_other).norm() / (1 + flat_other.norm()))


def unique(params: Params) -> Params:
    """Each tied tensor once, under its first name."""
    seen: dict[int, str] = {}
    for name, tensor in params.items():
        seen.setdefault(tensor.data_ptr(), name)
    return {name: params[name] for name in seen.values()}


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("rows", [1, 7])
def test_loss_gradient_and_products_are_those_of_the_eager_model(
    exported: Exported, dtype: torch.dtype, rows: int
) -> None:
    torch.manual_seed(rows)
    case, data = exported.case, exported.case.rows(rows)
    problem = build(exported.archive, case.model.state_dict(), data)
    data = cast(data, dtype)
    params = cast(unique(dict(problem.params)), dtype)
    aliases = {
        name: next(key for key in params if problem.params[key] is tensor) for name, tensor in problem.params.items()
    }
    v = {name: torch.randn_like(tensor) for name, tensor in params.items()}
    inner = program_loss(problem, dtype, data)
    plain = eager_loss(case, dtype, data)

    def program(tensors: Params) -> Tensor:
        return inner({name: tensors[key] for name, key in aliases.items()})

    def eager(tensors: Params) -> Tensor:
        return plain({name: tensors[key] for name, key in aliases.items()})

    tolerance = ROUNDING[dtype]
    with sdpa_kernel(SDPBackend.MATH):
        assert float((program(params) - eager(params)).abs()) <= tolerance
        assert distance(list(grad(program)(params).values()), list(grad(eager)(params).values())) <= tolerance
        truth = reverse_over_reverse(eager, params, v)
        assert distance(truth, [torch.zeros_like(piece) for piece in truth]) > 1e-2
        assert distance(reverse_over_reverse(program, params, v), truth) <= tolerance
        assert distance(forward_over_reverse(program, params, v), truth) <= tolerance


def test_products_of_a_block_of_vectors_are_those_of_its_vectors(tmp_path: Path) -> None:
    case = mlp()
    data = cast(case.rows(6), torch.float64)
    problem = build(write_archive(case, tmp_path), case.model.state_dict(), data)
    params = cast(problem.params, torch.float64)
    loss = program_loss(problem, torch.float64, data)
    block = {name: torch.randn(3, *tensor.shape, dtype=torch.float64) for name, tensor in params.items()}

    together = vmap(lambda v: jvp(grad(loss), (params,), (v,))[1])(block)
    for position in range(3):
        alone = forward_over_reverse(loss, params, {name: tensor[position] for name, tensor in block.items()})
        assert distance([piece[position] for piece in together.values()], alone) <= 1e-13


def test_batched_products_over_a_kept_graph_are_the_single_ones(exported: Exported) -> None:
    data = cast(exported.case.rows(3), torch.float64)
    objective = Objective(build(exported.archive, exported.case.model.state_dict(), data), dtype=torch.float64)
    theta = objective.theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective.batch_loss(theta, data), theta, create_graph=True)
    block = torch.randn(3, objective.num_parameters, dtype=torch.float64)

    (together,) = torch.autograd.grad(gradient, theta, block, retain_graph=True, is_grads_batched=True)
    alone = torch.stack([torch.autograd.grad(gradient, theta, row, retain_graph=True)[0] for row in block])
    assert float((together - alone).norm()) <= 1e-11 * float(alone.norm())


def test_the_third_and_fourth_derivatives_exist_and_agree(exported: Exported) -> None:
    data = cast(exported.case.rows(3), torch.float64)
    problem = build(exported.archive, exported.case.model.state_dict(), data)
    objective = Objective(problem, dtype=torch.float64)
    u = torch.randn(objective.num_parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u /= u.norm()
    model_names = list(problem.params)

    def along(loss: Loss, step: Tensor) -> Tensor:
        tensors = objective.tensors(objective.theta + step * u)
        return loss({name: tensors[name] for name in model_names})

    def derivatives(loss: Loss) -> list[Tensor]:
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        value, found = along(loss, step), []
        for _ in range(4):
            (value,) = torch.autograd.grad(value, step, create_graph=True)
            found.append(value.detach())
        return found

    with sdpa_kernel(SDPBackend.MATH):
        found = derivatives(program_loss(problem, torch.float64, data))
        expected = derivatives(eager_loss(exported.case, torch.float64, data))
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs() / (1 + other.abs())) <= 1e-9


def test_explicit_single_precision_becomes_the_working_precision(tmp_path: Path) -> None:
    class Stubborn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor([0.3, -0.7]))

        def forward(self, x: Tensor) -> Tensor:
            start = torch.zeros(x.shape[0], 2) + torch.full((2,), 0.1) + torch.linspace(0, 0.3, 2)
            return (start.half() + (x * self.w).float()).tanh().to(torch.float32) * torch.arange(
                1.0, 1.5, 0.3, dtype=torch.float32
            )

    case = Case(
        Stubborn(),
        lambda model, batch: model(batch["x"]).float().sum(1).mean(),
        lambda rows: {"x": torch.randn(rows, 2)},
    )
    data = cast(case.rows(5), torch.float64)
    problem = build(write_archive(case, tmp_path), case.model.state_dict(), data)
    params = cast(problem.params, torch.float64)
    found = program_loss(problem, torch.float64, data)(params)
    shift = torch.tensor([0.1, 0.4], dtype=torch.float64)
    ramp = torch.tensor([1.0, 1.3], dtype=torch.float64)
    truth = ((shift + data["x"] * params["w"]).tanh() * ramp).sum(1).mean()
    assert found.dtype == torch.float64
    assert float((found - truth).abs()) < 1e-15


def test_tied_names_are_one_variable(tmp_path: Path) -> None:
    case = CASES["gpt"]()
    archive = write_archive(case, tmp_path)
    separate = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    num_parameters = sum(tensor.numel() for tensor in case.model.parameters())
    for checkpoint in (case.model.state_dict(), separate, {k: v for k, v in separate.items() if k != "wte.weight"}):
        problem = build(archive, checkpoint, case.rows(5))
        assert list(problem.params) == list(checkpoint)
        assert Objective(problem, dtype=torch.float64).num_parameters == num_parameters


def test_archives_of_the_stock_exporter_run_too(tmp_path: Path) -> None:
    """Default decompositions, which a user without our client would take: core ATen operators and a fused CPU attention."""

    class Model(torch.nn.Module):
        def __init__(self, case: Case) -> None:
            super().__init__()
            for name, module in case.model.named_children():
                self.add_module(name, module)
            self.of = [case]

        def forward(self, tokens: Tensor, next: Tensor) -> Tensor:  # noqa: A002 (the name of a data tensor)
            return self.of[0].loss(self.of[0].model, {"tokens": tokens, "next": next})

    case = CASES["gpt"]()
    batch = case.rows(4)
    free = {"tokens": {0: torch.export.Dim.DYNAMIC}, "next": {0: torch.export.Dim.DYNAMIC}}
    path = tmp_path / "stock.pt2"
    program = torch.export.export(Model(case), (), batch, dynamic_shapes=free, strict=False)
    for saved in (program, program.run_decompositions()):
        torch.export.save(saved, path)
        data = case.rows(6)
        problem = build(path, case.model.state_dict(), data)
        found = problem.loss({**problem.constants, **problem.params}, data)
        assert float((found - case.loss(case.model, data)).detach().abs()) < 1e-5
