"""Escapes through several negative directions at once, and steps that the checkpoint's dtype can hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from saddlescope.curvature.escape import Direction, search
from saddlescope.curvature.noise import Preflight, preflight
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.subspace import search_subspace

Tensors = dict[str, Tensor]


def prepared(
    loss: Callable[[Tensors], Tensor], theta: Tensor
) -> tuple[Objective, HessianOperator, Preflight, list[int]]:
    evaluations: list[int] = []

    def counted(tensors: Tensors, _: Tensors) -> Tensor:
        evaluations.append(1)
        return loss(tensors)

    objective = Objective(Problem(loss=counted, params={"w": theta}), dtype=torch.float64)
    operator = HessianOperator(objective, objective.theta)
    measured = preflight(objective, operator, generator=torch.Generator().manual_seed(0))
    evaluations.clear()
    return objective, operator, measured, evaluations


def axes(curvatures: Tensor) -> list[Direction]:
    eye = torch.eye(curvatures.numel(), dtype=torch.float64)
    return [Direction(eye[i], float(curvatures[i]), 0.0) for i in range(curvatures.numel()) if curvatures[i] < 0]


CURVATURES = torch.tensor([-4.0, -3.0, -2.0, 1.0], dtype=torch.float64)


def wells(t: Tensors) -> Tensor:
    w = t["w"]
    return (0.5 * CURVATURES * w**2 + 0.25 * w**4).sum()


def test_a_combination_falls_further_than_any_direction_alone() -> None:
    objective, operator, measured, evaluations = prepared(wells, torch.zeros(4, dtype=torch.float64))
    directions = axes(CURVATURES)
    alone = min(search(objective, direction, measured).loss_after for direction in directions)
    assert alone == pytest.approx(-4.0, rel=1e-6)  # −λ²/4
    evaluations.clear()
    path = search_subspace(objective, operator, directions, measured, generator=torch.Generator().manual_seed(0))
    assert path is not None
    assert len(evaluations) <= 150
    assert path.verified
    assert path.loss_after < -6.0  # all three together: −29/4
    assert path.vector.norm().item() == pytest.approx(1.0)
    assert objective.loss(objective.moved(path.step, path.vector)) == path.loss_after
    assert path.curvature == pytest.approx((CURVATURES * path.vector**2).sum().item())
    assert path.curvature < 0


def test_signs_matter_and_are_found() -> None:
    # Lower where the first two go opposite ways, and a slope that says nothing of it.
    def tilted(t: Tensors) -> Tensor:
        return wells(t) + 1.5 * t["w"][0] ** 3 * t["w"][1]

    objective, operator, measured, _ = prepared(tilted, torch.zeros(4, dtype=torch.float64))
    path = search_subspace(objective, operator, axes(CURVATURES), measured, generator=torch.Generator().manual_seed(1))
    assert path is not None
    assert (path.vector[0] * path.vector[1]).item() < 0


def test_nothing_is_added_where_one_direction_is_best_or_alone() -> None:
    def rivals(t: Tensors) -> Tensor:  # going both ways costs more than it gains
        w = t["w"]
        return wells(t) + 50 * (w[0] * w[1]) ** 2 + 50 * (w[0] * w[2]) ** 2 + 50 * (w[1] * w[2]) ** 2

    objective, operator, measured, evaluations = prepared(rivals, torch.zeros(4, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    assert search_subspace(objective, operator, axes(CURVATURES), measured, generator=generator) is None
    evaluations.clear()
    assert search_subspace(objective, operator, axes(CURVATURES)[:1], measured, generator=generator) is None
    assert not evaluations


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("best", [0.02, 0.05, 0.3])
def test_a_step_survives_the_cast_to_the_checkpoint(dtype: torch.dtype, best: float) -> None:
    size = 50
    unit = torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    unit = unit / unit.norm()

    def well(t: Tensors) -> Tensor:
        moved = t["w"] - 1
        along = unit @ moved
        across = moved - along * unit
        return -(along**2) + along**4 / (2 * best**2) + 0.05 * across.square().sum()

    objective, _, measured, _ = prepared(well, torch.ones(size, dtype=dtype))
    path = search(objective, Direction(unit, -2.0, 0.0), measured)
    held = {"w": (torch.ones(size, dtype=torch.float64) + path.step * path.vector).to(dtype).double()}
    assert well(held).item() == pytest.approx(path.loss_after, abs=1e-15)
    assert path.verified
    assert not path.is_lost_to_rounding
    assert path.decrease >= 0.5 * best**2 / 2  # half of what is there to gain
