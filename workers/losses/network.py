"""`network` losses: a sequential network and a criterion, checked against checkpoint and data before any work."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from saddlescope.contract.layers import Conv1d, Conv2d, GroupNorm, Layers, Residual, tensor_shapes
from saddlescope.contract.losses import NetworkLoss
from saddlescope.contract.reports import ReportWarning
from saddlescope.contract.vocabulary import Caution, FailureCode, Reduction
from saddlescope.curvature.objective import Problem
from workers.faults import JobFault, quoted
from workers.losses import BuiltProblem, ignored_tensors
from workers.losses.chaining import first_embedding, output_like, reads_indices
from workers.losses.criteria import batch_sum, measure
from workers.losses.sequential import evaluate

# Three rows stand for any number of them: one would hide a layer that mixes examples.
_DRY_ROWS = 3


def network_problem(loss: NetworkLoss, checkpoint: dict[str, Tensor], data: dict[str, Tensor]) -> BuiltProblem:
    """criterion(network(inputs), targets) over the whole data set, in eval mode, equal to PyTorch's value.

    Raises:
        JobFault: `parameter_mismatch` where checkpoint and layers disagree, `loss_invalid` for layers that do not
            chain, `data_invalid` for inputs or targets that the network or the criterion does not take.
    """
    _check_groups(loss.layers)
    inputs, targets = _inputs_and_targets(data)
    params, buffers, warnings = _match(loss.layers, checkpoint)
    inputs = _readable(loss.layers, inputs)
    output_shape = _dry_output_shape(loss.layers, {**params, **buffers}, inputs)
    measured = measure(loss.criterion, output_shape, targets)

    def batch_loss(tensors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        output = evaluate(loss.layers, tensors, batch["inputs"])
        return batch_sum(loss.criterion, tensors, output, batch["targets"])

    unread = [name for name in data if name not in ("inputs", "targets")]
    if unread:
        detail = f"the loss reads only inputs and targets of the data; left out: {quoted(unread[0])}"
        warnings = (*warnings, ReportWarning(code=Caution.IGNORED_TENSORS, detail=detail))
    return BuiltProblem(
        Problem(
            loss=batch_loss,
            params=params,
            constants={**buffers, **measured.constants},
            data={"inputs": inputs, "targets": measured.targets},
            reduction=Reduction.SUM,
            scale=measured.scale,
            weight_decay=loss.weight_decay,
            lower_bound=measured.lower_bound,
        ),
        warnings,
    )


def _check_groups(layers: Layers, prefix: str = "") -> None:
    for index, layer in enumerate(layers):
        place = f"layer {prefix}{index} ({layer.type})"
        match layer:
            case Conv1d() | Conv2d():
                is_even = layer.in_channels % layer.groups == 0 and layer.out_channels % layer.groups == 0
            case GroupNorm():
                is_even = layer.num_channels % layer.num_groups == 0
            case Residual():
                _check_groups(layer.layers, f"{prefix}{index} / ")
                continue
            case _:
                continue
        if not is_even:
            raise JobFault(FailureCode.LOSS_INVALID, f"{place}: channels must be divisible by groups", "/loss/layers")


def _inputs_and_targets(data: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    missing = [name for name in ("inputs", "targets") if name not in data]
    if missing:
        held = ", ".join(quoted(name) for name in list(data)[:10]) or "nothing"
        detail = (
            f"a network loss reads the data tensors 'inputs' and 'targets'; {missing[0]!r} is missing, given: {held}"
        )
        raise JobFault(FailureCode.DATA_INVALID, detail, "/data")
    return data["inputs"], data["targets"]


def _match(
    layers: Layers, checkpoint: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor], tuple[ReportWarning, ...]]:
    """Parameters and buffers of the layers, out of the checkpoint."""
    shapes = tensor_shapes(layers)
    expected = shapes.parameters | shapes.buffers
    wrong = [
        f"{quoted(name)} should have shape {shape} and {_found(checkpoint.get(name))}"
        for name, shape in expected.items()
        if name not in checkpoint or tuple(checkpoint[name].shape) != shape or not checkpoint[name].is_floating_point()
    ]
    extra = [name for name in checkpoint if name not in expected and not name.endswith("num_batches_tracked")]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        held = f" The checkpoint also holds {', '.join(quoted(name) for name in extra[:5])}." if extra else ""
        raise JobFault(
            FailureCode.PARAMETER_MISMATCH,
            f"checkpoint and layers disagree: {'; '.join(wrong[:5])}{more}.{held} "
            "Names are those of torch.nn.Sequential's state dict.",
            "/checkpoint",
        )
    if not shapes.parameters:
        raise JobFault(FailureCode.LOSS_INVALID, "no layer of the network has a parameter", "/loss/layers")
    params = {name: checkpoint[name] for name in shapes.parameters}
    buffers = {name: checkpoint[name] for name in shapes.buffers}
    for name, tensor in buffers.items():
        if name.endswith("running_var") and (tensor < 0).any():
            detail = f"the running variance {quoted(name)} has negative entries"
            raise JobFault(FailureCode.CHECKPOINT_INVALID, detail, "/checkpoint")
    return params, buffers, ignored_tensors(extra)


def _found(tensor: Tensor | None) -> str:
    if tensor is None:
        return "is missing"
    kind = "" if tensor.is_floating_point() else f" and dtype {str(tensor.dtype).removeprefix('torch.')}, not floating"
    return f"has shape {tuple(tensor.shape)}{kind}"


def _readable(layers: Layers, inputs: Tensor) -> Tensor:
    """Inputs as the first layer reads them: int64 indices for an embedding, else floating."""
    if not reads_indices(layers):
        if inputs.is_floating_point():
            return inputs
        # Pixels as bytes are exact in float32, and a quarter of the memory of float64 until they are cast.
        return inputs.float() if inputs.element_size() == 1 else inputs.double()
    embedding = first_embedding(layers)
    if inputs.is_floating_point():
        raise JobFault(FailureCode.DATA_INVALID, "an embedding reads integer indices; the inputs are floating", "/data")
    indices = inputs.long()
    if embedding is not None:
        is_outside = (indices < 0) | (indices >= embedding.num_embeddings)
        if is_outside.any():
            row = int(is_outside.nonzero()[0, 0].item())
            detail = (
                f"row {row} of the inputs holds index {int(indices[is_outside][0].item())}; "
                f"the embedding has indices 0 to {embedding.num_embeddings - 1}"
            )
            raise JobFault(FailureCode.DATA_INVALID, detail, "/data")
    return indices


def _dry_output_shape(layers: Layers, tensors: Mapping[str, Tensor], inputs: Tensor) -> tuple[int, ...]:
    """Shape of the output for `_DRY_ROWS` examples, found on tensors without storage."""
    dry_tensors = {
        name: torch.empty(tensor.shape, dtype=torch.float64, device="meta") for name, tensor in tensors.items()
    }
    dtype = torch.float64 if inputs.is_floating_point() else torch.int64
    dry_inputs = torch.empty((_DRY_ROWS, *inputs.shape[1:]), dtype=dtype, device="meta")
    return tuple(output_like(layers, dry_tensors, dry_inputs).shape)
