"""Copying a model's state, on the thread that trains it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def unwrapped(model: Module) -> Module:
    """The user's own module, whose names the loss was exported with, out of DistributedDataParallel and torch.compile."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if inner is None:
            return model
        model = inner


def copy_state(model: Module) -> dict[str, Tensor]:
    """The state dict, copied to the host.

    Raises:
        ValueError: if this process holds a shard of it alone.
    """
    state: dict[str, Tensor] = model.state_dict()
    for name, tensor in state.items():
        if hasattr(tensor, "placements") or hasattr(tensor, "local_shards"):
            raise ValueError(
                f"{name!r} is sharded, so that no process has the checkpoint; save a distributed checkpoint and submit that"
            )
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}


def fingerprint(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """A digest of each tensor: what it takes to know a checkpoint again, without keeping a copy of it."""
    return {name: _digest(tensor) for name, tensor in tensors.items()}


def is_unchanged(model: Module, known: Mapping[str, bytes]) -> bool:
    """Whether every tensor of the model is bit for bit that of the checkpoint; the first that is not ends the search."""
    state: dict[str, Tensor] = model.state_dict()
    return state.keys() == known.keys() and all(_digest(tensor) == known[name] for name, tensor in state.items())


def _digest(tensor: Tensor) -> bytes:
    import torch  # noqa: PLC0415  who trains has torch

    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(content.numpy().data).digest()


def rank() -> int:
    """This process's place among those that train together; 0 if it trains alone."""
    import torch.distributed  # noqa: PLC0415  who trains has torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return _number("RANK", 0)


def world_size() -> int:
    """How many processes train together."""
    import torch.distributed  # noqa: PLC0415

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return _number("WORLD_SIZE", 1)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
