"""`program` losses: a torch.export archive, its parameters taken from the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from saddlescope.contract.losses import ProgramLoss
from saddlescope.contract.vocabulary import FailureCode, Reduction
from saddlescope.curvature.objective import BatchLoss, Problem
from workers.faults import JobFault, quoted
from workers.losses import BuiltProblem, ignored_tensors
from workers.programs.archive import Archive, read_archive
from workers.programs.binding import Working, stored_dtype
from workers.programs.bounds import lower_bound
from workers.programs.compilation import compile_program
from workers.programs.interpreter import Executable
from workers.programs.metering import META, Budget, dry_run
from workers.programs.signature import Signature, read_signature
from workers.programs.wire import ExportedProgram, TensorMeta
from workers.readers.mapped import Source

_SHOWN = 5


def program_problem(
    loss: ProgramLoss,
    archive: Source,
    checkpoint: Mapping[str, Tensor],
    data: Mapping[str, Tensor],
    budget: Budget | None = None,
) -> BuiltProblem:
    """The loss of an exported program at the checkpoint's parameters, over the data.

    Buffers come from the checkpoint where it has them, else from the archive; other constants from the archive.

    Raises:
        JobFault: `loss_invalid` or `unsupported_operation` for the program, `parameter_mismatch` for the
            checkpoint, `data_invalid` for the data, `resource_limit` if one evaluation would cost more than the budget.
    """
    opened = read_archive(archive)
    graph = opened.program.graph_module.graph
    signature = read_signature(opened.program)
    known = {*signature.parameters.values(), *signature.buffers.values()}
    params, signature = _parameters(signature, opened, checkpoint)
    rows = _rows(signature, data)
    rehearsal = compile_program(graph.nodes, signature, Working(torch.float64, META))
    constants = _constants(signature, opened, checkpoint, {name for _, name in rehearsal.inputs})
    dry_run(rehearsal, {**constants, **params}, rows, budget or Budget())
    low = lower_bound(graph.nodes, signature, graph.tensor_values, {**constants, **rows})
    if loss.reduction is Reduction.SUM and low is not None:
        low = 0.0 if low >= 0 else None  # the number of batches scales the bound of one
    problem = Problem(
        loss=_batch_loss(opened.program, signature, next(iter(params))),
        params=params,
        constants=constants,
        data=rows,
        reduction=loss.reduction,
        weight_decay=loss.weight_decay,
        lower_bound=low,
    )
    return BuiltProblem(problem, ignored_tensors([name for name in checkpoint if name not in known]))


def _batch_loss(program: ExportedProgram, signature: Signature, any_parameter: str) -> BatchLoss:
    executables: dict[Working, Executable] = {}

    def batch_loss(tensors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        working = Working(tensors[any_parameter].dtype, tensors[any_parameter].device)
        if working not in executables:
            executables[working] = compile_program(program.graph_module.graph.nodes, signature, working)
        return executables[working]({**tensors, **batch})

    return batch_loss


def _parameters(
    signature: Signature, archive: Archive, checkpoint: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Signature]:
    """θ in the program's order, and the signature that reads it.

    Names that are tied in the program are one variable: a checkpoint may have all of them, with equal values, or any of them.
    """
    params: dict[str, Tensor] = {}
    standing_in: dict[str, str] = {}
    wrong = []
    shapes = {name: _shape(archive.program, value) for value, name in signature.parameters.items()}
    for group in archive.tied(list(signature.parameters.values())):
        present = [name for name in group if name in checkpoint]
        if not present:
            wrong.append(f"{quoted(group[0])} {list(shapes[group[0]])} is missing")
            continue
        first = checkpoint[present[0]]
        standing_in |= dict.fromkeys(group, present[0])
        for name in present:
            tensor = checkpoint[name]
            if tuple(tensor.shape) != shapes[name]:
                wrong.append(
                    f"{quoted(name)} is {list(tensor.shape)} in the checkpoint and {list(shapes[name])} in the program"
                )
            elif not tensor.is_floating_point():
                wrong.append(f"{quoted(name)} is {tensor.dtype}, not floating point")
            elif not torch.equal(tensor, first):
                wrong.append(
                    f"{quoted(name)} and {quoted(present[0])} are one tensor in the program, and differ in the checkpoint"
                )
            params[name] = first
    if wrong:
        raise _mismatch(wrong)
    if not params:
        raise JobFault(
            FailureCode.LOSS_INVALID, "the program has no parameters, so there is nothing to vary", "/loss/program"
        )
    ordered = {name: params[name] for name in signature.parameters.values() if name in params}
    return ordered, replace(
        signature, parameters={value: standing_in[name] for value, name in signature.parameters.items()}
    )


def _shape(program: ExportedProgram, value: str) -> tuple[int, ...]:
    meta = program.graph_module.graph.tensor_values.get(value)
    sizes = [size.as_int for size in meta.sizes] if meta is not None else [None]
    if any(size is None for size in sizes):
        raise JobFault(
            FailureCode.LOSS_INVALID, f"the program does not describe its input {quoted(value)}", "/loss/program"
        )
    return tuple(size for size in sizes if size is not None)


def _constants(
    signature: Signature, archive: Archive, checkpoint: Mapping[str, Tensor], read: set[str]
) -> dict[str, Tensor]:
    """The tensors that the program reads and that do not vary."""
    constants, wrong = {}, []
    for value, name in (signature.buffers | signature.constants).items():
        if name not in read:
            continue
        is_saved = name in checkpoint and value in signature.buffers
        tensor = checkpoint[name] if is_saved else archive.tensor(name)
        if tensor is None:
            wrong.append(f"buffer {quoted(name)} is neither in the checkpoint nor in the program")
        elif tuple(tensor.shape) != _shape(archive.program, value):
            wrong.append(
                f"buffer {quoted(name)} is {list(tensor.shape)} and {list(_shape(archive.program, value))} in the program"
            )
        else:
            constants[name] = tensor
    if wrong:
        raise _mismatch(wrong)
    return constants


def _mismatch(wrong: list[str]) -> JobFault:
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return JobFault(
        FailureCode.PARAMETER_MISMATCH,
        f"the checkpoint is not one of the program's model: {'; '.join(wrong[:_SHOWN])}{more}. Export the loss from the same model",
        "/checkpoint",
    )


def _rows(signature: Signature, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The data in the program's order and kinds of numbers; floating data keep their precision."""
    missing = [name for name in signature.data if name not in data]
    unknown = [name for name in data if name not in signature.data]
    if missing or unknown:
        wanted = ", ".join(quoted(name) for name in [*signature.data][:20]) or "no data at all"
        got = ", ".join(quoted(name) for name in [*data][:20]) or "none"
        raise _bad_data(f"the program takes {wanted}; the data has {got}")
    rows = {name: _fitted(name, data[name], meta) for name, meta in signature.data.items()}
    lengths = {name: tensor.shape[0] for name, tensor in rows.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        shown = ", ".join(f"{quoted(name)} {length}" for name, length in [*lengths.items()][:20])
        raise _bad_data(f"the data tensors must have the same number of rows, one or more; they have: {shown}")
    return rows


def _fitted(name: str, tensor: Tensor, meta: TensorMeta) -> Tensor:
    wanted = [size.as_int for size in meta.sizes]
    fits = len(wanted) == tensor.dim() and all(
        size is None or size == found for size, found in zip(wanted, tensor.shape, strict=True)
    )
    if not fits:
        shown = ", ".join("any" if size is None else str(size) for size in wanted)
        raise _bad_data(f"{quoted(name)} is {list(tensor.shape)}; the program takes [{shown}]")
    dtype = stored_dtype(meta.dtype)
    is_number = not tensor.is_complex() and tensor.dtype != torch.bool
    if dtype is not None and dtype.is_floating_point and is_number:
        return tensor if tensor.is_floating_point() else tensor.double()
    if (
        dtype is None
        or not torch.can_cast(tensor.dtype, dtype)
        or (dtype == torch.bool) != (tensor.dtype == torch.bool)
    ):
        raise _bad_data(f"{quoted(name)} is {tensor.dtype}; the program takes {dtype or 'an unknown dtype'}")
    return tensor.to(dtype)


def _bad_data(detail: str) -> JobFault:
    return JobFault(FailureCode.DATA_INVALID, detail, "/data")
