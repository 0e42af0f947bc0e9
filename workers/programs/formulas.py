"""Operators written out, where torch's own kernel is random, fused, strided, or without the derivatives that are needed.

Each takes the arguments of the operator's schema, in its order.
"""

# ruff: noqa: PLR0917  the signatures are torch's

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, logsigmoid

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault


def _unsupported(detail: str) -> JobFault:
    return JobFault(FailureCode.UNSUPPORTED_OPERATION, detail, "/loss/program")


def reshaped(x: Tensor, size: Sequence[int]) -> Tensor:
    """`view`, also where the strides of the original no longer hold (other batch sizes, batched products)."""
    return x.reshape(size)


def undropped(x: Tensor, p: float, train: bool) -> Tensor:
    if train and p > 0:
        raise _unsupported(
            "the program drops units at random (dropout in training mode); call model.eval() before the export"
        )
    return x


def undropped_with_mask(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    return undropped(x, p, train is not False), torch.ones_like(x, dtype=torch.bool)


def _per_channel(vector: Tensor, x: Tensor) -> Tensor:
    return vector.reshape(1, -1, *[1] * (x.dim() - 2))


def normalized_by_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation in eval mode: affine in x, so that its derivatives are exact to every order."""
    del momentum
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    empty = mean.new_zeros(0)
    return x * _per_channel(scale, x) + _per_channel(shift, x), empty, empty


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    return native_batch_norm(x, weight, bias, mean, variance, training, momentum, eps)[0]


def native_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    if training or mean is None or variance is None:
        raise _unsupported(
            "the program normalises by the statistics of each batch (batch_norm in training mode), so its loss depends on how "
            "the rows are batched; call model.eval() before the export"
        )
    return normalized_by_statistics(x, weight, bias, mean, variance, momentum, eps)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Written out: the double backward of torch's kernel has wrong shapes in batched products (torch 2.13)."""
    del cudnn_enabled
    grouped = x.reshape(x.shape[0], groups, -1)
    variance, mean = torch.var_mean(grouped, -1, correction=0, keepdim=True)
    normal = ((grouped - mean) * torch.rsqrt(variance + eps)).reshape(x.shape)
    if weight is not None:
        normal = normal * _per_channel(weight, x)
    return normal if bias is None else normal + _per_channel(bias, x)


def native_group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, rows: int, channels: int, area: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    del rows, channels, area
    empty = x.new_zeros(0)
    return group_norm(x, groups, weight, bias, eps), empty, empty


def _causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril()


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale·QKᵀ + mask) V, written out: the fused kernels have no double backward.

    As in torch, a row in which everything is masked gives zero.
    """
    if dropout_p > 0:
        raise _unsupported("the program drops attention weights at random; call model.eval() before the export")
    if enable_gqa:
        groups = query.shape[-3] // max(key.shape[-3], 1)
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)  # (..., queries, keys)
    allowed = _causal_mask(query.shape[-2], key.shape[-2], query.device) if is_causal else None
    if mask is not None and mask.dtype == torch.bool:
        allowed = mask if allowed is None else allowed & mask
    elif mask is not None:
        scores = scores + mask
    if allowed is None:
        return torch.softmax(scores, -1) @ value
    # The lowest finite number instead of -inf: a row of -inf gives NaN in the derivative of softmax, whatever comes after.
    weights = torch.softmax(scores.masked_fill(~allowed, torch.finfo(scores.dtype).min), -1)
    return (weights * allowed.any(-1, keepdim=True)) @ value


def attention_with_logsumexp(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The CPU's fused kernel, as torch's default decompositions leave it in a program; its second output serves only training."""
    result = attention(query, key, value, attn_mask, dropout_p, is_causal, scale)
    return result, result.new_zeros(0)


def indexed(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    if any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices):
        raise _unsupported(
            "the program picks entries by a mask (x[mask]), so the size of the result depends on the data; multiply by the mask, "
            "or use torch.where"
        )
    picked: Tensor = torch.ops.aten.index.Tensor(x, indices)
    return picked


def copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What an assignment like x[:, 0] = y becomes; torch's own operator has no derivative."""
    del non_blocking
    return source.to(target.dtype).expand_as(target)


def one_hot(x: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes < 1:
        raise _unsupported("one_hot without num_classes takes its size from the data; give num_classes")
    return (x.unsqueeze(-1) == torch.arange(num_classes, device=x.device)).to(torch.int64)


def weight_norm(direction: Tensor, magnitude: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """g·v/‖v‖, the norm over all dimensions but `dim`."""
    others = [axis for axis in range(direction.dim()) if axis != dim % direction.dim()]
    norm = direction.square().sum(others, keepdim=True).sqrt()
    return direction * (magnitude / norm), norm


def lstm_cell(
    x: Tensor,
    state: Sequence[Tensor],
    input_weight: Tensor,
    hidden_weight: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step, written out: on a GPU torch fuses it, without a second derivative. The next two alike."""
    hidden, cell = state
    gates = linear(x, input_weight, input_bias) + linear(hidden, hidden_weight, hidden_bias)
    enter, forget, candidate, leave = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def gru_cell(
    x: Tensor,
    hidden: Tensor,
    input_weight: Tensor,
    hidden_weight: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> Tensor:
    reset, update, new = linear(x, input_weight, input_bias).chunk(3, -1)
    own_reset, own_update, own_new = linear(hidden, hidden_weight, hidden_bias).chunk(3, -1)
    candidate = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
    return candidate + torch.sigmoid(update + own_update) * (hidden - candidate)


def rnn_tanh_cell(
    x: Tensor,
    hidden: Tensor,
    input_weight: Tensor,
    hidden_weight: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> Tensor:
    return torch.tanh(linear(x, input_weight, input_bias) + linear(hidden, hidden_weight, hidden_bias))


# The kernels of the next four have no forward derivative of their backward, or none at all (torch 2.13).


def hardsigmoid(x: Tensor) -> Tensor:
    return (x / 6 + 0.5).clamp(0, 1)


def mse_loss(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    return _reduced((x - target).square(), reduction)


def huber_loss(x: Tensor, target: Tensor, reduction: int = 1, delta: float = 1.0) -> Tensor:
    if delta <= 0:
        raise JobFault(FailureCode.LOSS_INVALID, "the delta of a huber_loss must be positive", "/loss/program")
    difference = x - target
    inner = difference.clamp(-delta, delta)
    return _reduced(inner * (difference - 0.5 * inner), reduction)


def soft_margin_loss(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    return _reduced(-logsigmoid(target * x), reduction)


def _reduced(losses: Tensor, reduction: int) -> Tensor:
    """By torch's numbers: 0 none, 1 mean, 2 sum."""
    return (losses, losses.mean(), losses.sum())[reduction]
