"""The engine against torch.func.hessian of the full-data loss, however the rows are batched and the names are tied."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import saddlescope
from saddlescope.contract.vocabulary import Reduction
from saddlescope.curvature.dense import dense_hessian
from saddlescope.curvature.errors import NonDeterministicLoss, NonFiniteLoss, NotDifferentiable, NotScalar
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator

Tensors = Mapping[str, Tensor]


def network(activation: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), activation(), nn.Linear(5, 2)).double()


def rows(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(count, 3, generator=generator, dtype=torch.float64),
        "y": torch.randint(0, 2, (count,), generator=generator),
    }


def cross_entropy(model: nn.Module):
    return lambda tensors, batch: nn.functional.cross_entropy(
        torch.func.functional_call(model, dict(tensors), (batch["x"],)), batch["y"]
    )


def truth(loss, params: Tensors, data: Tensors) -> Tensor:
    shapes = [(name, tensor.shape, tensor.numel()) for name, tensor in params.items()]

    def flat(theta: Tensor) -> Tensor:
        pieces = torch.split(theta, [size for _, _, size in shapes])
        return loss({n: p.view(s) for (n, s, _), p in zip(shapes, pieces, strict=True)}, data)

    return torch.func.hessian(flat)(torch.cat([tensor.detach().reshape(-1) for tensor in params.values()]))


@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU, nn.Softplus])
@pytest.mark.parametrize("batch_size", [None, 8, 3, 1])
@pytest.mark.parametrize("graph_bytes", [0, 2**30])
def test_the_hessian_is_that_of_the_full_data_however_it_is_batched(
    activation: type[nn.Module], batch_size: int | None, graph_bytes: int
) -> None:
    model, data = network(activation), rows(10)
    params = dict(model.named_parameters())
    objective = Objective(Problem(cross_entropy(model), params, data=data), dtype=torch.float64, batch_size=batch_size)
    operator = HessianOperator(objective, objective.theta, graph_bytes=graph_bytes)
    expected = truth(cross_entropy(model), params, data)
    assert dense_hessian(operator) == pytest.approx(expected, abs=1e-13)
    assert operator.num_matvecs == objective.num_parameters


def test_sum_reduction_scale_and_weight_decay_enter_the_hessian_once() -> None:
    model, data = network(nn.Tanh), rows(10)
    params = dict(model.named_parameters())

    def summed(tensors: Tensors, batch: Tensors) -> Tensor:
        output = torch.func.functional_call(model, dict(tensors), (batch["x"],))
        return nn.functional.cross_entropy(output, batch["y"], reduction="sum")

    problem = Problem(summed, params, data=data, reduction=Reduction.SUM, scale=0.1, weight_decay=0.3)
    objective = Objective(problem, dtype=torch.float64, batch_size=4)
    expected = truth(cross_entropy(model), params, data) + 0.3 * torch.eye(
        objective.num_parameters, dtype=torch.float64
    )
    assert dense_hessian(HessianOperator(objective, objective.theta)) == pytest.approx(expected, abs=1e-13)
    loss, gradient = objective.gradient(objective.theta)
    assert loss == pytest.approx(objective.loss(objective.theta))
    assert gradient == pytest.approx(
        torch.func.grad(lambda t: cross_entropy(model)(objective.tensors(t), data) + 0.15 * t @ t)(objective.theta)
    )


def test_rows_that_cancel_only_together_give_the_full_batch_answer() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(10, 4, generator=generator, dtype=torch.float64)
    z = z - z.mean(0)
    d = torch.tensor([-0.5, 0.1, 1.0, 2.0], dtype=torch.float64)

    def loss(t: Tensors, batch: Tensors) -> Tensor:
        return (0.5 * (d + 50 * batch["z"]) * t["x"] ** 2).sum(1).mean()

    for batch_size in (None, 8, 3):
        report = saddlescope.analyze(
            loss, {"x": torch.zeros(4, dtype=torch.float64)}, {"z": z}, batch_size=batch_size, landscape=False
        )
        assert report.verdict == "saddle"
        assert report.spectrum.eigenvalues == pytest.approx(d.tolist(), abs=1e-12)


def test_tied_names_are_one_variable() -> None:
    shared = torch.tensor([0.3, -0.7], dtype=torch.float64)
    report = saddlescope.analyze(
        lambda t: (t["a"] * t["b"]).sum() ** 2 + t["c"] ** 2,
        {"a": shared, "b": shared, "c": torch.tensor(0.0, dtype=torch.float64)},
    )
    assert report.num_parameters == 3
    expected = truth(
        lambda t, _: (t["a"] * t["a"]).sum() ** 2 + t["c"] ** 2,
        {"a": shared, "c": torch.tensor(0.0, dtype=torch.float64)},
        {},
    )
    assert report.spectrum.eigenvalues == pytest.approx(torch.linalg.eigvalsh(expected).tolist(), abs=1e-13)


def test_an_unused_parameter_is_named_and_adds_zero_eigenvalues() -> None:
    report = saddlescope.analyze(
        lambda t: (t["w"] ** 2).sum(), {"w": torch.ones(2).double() * 0, "idle": torch.ones(3).double()}
    )
    assert (report.inertia.zero, report.inertia.positive) == (3, 2)
    assert [w.detail for w in report.warnings if w.code == "unused_parameters" and "idle" in w.detail]


def test_integer_tensors_stay_fixed() -> None:
    report = saddlescope.analyze(
        lambda t: (t["w"] * t["k"]) ** 2, {"w": torch.tensor(0.0).double(), "k": torch.tensor(3)}
    )
    assert report.num_parameters == 1
    assert report.lambda_max.estimate == pytest.approx(18.0)


def test_what_is_no_twice_differentiable_function_is_refused_by_name() -> None:
    theta = {"w": torch.ones(2, dtype=torch.float64)}
    with pytest.raises(NotScalar, match="one real number"):
        saddlescope.analyze(lambda t: t["w"], theta)
    with pytest.raises(NonFiniteLoss, match="nan"):
        saddlescope.analyze(lambda t: (t["w"].sum() - 5).log(), theta)
    with pytest.raises(NonFiniteLoss, match="'w'"):
        saddlescope.analyze(lambda t: (t["w"].sum() - 2).sqrt(), theta)
    with pytest.raises(NonDeterministicLoss, match="dropout"):
        saddlescope.analyze(lambda t: nn.functional.dropout(t["w"], 0.5).square().sum() + torch.rand(()), theta)
    with pytest.raises(NotDifferentiable):
        saddlescope.analyze(lambda t: t["w"].detach().sum(), theta)
    with pytest.raises(NotDifferentiable, match="does not depend"):
        saddlescope.analyze(lambda t: 0 * t["w"].sum() + 1, theta)
    with pytest.raises(NotDifferentiable, match="parameter"):
        saddlescope.analyze(lambda t: t["k"].sum(), {"k": torch.ones(2, dtype=torch.int64)})
    with pytest.raises(ValueError, match="bogus"):
        saddlescope.analyze(lambda t: t["w"].sum(), theta, bogus=1)


def test_a_linear_loss_is_not_critical() -> None:
    report = saddlescope.analyze(lambda t: t["w"].sum(), {"w": torch.ones(3, dtype=torch.float64)})
    assert report.verdict in {"not_critical", "gradient_flat"}


def test_progress_is_told_and_never_goes_back() -> None:
    seen = []
    saddlescope.analyze(
        lambda t: (t["w"] ** 4).sum(), {"w": torch.ones(40, dtype=torch.float64)}, on_progress=seen.append
    )
    fractions = [update.fraction for update in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1
    assert {"preflight", "dense", "criticality", "escape"} <= {update.stage for update in seen}


def test_wrong_higher_derivatives_of_an_operation_never_decide() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 6, dtype=torch.float64)
    normalized = {
        "built in": lambda h: nn.functional.layer_norm(h, (6,)),
        "written out": lambda h: (
            (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        ),
    }
    verdicts = {
        name: saddlescope.analyze(
            lambda t, norm=norm: ((norm(x + t["a"] * t["b"]) - norm(x)) ** 2).sum(),
            {"a": torch.zeros(6, dtype=torch.float64), "b": torch.zeros(6, dtype=torch.float64)},
            landscape=False,
        ).verdict
        for name, norm in normalized.items()
    }
    assert verdicts["built in"] in {"undecided", verdicts["written out"]}
    assert verdicts["written out"] != "saddle"  # L = 0 is the lowest it can be


def test_an_operation_that_fails_in_batches_is_multiplied_one_by_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(16, 2)).double()
    data = {"x": torch.randn(6, 1, 4, 4, dtype=torch.float64), "y": torch.randint(0, 2, (6,))}
    params = dict(model.named_parameters())
    report = saddlescope.analyze(cross_entropy(model), params, data, landscape=False)
    expected = torch.linalg.eigvalsh(truth(cross_entropy(model), params, data))
    assert report.spectrum.eigenvalues == pytest.approx(expected.tolist(), abs=1e-12)
