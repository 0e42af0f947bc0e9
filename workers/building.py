"""A request and its artifacts become a `Problem`: the one place where uploaded bytes turn into an objective."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import torch
from pydantic import JsonValue
from torch import Tensor

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.losses import ExpressionLoss, LossSpec, NetworkLoss, ProgramLoss
from saddlescope.contract.sources import (
    ArtifactSource,
    CheckpointSource,
    InlineSource,
    ObjectSource,
    PathSource,
    TensorSource,
    numbers,
    shape_of,
)
from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault, quoted
from workers.losses import BuiltProblem
from workers.losses.expression import expression_problem
from workers.losses.network import network_problem
from workers.losses.program import program_problem
from workers.readers.checkpoint import read_tensors
from workers.readers.data import check_rows, read_data
from workers.readers.mapped import Source

__all__ = ["BuiltProblem", "build_problem"]


def build_problem(request: JobRequest, artifacts: Mapping[str, Source]) -> BuiltProblem:
    """The problem that a request describes; `artifacts` are files by artifact id.

    Raises:
        JobFault: whatever is wrong with checkpoint, loss or data, with the code of the part to mend.
    """
    checkpoint = _checkpoint(request.checkpoint, artifacts)
    data = {} if request.data is None else _data(request.data, artifacts)
    built = _built(request.loss, checkpoint, data, artifacts)
    batch_size = request.options.batch_size
    if isinstance(request.loss, ExpressionLoss) and batch_size is not None:
        _check_batches(built, batch_size)
    return built


def _built(
    loss: LossSpec, checkpoint: dict[str, Tensor], data: dict[str, Tensor], artifacts: Mapping[str, Source]
) -> BuiltProblem:
    match loss:
        case NetworkLoss():
            return network_problem(loss, checkpoint, data)
        case ExpressionLoss():
            return expression_problem(loss, checkpoint, data)
        case ProgramLoss():
            return program_problem(loss, artifacts[loss.program.artifact], checkpoint, data)


def _checkpoint(source: CheckpointSource, artifacts: Mapping[str, Source]) -> dict[str, Tensor]:
    match source:
        case ArtifactSource():
            tensors = read_tensors(artifacts[source.artifact])
        case PathSource(path=name) | ObjectSource(s3=name):
            tensors = read_tensors(artifacts[name])
        case InlineSource():
            tensors = {name: _inline(value, torch.float64) for name, value in source.inline.items()}
    _check_finite(tensors, FailureCode.CHECKPOINT_INVALID, "checkpoint")
    return tensors


def _data(source: TensorSource, artifacts: Mapping[str, Source]) -> dict[str, Tensor]:
    match source:
        case ArtifactSource():
            tensors = read_data(artifacts[source.artifact])
        case InlineSource():
            tensors = {name: _inline(value, None) for name, value in source.inline.items()}
            check_rows(tensors)
    _check_finite(tensors, FailureCode.DATA_INVALID, "data")
    return tensors


def _inline(value: JsonValue, dtype: torch.dtype | None) -> Tensor:
    """An inline tensor; without a dtype it is int64 when every number is an integer in JSON, else float64."""
    flat = list(numbers(value))
    if dtype is None:
        is_integral = bool(flat) and all(isinstance(number, int) and abs(number) < 2**63 for number in flat)
        dtype = torch.int64 if is_integral else torch.float64
    if dtype is torch.float64:
        # JSON knows integers beyond any float; they go the way of every other infinite number.
        flat = [number if abs(number) <= sys.float_info.max else math.inf for number in flat]
    return torch.tensor(flat, dtype=dtype).reshape(shape_of(value))


def _check_finite(tensors: Mapping[str, Tensor], code: FailureCode, part: str) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            kind = "NaN" if torch.isnan(tensor).any() else "an infinite number"
            raise JobFault(code, f"tensor {quoted(name)} of the {part} holds {kind}", f"/{part}")


def _check_batches(built: BuiltProblem, batch_size: int) -> None:
    """An expression may be no mean over examples (a norm of residuals is not); then batching would change L."""
    problem = built.problem
    rows = problem.num_examples
    if not problem.data or batch_size >= rows:
        return
    tensors = {name: tensor.double() for name, tensor in {**problem.constants, **problem.params}.items()}
    data = {name: tensor.double() for name, tensor in problem.data.items()}
    with torch.no_grad():
        whole = problem.loss(tensors, data).item()
        pieces = 0.0
        for start in range(0, rows, batch_size):
            batch = {name: tensor[start : start + batch_size] for name, tensor in data.items()}
            weight = len(next(iter(batch.values()))) / rows if problem.reduction == "mean" else 1.0
            pieces += weight * problem.loss(tensors, batch).item()
    if abs(whole - pieces) > 1e-9 * max(abs(whole), abs(pieces)):
        raise JobFault(
            FailureCode.LOSS_INVALID,
            f"over all {rows} rows the expression is {whole:.6g}, combined from batches of {batch_size} by "
            f"{problem.reduction} it is {pieces:.6g}: leave out batch_size, or choose the reduction that fits",
            "/options/batch_size",
        )
