"""The layers a `network` loss may name, with the argument names and defaults of `torch.nn`."""

from __future__ import annotations

from functools import singledispatch
from typing import Annotated, Literal

from pydantic import Field

from saddlescope.contract import limits
from saddlescope.contract.strict import Closed

Size = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
Pair = Size | tuple[Size, Size]
PaddingPair = Count | tuple[Count, Count]


class Linear(Closed):
    type: Literal["linear"]
    in_features: Size
    out_features: Size
    bias: bool = True


class Conv1d(Closed):
    type: Literal["conv1d"]
    in_channels: Size
    out_channels: Size
    kernel_size: Size | tuple[Size]
    stride: Size | tuple[Size] = 1
    padding: Count | tuple[Count] | Literal["same", "valid"] = 0
    dilation: Size | tuple[Size] = 1
    groups: Size = 1
    bias: bool = True
    padding_mode: Literal["zeros"] = "zeros"


class Conv2d(Closed):
    type: Literal["conv2d"]
    in_channels: Size
    out_channels: Size
    kernel_size: Pair
    stride: Pair = 1
    padding: PaddingPair | Literal["same", "valid"] = 0
    dilation: Pair = 1
    groups: Size = 1
    bias: bool = True
    padding_mode: Literal["zeros"] = "zeros"


class BatchNorm1d(Closed):
    type: Literal["batch_norm1d"]
    num_features: Size
    eps: float = Field(default=1e-5, ge=0)
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True


class BatchNorm2d(Closed):
    type: Literal["batch_norm2d"]
    num_features: Size
    eps: float = Field(default=1e-5, ge=0)
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True


class LayerNorm(Closed):
    type: Literal["layer_norm"]
    normalized_shape: Size | Annotated[tuple[Size, ...], Field(min_length=1, max_length=limits.MAX_INLINE_RANK)]
    eps: float = Field(default=1e-5, ge=0)
    elementwise_affine: bool = True
    bias: bool = True


class GroupNorm(Closed):
    type: Literal["group_norm"]
    num_groups: Size
    num_channels: Size
    eps: float = Field(default=1e-5, ge=0)
    affine: bool = True


class Embedding(Closed):
    type: Literal["embedding"]
    num_embeddings: Size
    embedding_dim: Size
    padding_idx: int | None = None


class ReLU(Closed):
    type: Literal["relu"]
    inplace: bool = False


class LeakyReLU(Closed):
    type: Literal["leaky_relu"]
    negative_slope: float = 0.01
    inplace: bool = False


class ELU(Closed):
    type: Literal["elu"]
    alpha: float = 1.0
    inplace: bool = False


class GELU(Closed):
    type: Literal["gelu"]
    approximate: Literal["none", "tanh"] = "none"


class SiLU(Closed):
    type: Literal["silu"]
    inplace: bool = False


class Tanh(Closed):
    type: Literal["tanh"]


class Sigmoid(Closed):
    type: Literal["sigmoid"]


class Softplus(Closed):
    type: Literal["softplus"]
    beta: float = Field(default=1.0, gt=0)
    threshold: float = 20.0


class Identity(Closed):
    type: Literal["identity"]


class Dropout(Closed):
    """The identity: the network is evaluated in eval mode."""

    type: Literal["dropout"]
    p: float = Field(default=0.5, ge=0, le=1)
    inplace: bool = False


class Flatten(Closed):
    type: Literal["flatten"]
    start_dim: int = 1
    end_dim: int = -1


class MaxPool2d(Closed):
    type: Literal["max_pool2d"]
    kernel_size: Pair
    stride: Pair | None = None
    padding: PaddingPair = 0
    dilation: Pair = 1
    ceil_mode: bool = False


class AvgPool2d(Closed):
    type: Literal["avg_pool2d"]
    kernel_size: Pair
    stride: Pair | None = None
    padding: PaddingPair = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: Size | None = None


class AdaptiveAvgPool2d(Closed):
    type: Literal["adaptive_avg_pool2d"]
    output_size: Size | tuple[Size | None, Size | None]


