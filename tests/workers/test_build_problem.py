"""A request and its files become one problem, and a fault has the code of the part to mend."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import JsonValue

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import FailureCode
from saddlescope.curvature.objective import Objective
from workers.building import build_problem
from workers.faults import JobFault

CHECKPOINT, DATA = "sha256:" + "a" * 64, "sha256:" + "b" * 64
LECTURE: dict[str, JsonValue] = {
    "kind": "network",
    "layers": [{"type": "linear", "in_features": 1, "out_features": 1, "bias": False}] * 2,
    "criterion": {"type": "mse", "reduction": "mean"},
}


def request(**body: JsonValue) -> JobRequest:
    return JobRequest.model_validate(body)


def test_the_lecture_network_is_built_from_inline_numbers_and_from_files(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(1, 1), "1.weight": torch.zeros(1, 1)}, tmp_path / "checkpoint")
    np.savez(tmp_path / "data.npz", inputs=np.ones((4, 1), dtype=np.int64), targets=np.ones((4, 1)))
    inline = request(
        checkpoint={"inline": {"0.weight": [[0.0]], "1.weight": [[0]]}},
        loss=LECTURE,
        data={"inline": {"inputs": [[1]], "targets": [[1]]}},
    )
    files = request(checkpoint={"artifact": CHECKPOINT}, loss=LECTURE, data={"artifact": DATA})
    paths = {CHECKPOINT: tmp_path / "checkpoint", DATA: tmp_path / "data.npz"}
    for problem in (build_problem(inline, {}).problem, build_problem(files, paths).problem):
        objective = Objective(problem, dtype=torch.float64)
        assert objective.loss(objective.theta) == 1.0
        assert problem.lower_bound == 0.0
        hessian = torch.autograd.functional.hessian(
            partial(objective.batch_loss, batch=next(objective.batches())[1]), objective.theta
        )
        assert torch.equal(problem.scale * hessian, torch.tensor([[0.0, -2.0], [-2.0, 0.0]]).double())


def test_inline_whole_numbers_are_classes_in_data_and_real_in_a_checkpoint() -> None:
    loss = {
        "kind": "network",
        "layers": [{"type": "linear", "in_features": 2, "out_features": 3, "bias": False}],
        "criterion": {"type": "cross_entropy"},
    }
    body = request(
        checkpoint={"inline": {"0.weight": [[0, 0], [0, 0], [0, 0]]}},
        loss=loss,
        data={"inline": {"inputs": [[1, 0], [0, 1]], "targets": [2, 0]}},
    )
    problem = build_problem(body, {}).problem
    assert problem.params["0.weight"].dtype is torch.float64
    assert problem.data["targets"].dtype is torch.int64
    objective = Objective(problem, dtype=torch.float64)
    assert objective.loss(objective.theta) == pytest.approx(math.log(3))


EXPRESSION: dict[str, JsonValue] = {"kind": "expression", "expression": "mean((x*w - 1)**2)"}
FAULTS: dict[str, tuple[dict[str, JsonValue], FailureCode, str, str]] = {
    "NaN weight": (
        {"checkpoint": {"artifact": CHECKPOINT}, "data": {"inline": {"x": [1.0]}}},
        FailureCode.CHECKPOINT_INVALID,
        "'w' of the checkpoint holds NaN",
        "/checkpoint",
    ),
    "infinite data": (
        {"data": {"inline": {"x": [10**400]}}},
        FailureCode.DATA_INVALID,
        "'x' of the data holds an infinite number",
        "/data",
    ),
    "no rows": ({"data": {"inline": {"x": []}}}, FailureCode.DATA_INVALID, "no rows", "/data"),
    "scalar data": ({"data": {"inline": {"x": 1.0}}}, FailureCode.DATA_INVALID, "single number", "/data"),
    "unequal rows": (
        {"data": {"inline": {"x": [1.0], "y": [1.0, 2.0]}}},
        FailureCode.DATA_INVALID,
        "1 and 2 rows",
        "/data",
    ),
    "no data": ({}, FailureCode.LOSS_INVALID, "names 'x'", "/loss/expression"),
    "checkpoint as data": ({"data": {"artifact": CHECKPOINT}}, FailureCode.DATA_INVALID, "torch.save", "/data"),
    "not a mean": (
        {
            "loss": {"kind": "expression", "expression": "norm(x*w - 1)"},
            "data": {"inline": {"x": [1.0, 2.0, 5.0]}},
            "options": {"batch_size": 2},
        },
        FailureCode.LOSS_INVALID,
        "leave out batch_size",
        "/options/batch_size",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_names_the_part_to_mend(tmp_path: Path, case: str) -> None:
    changes, code, message, pointer = FAULTS[case]
    torch.save({"w": torch.tensor([1.0, math.nan])}, tmp_path / "checkpoint")
    body = request(**{"checkpoint": {"inline": {"w": 0.5}}, "loss": EXPRESSION} | changes)
    with pytest.raises(JobFault) as caught:
        build_problem(body, {CHECKPOINT: tmp_path / "checkpoint"})
    assert (caught.value.code, caught.value.pointer) == (code, pointer)
    assert message in caught.value.detail


def test_a_mean_over_examples_may_be_batched() -> None:
    body = request(
        checkpoint={"inline": {"w": 0.5}},
        loss=EXPRESSION,
        data={"inline": {"x": [1.0, 2.0, 5.0]}},
        options={"batch_size": 2},
    )
    assert build_problem(body, {}).problem.num_examples == 3
