"""What cannot be exported as it is, and what to change, in plain words. Imports torch: load it on use."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.nn import Module
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.rnn import RNNBase

from saddlescope.client.export import ExportError

PREFIX = "model."
_MAX_QUOTED_CHARS = 400


def check_mode(model: Module) -> None:
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
                'on how rows are batched; call model.eval() first, or give mode="eval"'
            )


def check_loss(value: object) -> None:
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


def check_program(program: ExportedProgram, batch: Mapping[str, Tensor]) -> None:
    signature = program.graph_signature
    written = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if written:
        raise ExportError(
            f"the model writes to {written[0].removeprefix(PREFIX)} in forward; call model.eval(), or write to a copy"
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


def advice(error: Exception) -> str:
    """What to change where tracing or differentiating failed."""
    message = str(error)
    if "in-place operation" in message or "inplace operation" in message:
        reason = (
            "an in-place operation (+=, .add_(), relu(inplace=True), x[i] = y) overwrites what the derivative needs; "
            "write y = y + x instead of y += x, and leave inplace=True out"
        )
    elif "specialized" in message or "Constraints violated" in message:
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
    return f"{reason}. torch says: {quote(error)}"


def quote(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _MAX_QUOTED_CHARS else text[:_MAX_QUOTED_CHARS] + "…"
