"""A loss as data: any PyTorch model and loss function, exported to a file that the service runs without their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from saddlescope.client.errors import SaddlescopeError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from saddlescope.client.batches import Batch

Mode: TypeAlias = Literal["eval", "train"]
# The model and the batch are the caller's own types: his function knows both.
LossFunction: TypeAlias = "Callable[[Any, Any], Tensor]"


class ExportError(SaddlescopeError):
    """The loss cannot be exported as it is; the message says what to change in the model or in the loss function."""


def export_loss(model: Module, loss_fn: LossFunction, example_batch: Batch, *, mode: Mode | None = None) -> bytes:
    """Export `loss_fn(model, batch)` as a `.pt2` archive whose parameters have the names of `model.state_dict()`.

    The batch size stays free. The archive is checked before it is returned: loss, gradient and a Hessian-vector product
    must agree with the model, at the example's batch size and at twice that. It holds operators, weights and
    constants; no sample data, source lines or paths. The model is not changed.

    Args:
        model: in eval mode, if it has dropout or batch normalisation, or with `mode`.
        loss_fn: gives the scalar loss of a batch.
        example_batch: tensors that share dimension 0, as in the data that the loss will be taken over: a dict, a tuple, or
            one tensor. `loss_fn` gets batches of the same form; data in the same form fits (a pair is called `inputs` and
            `targets`, one tensor `inputs`, and more of them `input_0`, `input_1`, …).
        mode: "eval" or "train" exports the model in that mode; else it is taken in the mode that it is in.

    Raises:
        ExportError: if the model or the loss function has to be changed first.
    """
    # The package imports without torch; only this function needs it.
    from saddlescope.client.archive import anonymous_archive  # noqa: PLC0415
    from saddlescope.client.tracing import agree, trace  # noqa: PLC0415

    traced = trace(model, loss_fn, example_batch, mode=mode)
    archive = anonymous_archive(traced.archive, prefix=traced.prefix)
    agree(traced, archive)
    return archive
