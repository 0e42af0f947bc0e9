"""Tracing a loss with torch.export, and comparing what was traced with the model. Imports torch: load it on use."""

from __future__ import annotations

import copy
import inspect
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.export import Dim
from torch.func import functional_call
from torch.nn import Module
from torch.nn.attention import SDPBackend, sdpa_kernel

from saddlescope.client.batches import Batch, like, named
from saddlescope.client.export import ExportError, LossFunction, Mode
from saddlescope.client.untraceable import PREFIX, advice, check_loss, check_mode, check_program, quote

_CAUSES = {
    "loss": "the model depends on Python values that tracing has fixed (a counter, a cached tensor, the batch size)",
    "gradient": "tracing does not see torch.no_grad() or .data; use .detach()",
    "Hessian-vector product": "an operation has another second derivative when it is traced; please report it",
}

Tensors = Mapping[str, Tensor]


class _Loss(Module):
    """The loss function as a module: parameters `model.*`, data tensors by name."""

    def __init__(self, model: Module, loss_fn: LossFunction, example: Batch) -> None:
        super().__init__()
        self.model = model

        def forward(**batch: Tensor) -> Tensor:
            return loss_fn(self.model, like(example, batch))

        # torch.export names the inputs, and finds their free dimensions, by the parameters of forward.
        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in named(example)]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward


@dataclass(frozen=True)
class Traced:
    """A loss as torch.export saves it, and what it must agree with.

    Attributes:
        archive: the saved program.
        prefix: what stands before the model's own names in it.
        loss: the loss as a module.
        batch: the example, of two rows or more.
    """

    archive: bytes
    prefix: str
    loss: Module
    batch: dict[str, Tensor]


def _copy(model: Module) -> Module:
    """What is traced instead of the model: tracing leaves its own tensors behind in attributes that forward assigns."""
    try:
        return copy.deepcopy(model)
    except RuntimeError as attached:
        raise ExportError(
            f"the model cannot be copied: {quote(attached)}; detach the tensors that it keeps"
        ) from attached


def _copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What an assignment like x[:, 0] = y leaves behind; torch's own operator has no derivative."""
    del non_blocking
    return source.to(target.dtype).expand_as(target).clone()


def trace(model: Module, loss_fn: LossFunction, example_batch: Batch, *, mode: Mode | None) -> Traced:
    """Trace the loss with a free batch size.

    Raises:
        ExportError: if it cannot be traced, is random, changes the model, or is not one real number.
    """
    batch = _rows(example_batch)
    copied = _copy(model)
    if mode is not None:
        copied.train(mode == "train")
    check_mode(copied)
    loss = _Loss(copied, loss_fn, example_batch)
    check_loss(_evaluate(loss, _leaves(loss), batch))
    with _quiet(), sdpa_kernel(SDPBackend.MATH):
        try:
            program = torch.export.export(
                loss, (), batch, dynamic_shapes={name: {0: Dim.DYNAMIC} for name in batch}, strict=False
            ).run_decompositions({torch.ops.aten.copy.default: _copied})
        except (RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError) as untraceable:
            # The loss has just run eagerly, so that what fails here is a limit of tracing.
            raise ExportError(advice(untraceable)) from untraceable
        check_program(program, batch)
        saved = io.BytesIO()
        torch.export.save(program, saved)
    return Traced(saved.getvalue(), PREFIX, loss, batch)


