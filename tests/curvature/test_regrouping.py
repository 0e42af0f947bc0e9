"""A loss that its rows do not make up is noticed before anything rests on it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from saddlescope import analyze
from saddlescope.contract.vocabulary import Caution, Reduction
from saddlescope.curvature.errors import NotAdditive, OutOfMemory
from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.regrouping import disagreement

ROWS, INPUTS, CLASSES, IGNORED = 10, 3, 4, -100
Tensors = Mapping[str, Tensor]


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(num_ignored: int = 0) -> dict[str, Tensor]:
    """Rows of two tokens each; the second token of the last rows is ignored."""
    labels = torch.randint(0, CLASSES, (ROWS, 2), generator=drawn(1))
    labels[ROWS - num_ignored :, 1] = IGNORED
    return {"x": torch.randn(ROWS, 2, INPUTS, generator=drawn(2), dtype=torch.float64), "y": labels}


def params(scale: float = 1.0) -> dict[str, Tensor]:
    return {"W": scale * torch.randn(CLASSES, INPUTS, generator=drawn(), dtype=torch.float64)}


def tokens(t: Tensors, batch: Tensors, reduction: str = "mean") -> Tensor:
    scores = batch["x"] @ t["W"].T
    return cross_entropy(scores.flatten(0, 1), batch["y"].flatten(), ignore_index=IGNORED, reduction=reduction)


def summed(t: Tensors, batch: Tensors) -> Tensor:
    return tokens(t, batch, "sum")


@pytest.mark.parametrize("batch_size", [3, 4, 5])
def test_a_sum_that_is_called_a_mean_is_refused_with_what_to_declare(batch_size: int) -> None:
    with pytest.raises(NotAdditive, match="declare reduction 'sum'"):
        analyze(summed, params(), data(), batch_size=batch_size)


def test_a_mean_that_is_called_a_sum_is_refused_with_what_to_declare() -> None:
    with pytest.raises(NotAdditive, match="declare reduction 'mean'"):
        analyze(tokens, params(), data(), batch_size=4, reduction="sum")


@pytest.mark.parametrize("scale", [0.0, 1.0], ids=["zero weights", "weights"])
def test_a_mean_that_leaves_out_ignored_labels_is_refused_over_several_batches(scale: float) -> None:
    with pytest.raises(NotAdditive, match="ignored labels"):
        analyze(tokens, params(scale), data(num_ignored=4), batch_size=4)


def test_over_one_batch_it_is_what_the_loss_says_and_the_report_warns() -> None:
    rows, weights = data(num_ignored=4), params()
    report = analyze(tokens, weights, rows, batch_size=ROWS, data_is_sample=True, landscape=False)
    assert Caution.NOT_ADDITIVE in [warning.code for warning in report.warnings]
    flat = weights["W"].flatten()
    truth = torch.func.hessian(lambda w: tokens({"W": w.view(CLASSES, INPUTS)}, rows))(flat)
    values = torch.linalg.eigvalsh(truth)
    assert report.lambda_min.estimate == pytest.approx(values[0].item(), abs=1e-12)
    assert report.lambda_max.estimate == pytest.approx(values[-1].item(), rel=1e-10)


def test_a_loss_that_knows_one_number_of_rows_is_taken_as_one_batch() -> None:
    def recorded(t: Tensors, batch: Tensors) -> Tensor:
        return tokens(t, {"x": batch["x"].view(ROWS, 2, INPUTS), "y": batch["y"]})

    report = analyze(recorded, params(), data(), batch_size=ROWS, landscape=False)
    assert [warning.code for warning in report.warnings if "alone" in warning.detail] == [Caution.NOT_ADDITIVE]


def test_rows_for_which_memory_does_not_suffice_say_nothing_about_the_loss() -> None:
    def large(t: Tensors, batch: Tensors) -> Tensor:
        if len(batch["y"]) < ROWS:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return tokens(t, batch)

    objective = Objective(Problem(loss=large, params=params(), data=data()), dtype=torch.float64, batch_size=ROWS)
    direction = sphere_vector(
        objective.num_parameters, generator=drawn(), dtype=torch.float64, device=torch.device("cpu")
    )
    with pytest.raises(OutOfMemory, match="does not suffice"):
        disagreement(objective, objective.theta, direction)


@pytest.mark.parametrize("batch_size", [1, 4, ROWS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_means_and_sums_over_rows_that_count_alike_pass(seed: int, dtype: torch.dtype, batch_size: int) -> None:
    alike = data(num_ignored=ROWS)
    for loss, reduction in ((tokens, Reduction.MEAN), (summed, Reduction.SUM)):
        problem = Problem(loss=loss, params=params(10.0**seed - 1), data=alike, reduction=reduction)
        objective = Objective(problem, dtype=dtype, batch_size=batch_size)
        direction = sphere_vector(
            objective.num_parameters, generator=drawn(seed), dtype=dtype, device=torch.device("cpu")
        )
        assert disagreement(objective, objective.theta, direction) is None
