"""Tracing a loss with torch.export, and comparing what was traced with the model. Imports torch: load it on use."""

from __future__ import annotations

import copy
import inspect
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.func import functional_call
from torch.nn import Module
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.rnn import RNNBase

from saddlescope.client.export import ExportError

_PREFIX = "model."
_MAX_QUOTED_CHARS = 400
_CAUSES = {
    "loss": "the model depends on Python values that tracing has fixed (a counter, a cached tensor, the batch size)",
    "gradient": "tracing does not see torch.no_grad() or .data; use .detach()",
    "Hessian-vector product": "an operation has another second derivative when it is traced; please report it",
}

LossFunction = Callable[[Module, dict[str, Tensor]], Tensor]
Tensors = Mapping[str, Tensor]


class _Loss(Module):
    """The loss function as a module: parameters `model.*`, data tensors by name."""

    def __init__(self, model: Module, loss_fn: LossFunction, names: Iterable[str]) -> None:
        super().__init__()
        self.model = model

        def forward(**batch: Tensor) -> Tensor:
            return loss_fn(self.model, batch)

        # torch.export names the inputs, and finds their free dimensions, by the parameters of forward.
        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
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
            f"the model cannot be copied: {_quote(attached)}; detach the tensors that it keeps"
        ) from attached


def _copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What an assignment like x[:, 0] = y leaves behind; torch's own operator has no derivative."""
    del non_blocking
    return source.to(target.dtype).expand_as(target).clone()


def trace(model: Module, loss_fn: LossFunction, example_batch: Tensors) -> Traced:
    """Trace the loss with a free batch size.

    Raises:
        ExportError: if it cannot be traced, is random, changes the model, or is not one real number.
    """
    batch = _batch(example_batch)
    _check_mode(model)
    loss = _Loss(_copy(model), loss_fn, batch)
    _check_loss(_evaluate(loss, _leaves(loss), batch))
    with _quiet(), sdpa_kernel(SDPBackend.MATH):
        try:
            program = torch.export.export(
                loss, (), batch, dynamic_shapes={name: {0: Dim.DYNAMIC} for name in batch}, strict=False
            ).run_decompositions({torch.ops.aten.copy.default: _copied})
        except (RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError) as untraceable:
            # The loss has just run eagerly, so that what fails here is a limit of tracing.
            raise ExportError(_advice(untraceable)) from untraceable
        _check_program(program, batch)
        saved = io.BytesIO()
        torch.export.save(program, saved)
    return Traced(saved.getvalue(), _PREFIX, loss, batch)


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
    value: Tensor = functional_call(loss, dict(tensors), kwargs=dict(batch), tie_weights=False)
    return value