def agree(traced: Traced, archive: bytes) -> None:
    """Compare the archive with the model: loss, gradient and Hessian-vector product, at two batch sizes.

    Raises:
        ExportError: if they differ beyond rounding, or the loss has no second derivative.
    """
    with _quiet():
        exported = torch.export.load(io.BytesIO(archive)).module(check_guards=False)
    twice = {name: torch.cat((tensor, tensor)) for name, tensor in traced.batch.items()}
    for batch in (traced.batch, twice):
        own, bare = _leaves(traced.loss), _leaves(traced.loss)
        with sdpa_kernel(SDPBackend.MATH):
            expected = _derivatives(traced.loss, own, batch)
            found = _derivatives(
                exported, {name.removeprefix(traced.prefix): leaf for name, leaf in bare.items()}, batch
            )
        for what, one, other in zip(_CAUSES, expected, found, strict=True):
            tolerance = min(1e3 * torch.finfo(one.dtype).eps, 0.05) * (1 + float(one.norm()))
            if not torch.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True):
                raise ExportError(
                    f"the exported {what} differs from the model's by {float((one - other).norm()):.2g}: {_CAUSES[what]}"
                )


def _leaves(loss: Module) -> dict[str, Tensor]:
    """Copies of the loss's tensors under all their names; tied names share one leaf. The model itself is never written to."""
    copies: dict[int, Tensor] = {}
    for tensor in (*loss.parameters(), *loss.buffers()):
        copies[id(tensor)] = tensor.detach().clone().requires_grad_(isinstance(tensor, torch.nn.Parameter))
    named = (*loss.named_parameters(remove_duplicate=False), *loss.named_buffers(remove_duplicate=False))
    return {name: copies[id(tensor)] for name, tensor in named}


def _evaluate(loss: Module, tensors: Tensors, batch: Tensors) -> Tensor:
    # Copies, so that a model that writes to its inputs does not write to the caller's example.
    copies = {name: tensor.clone() for name, tensor in batch.items()}
    value: Tensor = functional_call(loss, dict(tensors), kwargs=copies, tie_weights=False)
    return value


def _derivatives(loss: Module, tensors: Tensors, batch: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (), gradient (n,) and H·v (n,) with the gradient's own direction as v."""
    params = list({id(tensor): tensor for tensor in tensors.values() if tensor.requires_grad}.values())
    value = _evaluate(loss, tensors, batch)
    try:
        pieces = torch.autograd.grad(value, params, create_graph=True, materialize_grads=True)
    except RuntimeError as missing:
        raise ExportError(advice(missing)) from missing
    slope = sum(((piece * piece.detach()).sum() for piece in pieces), start=value.new_zeros(()))
    try:
        product = torch.autograd.grad(slope, params, materialize_grads=True) if slope.requires_grad else None
    except RuntimeError as missing:
        raise ExportError(f"the loss has no second derivative: {quote(missing)}") from missing
    gradient = torch.cat([piece.detach().reshape(-1) for piece in pieces])
    flat = torch.zeros_like(gradient) if product is None else torch.cat([piece.reshape(-1) for piece in product])
    return value.detach(), gradient, flat


def _rows(example: Batch) -> dict[str, Tensor]:
    """The example by name, of two rows or more."""
    given = named(example)
    batch = {name: value for name, value in given.items() if isinstance(value, Tensor) and value.dim()}
    if not batch or len(batch) < len(given):
        strangers = [name for name in given if name not in batch]
        raise ExportError(
            "example_batch must be tensors whose first dimension counts the examples: a dict, a tuple or one tensor"
            + (f"; {', '.join(strangers)} is none: give it inside the loss function" if strangers else "")
        )
    for name in batch:
        if not name.isidentifier():
            raise ExportError(f"the data tensor {name!r} needs a name made of letters, digits and underscores")
    rows = {tensor.shape[0] for tensor in batch.values()}
    if len(rows) != 1 or 0 in rows:
        raise ExportError("the tensors of example_batch must have the same number of rows, one or more")
    if rows == {1}:  # torch takes a size of 1 for a constant
        return {name: torch.cat((tensor, tensor)) for name, tensor in batch.items()}
    return batch


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that torch.export gives about torch's own code, which are errors in some test suites."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
        warnings.filterwarnings(
            "ignore", message=r"The tensor attributes? .* assigned during export", category=UserWarning
        )
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        yield
