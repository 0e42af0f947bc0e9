"""What fits: memory at hand, bytes that a batch's graph takes, rows a batch."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from saddlescope.curvature.objective import Objective, differentiate

MEMINFO = Path("/proc/meminfo")
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USE = Path("/sys/fs/cgroup/memory.current")
DEFAULT_AVAILABLE = 4 * 2**30
SHARE = 0.5
PREFIX = (2, 4)  # rows measured; a graph's bytes are affine in the rows
# The second backward makes about as much again as the graph it runs over, for a while.
PEAK_FACTOR = 2.0


def available_bytes(device: torch.device) -> int:
    """Memory that can still be taken on the device: free and cached on CUDA; what the system and its control group allow."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    known = [amount for amount in (_meminfo(), _control_group()) if amount is not None]
    return min(known, default=DEFAULT_AVAILABLE)


def open_meters() -> frozenset[int]:
    """Descriptors from which `available_bytes` reads; open once, it needs no file names any more in this process."""
    meters = (_meter(path) for path in (MEMINFO, CGROUP_LIMIT, CGROUP_USE))
    return frozenset(meter for meter in meters if meter is not None)


def _meminfo() -> int | None:
    text = _reading(MEMINFO)
    if text is None:
        return None
    lines = (line.split() for line in text.splitlines())
    return next((int(words[1]) * 1024 for words in lines if words and words[0] == "MemAvailable:"), None)


def _control_group() -> int | None:
    most, used = _reading(CGROUP_LIMIT), _reading(CGROUP_USE)
    if most is None or used is None or most.strip() == "max":
        return None
    return max(0, int(most) - int(used))


def _reading(path: Path) -> str | None:
    """What the file says now; None if the system has no such file."""
    meter = _meter(path)
    return None if meter is None else os.pread(meter, 2**16, 0).decode("ascii")


@cache
def _meter(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


class SavedBytes:
    """Counts the bytes that autograd keeps for a graph, each storage once, without θ and the data, which exist anyway."""

    def __init__(self, objective: Objective, theta: Tensor) -> None:
        self.total = 0
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in (theta, *objective.held_tensors())}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        return tensor


def graph_bytes(objective: Objective, theta: Tensor, num_rows: int) -> int:
    """What the graph of the gradient of the first `num_rows` rows takes. Costs two gradients of them."""
    _, batch = next(objective.batches(num_rows))
    leaf, saved = theta.detach().requires_grad_(), SavedBytes(objective, theta)
    with saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        value = objective.batch_loss(leaf, batch)
        if value.requires_grad:
            differentiate(value, leaf, create_graph=True)
    return saved.total


def plan_batch_size(objective: Objective, theta: Tensor, *, budget_bytes: int | None = None) -> int:
    """Rows a batch such that gradient and graph fit the budget; the asked size where rows may not be regrouped.

    bytes(rows) = a + b·rows from 2 and 4 rows; the peak is taken as twice that. Never less than one row: what does not fit
    even so is found out by running.
    """
    if not objective.is_additive or objective.num_examples <= PREFIX[-1]:
        return objective.batch_size
    budget = SHARE * available_bytes(objective.device) if budget_bytes is None else budget_bytes
    few, more = (PEAK_FACTOR * graph_bytes(objective, theta, rows) for rows in PREFIX)
    per_row = (more - few) / (PREFIX[1] - PREFIX[0])
    fixed = few - PREFIX[0] * per_row
    if per_row <= 0:
        return objective.num_examples
    return max(1, min(objective.num_examples, int((budget - fixed) / per_row)))
