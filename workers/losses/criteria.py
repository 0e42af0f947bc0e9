"""Criteria: the loss of a batch as a sum, and the one denominator of the mean over the whole data set.

A mean of PyTorch divides by what the batch holds (elements, or the weights of the targets that are not ignored).
Summing the batches and dividing once gives the loss of the whole data set exactly, however its rows are batched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from saddlescope.contract.losses import L1, MSE, NLL, BCEWithLogits, Criterion, CrossEntropy, Huber
from saddlescope.contract.vocabulary import FailureCode, Reduction
from workers.faults import JobFault

_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """What a criterion needs to know of the whole data set.

    Attributes:
        targets: in the kind that the criterion reads (class indices int64, all else floating).
        constants: the class weights, by the names that `batch_sum` reads.
        scale: 1, or 1/denominator for a mean.
        lower_bound: the least value that L can take with any network, where there is one.
    """

    targets: Tensor
    constants: dict[str, Tensor]
    scale: float
    lower_bound: float | None


def batch_sum(criterion: Criterion, tensors: Mapping[str, Tensor], output: Tensor, targets: Tensor) -> Tensor:
    """The criterion summed over a batch (reduction='sum' of torch.nn.functional)."""
    weight = tensors.get("criterion.weight")
    match criterion:
        case MSE():
            return functional.mse_loss(output, targets, reduction="sum")
        case L1():
            return functional.l1_loss(output, targets, reduction="sum")
        case Huber():
            # torch's own Huber loss has no forward mode of its backward.
            distance, delta = (output - targets).abs(), criterion.delta
            return torch.where(distance < delta, 0.5 * distance.square(), delta * (distance - 0.5 * delta)).sum()
        case BCEWithLogits():
            return functional.binary_cross_entropy_with_logits(
                output, targets, weight, reduction="sum", pos_weight=tensors.get("criterion.pos_weight")
            )
        case CrossEntropy():
            return functional.cross_entropy(
                output,
                targets,
                weight,
                ignore_index=criterion.ignore_index,
                reduction="sum",
                label_smoothing=criterion.label_smoothing,
            )
        case NLL():
            return functional.nll_loss(output, targets, weight, ignore_index=criterion.ignore_index, reduction="sum")


def measure(criterion: Criterion, output_shape: _Shape, targets: Tensor) -> Measured:
    """Check the targets against an output of shape (·, *output_shape[1:]) and find what the whole data set fixes.

    Raises:
        JobFault: `data_invalid` for targets that do not fit, `loss_invalid` for class weights that do not.
    """
    lowest: float | None
    match criterion:
        case MSE() | L1() | Huber():
            _check_shape(targets, output_shape, criterion.type)
            targets, constants, lowest = _floating(targets), {}, 0.0
            denominator = float(targets.numel())
        case BCEWithLogits():
            _check_shape(targets, output_shape, criterion.type)
            targets, constants = _floating(targets), _element_weights(criterion, output_shape)
            lowest = _least_bce(targets, constants)
            denominator = float(targets.numel())
        case CrossEntropy() if targets.dim() == len(output_shape):
            _check_shape(targets, output_shape, "cross_entropy with class probabilities")
            targets, constants = _floating(targets), _class_weights(criterion, output_shape)
            lowest = _least_cross_entropy(targets, constants["criterion.weight"], criterion.label_smoothing)
            denominator = float(targets.numel() // output_shape[1])
        case CrossEntropy() | NLL():
            constants = _class_weights(criterion, output_shape)
            targets = _class_indices(criterion, output_shape, targets)
            counts = targets[targets != criterion.ignore_index].bincount(minlength=output_shape[1]).double()
            weights = constants["criterion.weight"]
            lowest = _least_smoothed(counts, weights, criterion) if isinstance(criterion, CrossEntropy) else None
            denominator = (counts * weights).sum().item()
    if criterion.reduction is Reduction.SUM:
        return Measured(targets, constants, 1.0, lowest)
    if denominator <= 0:
        raise _misfit("the mean over no target is not defined: every target is ignored or weighs nothing")
    return Measured(targets, constants, 1 / denominator, None if lowest is None else lowest / denominator)


def _misfit(detail: str) -> JobFault:
    return JobFault(FailureCode.DATA_INVALID, detail, "/data")


def _written(shape: _Shape) -> str:
    return "(N" + "".join(f", {extent}" for extent in shape[1:]) + ("," if len(shape) == 1 else "") + ")"


def _check_shape(targets: Tensor, output_shape: _Shape, criterion: str) -> None:
    # PyTorch would broadcast (N,) against (N, 1) to (N, N) and only warn.
    if tuple(targets.shape[1:]) != output_shape[1:]:
        raise _misfit(
            f"{criterion} wants targets of the shape of the network's output, {_written(output_shape)}; "
            f"they have shape {_written(tuple(targets.shape))}"
        )


def _floating(targets: Tensor) -> Tensor:
    return targets if targets.is_floating_point() else targets.double()


def _class_indices(criterion: CrossEntropy | NLL, output_shape: _Shape, targets: Tensor) -> Tensor:
    wanted = (output_shape[0], *output_shape[2:])
    if tuple(targets.shape[1:]) != wanted[1:]:
        raise _misfit(
            f"{criterion.type} wants class indices of shape {_written(wanted)} for an output of shape "
            f"{_written(output_shape)}; the targets have shape {_written(tuple(targets.shape))}"
        )
    if targets.is_floating_point():
        raise _misfit(
            f"{criterion.type} wants integer class indices as targets, not {targets.dtype}".replace("torch.", "")
        )
    targets = targets.long()
    is_wrong = ((targets < 0) | (targets >= output_shape[1])) & (targets != criterion.ignore_index)
    if is_wrong.any():
        first = targets[is_wrong][0].item()
        row = int(is_wrong.nonzero()[0, 0].item())
        raise _misfit(
            f"row {row} of the targets holds class {first}; the network has classes 0 to {output_shape[1] - 1}"
        )
    return targets


def _class_weights(criterion: CrossEntropy | NLL, output_shape: _Shape) -> dict[str, Tensor]:
    if len(output_shape) < 2:
        raise JobFault(
            FailureCode.LOSS_INVALID,
            f"{criterion.type} takes outputs of shape (N, classes, …), not {_written(output_shape)}",
            "/loss/layers",
        )
    num_classes = output_shape[1]
    if criterion.weight is None:
        return {"criterion.weight": torch.ones(num_classes, dtype=torch.float64)}
    if len(criterion.weight) != num_classes:
        detail = f"{len(criterion.weight)} class weights for {num_classes} classes; give one a class"
        raise JobFault(FailureCode.LOSS_INVALID, detail, "/loss/criterion/weight")
    return {"criterion.weight": torch.tensor(criterion.weight, dtype=torch.float64)}


def _element_weights(criterion: BCEWithLogits, output_shape: _Shape) -> dict[str, Tensor]:
    last = output_shape[-1] if len(output_shape) > 1 else 1
    weights = {}
    for name, given in (("weight", criterion.weight), ("pos_weight", criterion.pos_weight)):
        if given is None:
            continue
        if len(given) not in (1, last):
            detail = f"{len(given)} weights do not broadcast over the outputs of an example; give 1 or {last}"
            raise JobFault(FailureCode.LOSS_INVALID, detail, f"/loss/criterion/{name}")
        weights[f"criterion.{name}"] = torch.tensor(given, dtype=torch.float64)
    return weights


# What no network can undercut: sum_c a_c log(A / a_c) with A = sum_c a_c, where the loss is -sum_c a_c log p_c. It is
# rounded down a little, since L itself is only known to rounding.
_ROUNDING = 1 - 1e-9


def _x_log_x(x: Tensor) -> Tensor:
    return torch.xlogy(x, x)


def _least_bce(targets: Tensor, constants: Mapping[str, Tensor]) -> float | None:
    one = torch.ones((), dtype=torch.float64)
    weight, pos_weight = constants.get("criterion.weight", one), constants.get("criterion.pos_weight", one)
    t = targets.double()
    if (t < 0).any() or (t > 1).any() or (weight < 0).any() or (pos_weight < 0).any():
        return None
    a, b = pos_weight * t, 1 - t
    return _ROUNDING * (weight * (_x_log_x(a + b) - _x_log_x(a) - _x_log_x(b))).sum().item()


def _least_cross_entropy(targets: Tensor, weights: Tensor, smoothing: float) -> float | None:
    if (targets < 0).any() or (weights < 0).any():
        return None
    probabilities = targets.double().movedim(1, -1)
    a = weights * (probabilities * (1 - smoothing) + smoothing / len(weights))
    return _ROUNDING * (_x_log_x(a.sum(-1)) - _x_log_x(a).sum(-1)).sum().item()


def _least_smoothed(counts: Tensor, weights: Tensor, criterion: CrossEntropy) -> float | None:
    if (weights < 0).any():
        return None
    rest = criterion.label_smoothing / len(weights) * weights  # a_c of the classes that are not the target
    own = (1 - criterion.label_smoothing) * weights + rest
    total = (1 - criterion.label_smoothing) * weights + rest.sum()
    each = _x_log_x(total) - (_x_log_x(rest).sum() - _x_log_x(rest) + _x_log_x(own))
    return max(0.0, _ROUNDING * (counts * each).sum().item())