def _derivatives(loss: Module, tensors: Tensors, batch: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (), gradient (n,) and H·v (n,) with the gradient's own direction as v."""
    params = list({id(tensor): tensor for tensor in tensors.values() if tensor.requires_grad}.values())
    value = _evaluate(loss, tensors, batch)
    pieces = torch.autograd.grad(value, params, create_graph=True, materialize_grads=True)
    slope = sum(((piece * piece.detach()).sum() for piece in pieces), start=value.new_zeros(()))
    try:
        product = torch.autograd.grad(slope, params, materialize_grads=True) if slope.requires_grad else None
    except RuntimeError as missing:
        raise ExportError(f"the loss has no second derivative: {_quote(missing)}") from missing
    gradient = torch.cat([piece.detach().reshape(-1) for piece in pieces])
    flat = torch.zeros_like(gradient) if product is None else torch.cat([piece.reshape(-1) for piece in product])
    return value.detach(), gradient, flat


def _batch(example: Tensors) -> dict[str, Tensor]:
    if not example or not all(isinstance(tensor, Tensor) and tensor.dim() for tensor in example.values()):
        raise ExportError("example_batch must be a dict of tensors whose first dimension counts the examples")
    for name in example:
        if not name.isidentifier():
            raise ExportError(f"the data tensor {name!r} needs a name made of letters, digits and underscores")
    rows = {tensor.shape[0] for tensor in example.values()}
    if len(rows) != 1 or 0 in rows:
        raise ExportError("the tensors of example_batch must have the same number of rows, one or more")
    if rows == {1}:  # torch takes a size of 1 for a constant
        return {name: torch.cat((tensor, tensor)) for name, tensor in example.items()}
    return dict(example)


def _check_mode(model: Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, RNNBase):
            raise ExportError(
                f"{name or 'the model'} ({type(module).__name__}) has no second derivative: write it as a loop over "
                f"torch.nn.{module.mode.partition('_')[0]}Cell"
            )
        is_random = isinstance(module, _DropoutNd) and module.p > 0
        if module.training and (is_random or (isinstance(module, _NormBase) and module.running_mean is not None)):
            raise ExportError(
                f"{name or 'the model'} ({type(module).__name__}) is in training mode, so its loss is random or depends "
                "on how rows are batched; call model.eval() first, and model.train() afterwards"
            )


def _check_loss(value: object) -> None:
    if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
        found = (
            f"a {value.dtype} tensor of shape {tuple(value.shape)}"
            if isinstance(value, Tensor)
            else type(value).__name__
        )
        raise ExportError(f"loss_fn must return a real scalar tensor, the loss of the batch; it returned {found}")
    if not value.requires_grad:
        raise ExportError(
            "the loss does not depend on any parameter of the model; was it detached, or taken under no_grad?"
        )


_REFUSED = (
    (
        "dropout",
        "dropout is active: call model.eval(), and pass training=False (or self.training) to functional dropout",
    ),
    ("rand", "random numbers are drawn: pass the noise as a tensor of the batch"),
    ("bernoulli", "random numbers are drawn: pass the noise as a tensor of the batch"),
    ("normal", "random numbers are drawn: pass the noise as a tensor of the batch"),
    ("lstm.", "the fused LSTM has no second derivative: write it as a loop over torch.nn.LSTMCell"),
    ("gru.", "the fused GRU has no second derivative: write it as a loop over torch.nn.GRUCell"),
    ("rnn_tanh.", "the fused RNN has no second derivative: write it as a loop over torch.nn.RNNCell"),
    ("rnn_relu.", "the fused RNN has no second derivative: write it as a loop over torch.nn.RNNCell"),
)


def _check_program(program: ExportedProgram, batch: Tensors) -> None:
    signature = program.graph_signature
    written = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if written:
        raise ExportError(
            f"the model writes to {written[0].removeprefix(_PREFIX)} in forward; call model.eval(), or write to a copy"
        )
    if sorted(map(str, signature.user_inputs)) != sorted(batch):
        raise ExportError("a data tensor has a name that Python or torch reserves; rename it")
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise ExportError(
                f"the model uses {node.target}, a region of its own (no_grad, autocast, checkpointing, torch.cond): leave "
                "precision and gradients to the analysis, use .detach() for no_grad, and torch.where for branches"
            )
        operator = str(node.target).removeprefix("aten.").lstrip("_").removeprefix("native_")
        for start, advice in _REFUSED:
            if operator.startswith(start):
                raise ExportError(advice)


def _advice(error: Exception) -> str:
    message = str(error)
    if "specialized" in message or "Constraints violated" in message:
        reason = (
            "the batch size cannot stay free: something fixes it to the example's, such as len(x), x.view(32, -1), a buffer with a "
            "batch dimension, or a branch on the size; use x.shape[0], and no branch"
        )
    elif "data-dependent" in message or "DataDependent" in type(error).__name__ or "unbacked" in message:
        reason = (
            "the path or a size depends on values of tensors (if loss > 1, .item(), x[mask], nonzero); use torch.where and "
            "multiplication by masks"
        )
    else:
        reason = "torch.export cannot trace it"
    return f"{reason}. torch says: {_quote(error)}"


def _quote(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _MAX_QUOTED_CHARS else text[:_MAX_QUOTED_CHARS] + "…"


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
