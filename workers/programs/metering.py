"""The dry run: a program on tensors without storage, to learn what it would cost before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault
from workers.programs.interpreter import EVALUATION_ERRORS, Executable, first_line

_MiB = 2**20
META = torch.device("meta")


@dataclass(frozen=True)
class Budget:
    """What one evaluation of the loss may cost.

    Attributes:
        intermediate_bytes: all that a batch of two examples computes on the way, which a backward would keep.
        flops: products of matrices and convolutions over the whole data set.
    """

    intermediate_bytes: int = 4 * 2**30
    flops: int = 5 * 10**15


@dataclass(frozen=True)
class Cost:
    intermediate_bytes: int
    flops: int


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what every primitive operator would allocate and compute, and stops beyond the budget."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.budget = budget
        self.intermediate_bytes = 0
        self.flops = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.intermediate_bytes += sum(_bytes(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flops += int(count(*args, **(kwargs or {}), out_val=result))
        if self.intermediate_bytes > self.budget.intermediate_bytes:
            raise _too_much(
                f"two examples need more than {self.budget.intermediate_bytes // _MiB} MiB of intermediate results; "
                "shrink the tensors that the program builds"
            )
        if self.flops > self.budget.flops:
            raise _too_much(
                f"one pass over the data needs more than {self.budget.flops:.0e} floating-point operations; use fewer rows "
                "or a smaller program"
            )
        return result


def _bytes(tensor: Tensor) -> int:
    return prod(tensor.shape) * tensor.element_size()


def _too_much(detail: str) -> JobFault:
    return JobFault(FailureCode.RESOURCE_LIMIT, detail, "/loss/program")


def dry_run(executable: Executable, tensors: Mapping[str, Tensor], data: Mapping[str, Tensor], budget: Budget) -> Cost:
    """Bytes for two examples and operations for all, of an executable compiled for the device `meta`.

    Raises:
        JobFault: `resource_limit` beyond the budget; `loss_invalid` if the shapes do not fit or the loss is not one
            real number; `unsupported_operation` if a size depends on values.
    """
    num_rows = next(iter(data.values())).shape[0] if data else 1
    small = _measure(executable, _ghosts(tensors) | _ghosts(data, min(num_rows, 2)), budget)
    whole = _measure(executable, _ghosts(tensors) | _ghosts(data, num_rows), Budget(2**200, budget.flops))
    return Cost(small.intermediate_bytes, whole.flops)


def _ghosts(tensors: Mapping[str, Tensor], num_rows: int | None = None) -> dict[str, Tensor]:
    return {
        name: torch.empty(
            tensor.shape if num_rows is None else (num_rows, *tensor.shape[1:]),
            dtype=torch.float64 if tensor.is_floating_point() else tensor.dtype,
            device=META,
        )
        for name, tensor in tensors.items()
    }


def _measure(executable: Executable, ghosts: Mapping[str, Tensor], budget: Budget) -> Cost:
    meter = _Meter(budget)
    try:
        with torch.no_grad(), meter:
            loss = executable(ghosts)
    except EVALUATION_ERRORS as wrong:
        place = " ".join(getattr(wrong, "__notes__", []))
        raise JobFault(
            FailureCode.LOSS_INVALID,
            f"the program cannot run on these shapes, {place}: {first_line(wrong)}",
            "/loss/program",
        ) from wrong
    if loss.shape != () or not loss.is_floating_point():
        raise JobFault(
            FailureCode.LOSS_INVALID,
            f"the program gives a {loss.dtype} tensor of shape {tuple(loss.shape)}; "
            "forward must return the scalar loss of the batch",
            "/loss/program",
        )
    return Cost(meter.intermediate_bytes, meter.flops)
