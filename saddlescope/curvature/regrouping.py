"""Whether the loss of a batch is what its rows make of it in other groups.

    ℓ(A ∪ B) = (|A| ℓ(A) + |B| ℓ(B)) / (|A| + |B|) for a mean,    ℓ(A) + ℓ(B) for a sum

Batches that fit in memory, ragged batches, devices and halves of a sample all rest on it. A sum that is called a mean breaks it,
and so does a mean that leaves out ignored or padded rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.contract.vocabulary import Reduction
from saddlescope.curvature.backoff import is_out_of_memory
from saddlescope.curvature.errors import OutOfMemory
from saddlescope.curvature.objective import Objective

ONE_IN = 3  # rows go to the smaller part: two equal ones would hide what is alike in both
RADII = (0.1, 1e-3)
RTOL = {torch.float32: 1e-4, torch.float64: 1e-6}


@dataclass(frozen=True)
class _Batch:
    """The losses of a batch, of one in three of its rows, and of the others (NaN where there is one row only)."""

    num_rows: int
    whole: float
    first: float
    second: float


def disagreement(objective: Objective, theta: Tensor, direction: Tensor) -> str | None:
    """In words, where the rows make up another loss in other groups; None where they do not, or nobody says they should.

    Each batch is compared with two parts of it, and the batches of consecutive rows with batches across all rows. Rows may be
    alike at a point such as zero weights, so L is looked at a tenth of a relative step away from θ (n,) along a unit direction
    (n,), or nearer where it overflows there. Costs three evaluations of L without graphs.
    """
    if not objective.is_additive or objective.num_examples < 2:
        return None
    step = math.sqrt(theta.numel()) * objective.relative_scales() * direction
    for radius in RADII:
        point = theta + radius * step
        with torch.no_grad():
            try:
                batches = _batches(objective, point)
                across = _across(objective, point) if len(batches) > 1 else []
            except RuntimeError as error:  # a program recorded for one number of rows
                if is_out_of_memory(error):
                    raise OutOfMemory(f"memory does not suffice: {error}") from error
                return "the loss cannot be evaluated on some of the rows alone"
        if all(math.isfinite(batch.whole) for batch in batches):
            reduction, rtol = objective.problem.reduction, RTOL[objective.dtype]
            told = (_in_parts(reduction, batch, rtol) for batch in batches if batch.num_rows > 1)
            whole = _across_told(reduction, [(batch.num_rows, batch.whole) for batch in batches], across, rtol)
            return next((words for words in told if words is not None), whole)
    return None


def _batches(objective: Objective, theta: Tensor) -> list[_Batch]:
    found = []
    for _, batch in objective.batches():
        count = next(iter(batch.values())).shape[0]
        rows = torch.arange(count, device=objective.device)
        chosen = rows % ONE_IN == 0
        parts = [{name: tensor[part] for name, tensor in batch.items()} for part in (rows[chosen], rows[~chosen])]
        whole = objective.batch_loss(theta, batch).item()
        first, second = (objective.batch_loss(theta, part).item() if count > 1 else math.nan for part in parts)
        found.append(_Batch(count, whole, first, second))
    return found


def _across(objective: Objective, theta: Tensor) -> list[tuple[int, float]]:
    """(rows, loss) of as many batches, each taken from everywhere."""
    count = objective.num_batches()
    rows = [torch.arange(start, objective.num_examples, count, device=objective.device) for start in range(count)]
    return [(chosen.numel(), objective.batch_loss(theta, objective.chosen(chosen)).item()) for chosen in rows]


def _combined(reduction: Reduction, losses: Sequence[tuple[int, float]]) -> float:
    total = sum(rows for rows, _ in losses)
    return sum((rows / total if reduction is Reduction.MEAN else 1.0) * loss for rows, loss in losses)


def _is_made_up(whole: float, reduction: Reduction, losses: Sequence[tuple[int, float]], rtol: float) -> bool:
    size = abs(whole) + _combined(reduction, [(rows, abs(loss)) for rows, loss in losses])
    return abs(_combined(reduction, losses) - whole) <= rtol * size


def _in_parts(declared: Reduction, batch: _Batch, rtol: float) -> str | None:
    smaller = -(-batch.num_rows // ONE_IN)
    parts = [(smaller, batch.first), (batch.num_rows - smaller, batch.second)]
    agreeing = [each for each in Reduction if _is_made_up(batch.whole, each, parts, rtol)]
    if declared in agreeing:
        return None
    advice = f"; it is a {agreeing[0].value}: declare reduction '{agreeing[0].value}'" if agreeing else ""
    return (
        f"near θ the loss of a batch of {batch.num_rows} rows is {batch.whole:.6g}, while two parts of it make up "
        f"{_combined(declared, parts):.6g} as a {declared.value}{advice}"
    )


def _across_told(
    declared: Reduction, batches: Sequence[tuple[int, float]], across: Sequence[tuple[int, float]], rtol: float
) -> str | None:
    whole = _combined(declared, batches)
    if not across or _is_made_up(whole, declared, across, rtol):
        return None
    return (
        f"near θ the loss as a {declared.value} over {len(batches)} batches is {whole:.6g} or {_combined(declared, across):.6g}, "
        "by which rows are batched together"
    )
