"""What a program reads and what it gives: parameters, buffers, constants, data tensors and one loss."""

from __future__ import annotations

from dataclasses import dataclass

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault, quoted
from workers.programs.wire import ExportedProgram, GraphModule, InputSpec, OutputSpec, TensorMeta


@dataclass(frozen=True)
class Signature:
    """The inputs of a graph, by the value's name in the graph, and the value that is the loss.

    Attributes:
        parameters, buffers, constants: value to the tensor's qualified name in the model.
        data: value (it is the data tensor's name, too) to dtype and sizes at export.
        loss: the value that is the loss of the batch.
    """

    parameters: dict[str, str]
    buffers: dict[str, str]
    constants: dict[str, str]
    data: dict[str, TensorMeta]
    loss: str

    @property
    def tensors(self) -> dict[str, str]:
        """Value to qualified name, of all that does not come from the data."""
        return self.parameters | self.buffers | self.constants


def read_signature(program: ExportedProgram) -> Signature:
    """The signature of an exported program.

    Raises:
        JobFault: `loss_invalid` unless there is one tensor output and every input has its own name;
            `unsupported_operation` for inputs that are not tensors and for programs that change their inputs.
    """
    module = program.graph_module
    found = Signature({}, {}, {}, {}, _loss(module.signature.output_specs))
    for spec in module.signature.input_specs:
        _place(spec, module, found)
    values = [*found.tensors, *found.data]
    names = list(found.tensors.values())
    num_inputs = sum(1 for spec in module.signature.input_specs if spec.constant_input is None)
    if len(values) != num_inputs or len(set(names)) != len(names):
        raise _invalid("two inputs of the program have the same name")
    return found


def _place(spec: InputSpec, module: GraphModule, found: Signature) -> None:
    if spec.parameter is not None:
        found.parameters[spec.parameter.arg.name] = spec.parameter.parameter_name
    elif spec.buffer is not None:
        found.buffers[spec.buffer.arg.name] = spec.buffer.buffer_name
    elif spec.tensor_constant is not None:
        found.constants[spec.tensor_constant.arg.name] = spec.tensor_constant.tensor_constant_name
    elif spec.user_input is not None and spec.user_input.arg.as_tensor is not None:
        name = spec.user_input.arg.as_tensor.name
        found.data[name] = _described(name, module.graph.tensor_values)
    elif spec.constant_input is None:
        raise JobFault(
            FailureCode.UNSUPPORTED_OPERATION,
            "the program has an input that is neither a tensor nor a fixed number; forward may take only the data tensors",
            "/loss/program",
        )


def _described(name: str, values: dict[str, TensorMeta]) -> TensorMeta:
    meta = values.get(name)
    if meta is None:
        raise _invalid(f"the program does not describe its input {quoted(name)}")
    if not meta.sizes or meta.sizes[0].as_int is not None:
        raise _invalid(
            f"the program is frozen to the batch it was exported with: dimension 0 of its input {quoted(name)} is fixed. Export it "
            "with a dynamic first dimension, as saddlescope.export_loss does"
        )
    return meta


def _loss(outputs: list[OutputSpec]) -> str:
    if any(output.user_output is None and output.loss_output is None for output in outputs):
        raise JobFault(
            FailureCode.UNSUPPORTED_OPERATION,
            "the program changes one of its inputs or buffers (a batch norm in training mode, or an assignment in place); call "
            "model.eval() before the export and write no buffer in forward",
            "/loss/program",
        )
    if len(outputs) == 1:
        output = outputs[0]
        if output.loss_output is not None:
            return output.loss_output.arg.name
        if output.user_output is not None and output.user_output.arg.as_tensor is not None:
            return output.user_output.arg.as_tensor.name
    raise _invalid(
        f"the program has {len(outputs)} outputs; forward must return one tensor, the scalar loss of the batch"
    )


def _invalid(detail: str) -> JobFault:
    return JobFault(FailureCode.LOSS_INVALID, detail, "/loss/program")
