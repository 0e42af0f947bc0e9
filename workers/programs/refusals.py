"""Why an operator outside the table does not run, and what to change in the model."""

from __future__ import annotations

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault, quoted

_MUTATION = "it changes a tensor in place; use saddlescope.export_loss, or call .run_decompositions({}) on the program"
_RANDOM = (
    "it draws random numbers, so the loss would differ at every evaluation; call model.eval(), and pass noise as data"
)
_SIZE = "the size of its result depends on values in the data; use masks and torch.where instead"
_UNSAFE = "it reads memory or files that are not part of the program"
_RECURRENT = "the fused recurrent kernels have no second derivative; write the recurrence as a loop over its cell"
_CONTROL = (
    "it is control flow or a region (torch.cond, autocast, no_grad, checkpointing); trace one branch, and leave precision and "
    "gradients to the analysis"
)
_REASONS = (
    (("torch.ops.higher_order.",), _CONTROL),
    (("torch.ops.aten.rand", "torch.ops.aten.normal", "torch.ops.aten.bernoulli", "torch.ops.aten.multinomial"), _RANDOM),
    (("torch.ops.aten.uniform", "torch.ops.aten.poisson.", "torch.ops.aten.rrelu", "torch.ops.aten.exponential"), _RANDOM),
    (("torch.ops.aten.lstm.", "torch.ops.aten.gru.", "torch.ops.aten.rnn_", "torch.ops.aten._cudnn_rnn"), _RECURRENT),
    (("torch.ops.aten.item", "torch.ops.aten._local_scalar_dense", "torch.ops.aten.nonzero"), _SIZE),
    (("torch.ops.aten.masked_select", "torch.ops.aten.unique", "torch.ops.aten._unique"), _SIZE),
    (("torch.ops.aten.empty", "torch.ops.aten.new_empty", "torch.ops.aten.as_strided", "torch.ops.aten.from_file"), _UNSAFE),
    (("torch.ops.aten.set_", "torch.ops.aten.resize", "torch.ops.aten._resize", "torch.ops.aten.set."), _UNSAFE),
    (("torch.ops.aten._native_batch_norm_legit", "torch.ops.aten.cudnn_batch_norm"), "it normalises by the statistics of each "
     "batch; call model.eval() before the export"),
)  # fmt: skip


def refusal(target: str, position: int) -> JobFault:
    """The fault of a program whose node `position` calls an operator that is not in the table."""
    reason = "it is not in the table of operators that programs may use"
    operator = target.split(".")
    if (
        target.startswith("torch.ops.aten.")
        and len(operator) > 3
        and operator[3].endswith("_")
        and not operator[3].endswith("__")
    ):
        reason = _MUTATION
    for prefixes, known in _REASONS:
        if target.startswith(prefixes):
            reason = known
    return JobFault(
        FailureCode.UNSUPPORTED_OPERATION,
        f"node {position} of the program calls {quoted(target, 120)}: {reason}",
        "/loss/program",
    )