class Residual(Closed):
    """x + layers(x); the inner parameters are named `<index>.<inner index>.<name>`."""

    type: Literal["residual"]
    layers: Layers


Layer = Annotated[
    Linear
    | Conv1d
    | Conv2d
    | BatchNorm1d
    | BatchNorm2d
    | LayerNorm
    | GroupNorm
    | Embedding
    | ReLU
    | LeakyReLU
    | ELU
    | GELU
    | SiLU
    | Tanh
    | Sigmoid
    | Softplus
    | Identity
    | Dropout
    | Flatten
    | MaxPool2d
    | AvgPool2d
    | AdaptiveAvgPool2d
    | Residual,
    Field(discriminator="type"),
]
Layers = Annotated[tuple[Layer, ...], Field(min_length=1, max_length=limits.MAX_LAYERS)]
Residual.model_rebuild()


class Shapes(Closed):
    """The tensors that a list of layers reads from the checkpoint."""

    parameters: dict[str, tuple[int, ...]]
    buffers: dict[str, tuple[int, ...]]


Shape = tuple[int, ...]


@singledispatch
def _parameters(_: Closed) -> dict[str, Shape]:
    """The parameters that a layer itself owns, by name."""
    return {}


@_parameters.register
def _(layer: Linear) -> dict[str, Shape]:
    return _with_bias((layer.out_features, layer.in_features), layer.bias)


@_parameters.register
def _(layer: Conv1d) -> dict[str, Shape]:
    return _with_bias(
        (layer.out_channels, layer.in_channels // layer.groups, *_repeated(layer.kernel_size, 1)), layer.bias
    )


@_parameters.register
def _(layer: Conv2d) -> dict[str, Shape]:
    return _with_bias(
        (layer.out_channels, layer.in_channels // layer.groups, *_repeated(layer.kernel_size, 2)), layer.bias
    )


@_parameters.register(BatchNorm1d)
@_parameters.register(BatchNorm2d)
def _(layer: BatchNorm1d | BatchNorm2d) -> dict[str, Shape]:
    return _with_bias((layer.num_features,), True) if layer.affine else {}


@_parameters.register
def _(layer: LayerNorm) -> dict[str, Shape]:
    shape = _repeated(layer.normalized_shape, 1)
    if not layer.elementwise_affine:
        return {}
    return {"weight": shape, "bias": shape} if layer.bias else {"weight": shape}


@_parameters.register
def _(layer: GroupNorm) -> dict[str, Shape]:
    return _with_bias((layer.num_channels,), True) if layer.affine else {}


@_parameters.register
def _(layer: Embedding) -> dict[str, Shape]:
    return {"weight": (layer.num_embeddings, layer.embedding_dim)}


def _with_bias(weight: Shape, bias: bool) -> dict[str, Shape]:
    return {"weight": weight, "bias": weight[:1]} if bias else {"weight": weight}


def _repeated(size: int | Shape, rank: int) -> Shape:
    return size if isinstance(size, tuple) else (size,) * rank


def tensor_shapes(layers: Layers, prefix: str = "") -> Shapes:
    """Names and shapes of parameters and buffers, as in `torch.nn.Sequential(*layers).state_dict()`.

    `num_batches_tracked` is left out: eval mode never reads it.
    """
    parameters: dict[str, Shape] = {}
    buffers: dict[str, Shape] = {}
    for index, layer in enumerate(layers):
        name = f"{prefix}{index}."
        if isinstance(layer, Residual):
            inner = tensor_shapes(layer.layers, name)
            parameters |= inner.parameters
            buffers |= inner.buffers
        parameters |= {name + own: shape for own, shape in _parameters(layer).items()}
        if isinstance(layer, BatchNorm1d | BatchNorm2d) and layer.track_running_stats:
            buffers |= {name + own: (layer.num_features,) for own in ("running_mean", "running_var")}
    return Shapes(parameters=parameters, buffers=buffers)
