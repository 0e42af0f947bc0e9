"""Where the tensors of a checkpoint stand in flat θ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """Where the variable of one or more tied names stands in θ."""

    names: tuple[str, ...]
    shape: torch.Size
    dtype: torch.dtype
    start: int
    stop: int


def slots_of(params: Mapping[str, Tensor]) -> tuple[Slot, ...]:
    """The variables in the order of the names; one tensor under two names is one of them."""
    names: dict[int | tuple[object, ...], list[str]] = {}
    for name, tensor in params.items():
        identity = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        names.setdefault(identity if tensor.numel() else id(tensor), []).append(name)
    slots, start = [], 0
    for tied in names.values():
        tensor = params[tied[0]]
        slots.append(Slot(tuple(tied), tensor.shape, tensor.dtype, start, start + tensor.numel()))
        start += tensor.numel()
    return tuple(slots)
