"""A loss as data: any PyTorch model and loss function, exported to a file that the service runs without their code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from saddlescope.client.errors import SaddlescopeError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class ExportError(SaddlescopeError):
    """The loss cannot be exported as it is; the message says what to change in the model or in the loss function."""


def export_loss(
    model: Module, loss_fn: Callable[[Module, dict[str, Tensor]], Tensor], example_batch: Mapping[str, Tensor]
) -> bytes:
    """Export `loss_fn(model, batch)` as a `.pt2` archive whose parameters have the names of `model.state_dict()`.

    The batch size stays free. The archive is checked before it is returned: loss, gradient and a Hessian-vector product
    must agree with the model, at the example's batch size and at twice that. It holds operators, weights and
    constants; no sample data, source lines or paths. The model is not changed.

    Args:
        model: in eval mode, if it has dropout or batch normalisation.
        loss_fn: gives the scalar loss of a batch.
        example_batch: tensors that share dimension 0, as in the data that the loss will be taken over.

    Raises:
        ExportError: if the model or the loss function has to be changed first.
    """
    # The package imports without torch; only this function needs it.
    from saddlescope.client.archive import anonymous_archive  # noqa: PLC0415
    from saddlescope.client.tracing import agree, trace  # noqa: PLC0415

    traced = trace(model, loss_fn, example_batch)
    archive = anonymous_archive(traced.archive, prefix=traced.prefix)
    agree(traced, archive)
    return archive
