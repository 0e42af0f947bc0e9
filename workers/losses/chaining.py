"""Whether the layers of a network fit one another and take one row an example, found without any work."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from saddlescope.contract.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    Identity,
    Layer,
    LayerNorm,
    Layers,
    Linear,
    MaxPool2d,
    Residual,
)
from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault
from workers.losses.sequential import apply_layer

MAX_RANK = 12
_MAX_NUMBERS_PER_EXAMPLE = 2**30


def output_like(layers: Layers, tensors: Mapping[str, Tensor], x: Tensor, prefix: str = "") -> Tensor:
    """`evaluate` on tensors without storage, layer by layer, so that a misfit is found and named before any work.

    Raises:
        JobFault: `loss_invalid`, naming the layer and the shape that it does not take.
    """
    rows = x.shape[0]
    for index, layer in enumerate(layers):
        place = f"layer {prefix.replace('.', ' / ')}{index} ({layer.type})"
        before = _shape(x)
        _check_layer(layer, x, place)
        if isinstance(layer, Residual):
            inner = output_like(layer.layers, tensors, x, f"{prefix}{index}.")
            if inner.shape != x.shape:
                raise _invalid(f"{place} adds an output of shape {_shape(inner)} to its input of shape {before}")
            x = x + inner
            continue
        try:
            x = apply_layer(layer, tensors, x, f"{prefix}{index}.")
        except (RuntimeError, ValueError, IndexError, TypeError) as misfit:
            reason = str(misfit).partition("\n")[0][:300]
            raise _invalid(f"{place} does not take an input of shape {before}: {reason}") from misfit
        if x.dim() == 0 or x.shape[0] != rows:
            raise _invalid(f"{place} mixes examples: from shape {before} it does not give one row an example")
        if x.numel() // rows > _MAX_NUMBERS_PER_EXAMPLE:
            raise _invalid(f"{place} makes {x.numel() // rows} numbers for each example, more than can be held")
    return x


def reads_indices(layers: Layers) -> bool:
    """Whether the inputs are indices, because an embedding is the first layer that computes."""
    for layer in layers:
        if isinstance(layer, Residual):
            return reads_indices(layer.layers)
        if not isinstance(layer, Identity | Dropout | Flatten):
            return isinstance(layer, Embedding)
    return False


def first_embedding(layers: Layers) -> Embedding | None:
    """The embedding that reads the inputs, if any."""
    for layer in layers:
        if isinstance(layer, Embedding):
            return layer
        if isinstance(layer, Residual):
            return first_embedding(layer.layers)
        if not isinstance(layer, Identity | Dropout | Flatten):
            return None
    return None


def _shape(x: Tensor) -> str:
    return "(N" + "".join(f", {extent}" for extent in x.shape[1:]) + ("," if x.dim() == 1 else "") + ")"


def _invalid(detail: str) -> JobFault:
    return JobFault(FailureCode.LOSS_INVALID, detail, "/loss/layers")


def _check_layer(layer: Layer, x: Tensor, place: str) -> None:
    """What torch would accept with another meaning: inputs without a batch dimension, sizes that broadcast."""
    match layer:
        case Embedding(padding_idx=int(row)) if not -layer.num_embeddings <= row < layer.num_embeddings:
            raise _invalid(f"{place}: padding_idx {row} is outside its {layer.num_embeddings} rows")
        case BatchNorm1d() | BatchNorm2d() if not layer.track_running_stats:
            raise _invalid(f"{place} has no running statistics; those of a batch would make L depend on the batching")
        case _:
            pass
    fewest, most = _dimensions(layer)
    if not fewest <= x.dim() <= most:
        wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}" if most < MAX_RANK else f"{fewest} or more"
        raise _invalid(
            f"{place} takes tensors of {wanted} dimensions with the examples first; its input has shape {_shape(x)}"
        )
    sizes = _sizes(layer)
    found = tuple(x.shape[-len(sizes) :]) if isinstance(layer, LayerNorm) else tuple(x.shape[1 : 1 + len(sizes)])
    if found != sizes:
        where = "last" if isinstance(layer, LayerNorm) else "channel"
        raise _invalid(f"{place} wants {where} dimensions {sizes}; its input has shape {_shape(x)}")


def _dimensions(layer: Layer) -> tuple[int, int]:
    """The fewest and the most dimensions of an input, the examples included."""
    match layer:
        case BatchNorm1d():
            return 2, 3
        case Conv1d():
            return 3, 3
        case BatchNorm2d() | Conv2d() | MaxPool2d() | AvgPool2d() | AdaptiveAvgPool2d():
            return 4, 4
        case Linear() | GroupNorm():
            return 2, MAX_RANK
        case LayerNorm():
            return 1 + len(_sizes(layer)), MAX_RANK
        case _:
            return 1, MAX_RANK


def _sizes(layer: Layer) -> tuple[int, ...]:
    """Sizes that a normalisation fixes: the last ones of layer norm, the channels of the others."""
    match layer:
        case BatchNorm1d() | BatchNorm2d():
            return (layer.num_features,)
        case GroupNorm():
            return (layer.num_channels,)
        case LayerNorm(normalized_shape=shape):
            return shape if isinstance(shape, tuple) else (shape,)
        case _:
            return ()
