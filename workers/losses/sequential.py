"""The layers of the contract as functions of named tensors, in eval mode, with the names of `torch.nn.Sequential`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from saddlescope.contract.layers import (
    ELU,
    GELU,
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
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from workers.programs.formulas import group_norm


def evaluate(layers: Layers, tensors: Mapping[str, Tensor], x: Tensor, prefix: str = "") -> Tensor:
    """The network's output (rows, …) for inputs (rows, …)."""
    for index, layer in enumerate(layers):
        x = apply_layer(layer, tensors, x, f"{prefix}{index}.")
    return x


def apply_layer(layer: Layer, tensors: Mapping[str, Tensor], x: Tensor, name: str) -> Tensor:
    """One layer, whose tensors' names begin with `name`."""
    match layer:
        case Linear() | Conv1d() | Conv2d() | Embedding():
            return _apply_weighted(layer, tensors, x, name)
        case BatchNorm1d() | BatchNorm2d() | LayerNorm() | GroupNorm():
            return _normalize(layer, tensors, x, name)
        case Flatten() | MaxPool2d() | AvgPool2d() | AdaptiveAvgPool2d():
            return _reshape(layer, x)
        case Residual():
            return x + evaluate(layer.layers, tensors, x, name)
        case _:
            return _activate(layer, x)


def _apply_weighted(
    layer: Linear | Conv1d | Conv2d | Embedding, tensors: Mapping[str, Tensor], x: Tensor, name: str
) -> Tensor:
    weight, bias = tensors[name + "weight"], tensors.get(name + "bias")
    match layer:
        case Linear():
            return functional.linear(x, weight, bias)
        case Conv1d():
            return functional.conv1d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        case Conv2d():
            return functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        case Embedding(padding_idx=padding_idx):
            if padding_idx is not None:
                # The padding row takes no gradient in torch.nn: it is a constant of L. Said through the value,
                # not through embedding's own argument, it is the same in forward and in reverse mode.
                is_padding = (
                    torch.arange(layer.num_embeddings, device=weight.device) == padding_idx % layer.num_embeddings
                )
                weight = torch.where(is_padding.unsqueeze(1), weight.detach(), weight)
            return functional.embedding(x, weight)


def _normalize(
    layer: BatchNorm1d | BatchNorm2d | LayerNorm | GroupNorm, tensors: Mapping[str, Tensor], x: Tensor, name: str
) -> Tensor:
    weight, bias = tensors.get(name + "weight"), tensors.get(name + "bias")
    match layer:
        case LayerNorm(normalized_shape=shape):
            # The third and fourth derivatives of torch.nn.functional.layer_norm are silently wrong (torch 2.13).
            last = tuple(range(-len(shape), 0)) if isinstance(shape, tuple) else (-1,)
            centered = x - x.mean(last, keepdim=True)
            y = centered * torch.rsqrt(centered.square().mean(last, keepdim=True) + layer.eps)
            y = y if weight is None else y * weight
            return y if bias is None else y + bias
        case GroupNorm():
            return group_norm(x, layer.num_groups, weight, bias, layer.eps)
        case _:
            # In eval mode batch norm is an affine map of each channel; written so, it is smooth to every order.
            mean, variance = tensors[name + "running_mean"], tensors[name + "running_var"]
            gain = torch.rsqrt(variance + layer.eps)
            gain = gain if weight is None else gain * weight
            channels = (-1,) + (1,) * (x.dim() - 2)
            y = (x - mean.view(channels)) * gain.view(channels)
            return y if bias is None else y + bias.view(channels)


def _reshape(layer: Flatten | MaxPool2d | AvgPool2d | AdaptiveAvgPool2d, x: Tensor) -> Tensor:
    match layer:
        case Flatten():
            return x.flatten(layer.start_dim, layer.end_dim)
        case MaxPool2d():
            return functional.max_pool2d(
                x, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode
            )
        case AvgPool2d():
            return functional.avg_pool2d(
                x,
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.ceil_mode,
                layer.count_include_pad,
                layer.divisor_override,
            )
        case AdaptiveAvgPool2d():
            return functional.adaptive_avg_pool2d(x, layer.output_size)


def _activate(
    layer: ReLU | LeakyReLU | ELU | GELU | SiLU | Tanh | Sigmoid | Softplus | Identity | Dropout, x: Tensor
) -> Tensor:
    match layer:
        case ReLU():
            return functional.relu(x)
        case LeakyReLU():
            return functional.leaky_relu(x, layer.negative_slope)
        case ELU():
            return functional.elu(x, layer.alpha)
        case GELU():
            return functional.gelu(x, approximate=layer.approximate)
        case SiLU():
            return functional.silu(x)
        case Tanh():
            return torch.tanh(x)
        case Sigmoid():
            return torch.sigmoid(x)
        case Softplus():
            return functional.softplus(x, layer.beta, layer.threshold)
        case Identity() | Dropout():
            return x
