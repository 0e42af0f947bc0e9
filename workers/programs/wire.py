"""The part of torch.export's JSON that a loss program needs, parsed strictly; all else is never looked at.

Written after torch 2.11 to 2.13 (`torch/_export/serde/schema.py`, schema version 8). Symbolic expressions, guards, ranges, tree
specs and metadata are not parsed: the stock loader evaluates them, and an interpreter needs none of them.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault, quoted
from workers.programs.outline import check_counts

SCHEMA_MAJOR = 8
MAX_ENTRIES = 100_000

Name = Annotated[str, Field(min_length=1, max_length=512)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Real = float | Literal["Infinity", "-Infinity", "NaN"]
Item = TypeVar("Item")
# Of many wrong items one is told: an error takes fifty times the memory of the item that is wrong.
Items = Annotated[list[Item], Field(fail_fast=True)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Named(_Wire):
    name: Name


class SymbolicExpression(_Wire):
    """Stands where a size depends on the batch; what the expression says is not read."""


class Size(_Wire):
    as_int: Integer | None = None
    as_expr: SymbolicExpression | None = None


class IntegerArgument(_Wire):
    as_name: Name | None = None
    as_int: Integer | None = None


class RealArgument(_Wire):
    as_name: Name | None = None
    as_float: Real | None = None


class TruthArgument(_Wire):
    as_name: Name | None = None
    as_bool: bool | None = None


class OptionalTensor(_Wire):
    as_tensor: Named | None = None
    as_none: bool | None = None


class Device(_Wire):
    type: Annotated[str, Field(max_length=32)]


class Argument(_Wire):
    """A union: exactly one field is given. Kinds that are not listed here give none, and are refused where they are used."""

    as_none: bool | None = None
    as_tensor: Named | None = None
    as_tensors: Items[Named] | None = None
    as_int: Integer | None = None
    as_ints: Items[Integer] | None = None
    as_float: Real | None = None
    as_floats: Items[Real] | None = None
    as_string: Annotated[str, Field(max_length=4096)] | None = None
    as_sym_int: IntegerArgument | None = None
    as_sym_ints: Items[IntegerArgument] | None = None
    as_sym_float: RealArgument | None = None
    as_sym_bool: TruthArgument | None = None
    as_scalar_type: Integer | None = None
    as_memory_format: Integer | None = None
    as_layout: Integer | None = None
    as_device: Device | None = None
    as_bool: bool | None = None
    as_bools: Items[bool] | None = None
    as_optional_tensor: OptionalTensor | None = None
    as_optional_tensors: Items[OptionalTensor] | None = None

    @property
    def kind(self) -> str | None:
        """The one field that is given; None for an unknown kind or for several at once."""
        return next(iter(self.model_fields_set)) if len(self.model_fields_set) == 1 else None


class NamedArgument(_Wire):
    name: Annotated[str, Field(max_length=512)]
    arg: Argument


class Node(_Wire):
    target: Annotated[str, Field(max_length=512)]
    inputs: Annotated[Items[NamedArgument], Field(max_length=1_000)]
    outputs: Annotated[Items[Argument], Field(max_length=10_000)]


class TensorMeta(_Wire):
    dtype: Integer
    sizes: Items[Size]
    strides: Items[Size]
    storage_offset: Size


class _WrongEntry(Exception):
    """One entry of a mapping is wrong; mappings themselves would go on to the last."""


def _stop(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        return validate(value)
    except ValidationError as wrong:
        raise _WrongEntry(_told(wrong)) from None


Entries = dict[str, Annotated[Item, WrapValidator(_stop)]]


class Graph(_Wire):
    nodes: Items[Node]
    tensor_values: Entries[TensorMeta]


class ParameterInput(_Wire):
    arg: Named
    parameter_name: Name


class BufferInput(_Wire):
    arg: Named
    buffer_name: Name


class ConstantInput(_Wire):
    arg: Named
    tensor_constant_name: Name


class UserArgument(_Wire):
    arg: Argument


class LiteralInput(_Wire):
    """A non-tensor argument of forward, fixed at export; its value already stands in the graph."""


class InputSpec(_Wire):
    user_input: UserArgument | None = None
    parameter: ParameterInput | None = None
    buffer: BufferInput | None = None
    tensor_constant: ConstantInput | None = None
    constant_input: LiteralInput | None = None


class LossOutput(_Wire):
    arg: Named


class OutputSpec(_Wire):
    user_output: UserArgument | None = None
    loss_output: LossOutput | None = None


class Signature(_Wire):
    input_specs: Items[InputSpec]
    output_specs: Items[OutputSpec]


class GraphModule(_Wire):
    graph: Graph
    signature: Signature


class SchemaVersion(_Wire):
    major: Integer
    minor: Integer


class _Versioned(_Wire):
    schema_version: SchemaVersion


class ExportedProgram(_Wire):
    graph_module: GraphModule


class Payload(_Wire):
    """Where the bytes of a weight or a constant are, and how they are laid out."""

    path_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
    use_pickle: bool
    tensor_meta: TensorMeta | None


class _PayloadConfig(_Wire):
    config: Annotated[Entries[Payload], Field(max_length=MAX_ENTRIES)]


def parse_program(raw: bytes) -> ExportedProgram:
    """The exported program in `models/model.json`.

    Raises:
        JobFault: `loss_invalid`, for an unknown schema version or JSON that is not a program; `resource_limit` for one
            of too many parts.
    """
    try:
        version = _Versioned.model_validate_json(raw).schema_version
        if version.major != SCHEMA_MAJOR:
            raise _invalid(
                f"the program is written in version {version.major}.{version.minor} of torch.export's schema; "
                f"version {SCHEMA_MAJOR} is read here. Export it again with torch 2.11 to 2.13"
            )
        check_counts(raw)
        return ExportedProgram.model_validate_json(raw)
    except ValidationError as wrong:
        raise _unreadable("models/model.json", _told(wrong)) from None
    except _WrongEntry as wrong:
        raise _unreadable("models/model.json", str(wrong)) from None


def parse_payloads(raw: bytes, path: str) -> dict[str, Payload]:
    """The entries of a weights or constants configuration, by qualified name.

    Raises:
        JobFault: `loss_invalid`, for JSON that is not a configuration.
    """
    try:
        return _PayloadConfig.model_validate_json(raw).config
    except ValidationError as wrong:
        raise _unreadable(path, _told(wrong)) from None
    except _WrongEntry as wrong:
        raise _unreadable(path, str(wrong)) from None


def _told(wrong: ValidationError) -> str:
    first = wrong.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"at {quoted(place, 200)}: {first['msg'][:200]}"


def _unreadable(path: str, told: str) -> JobFault:
    return _invalid(f"{path} of the program is not what torch.export writes, {told}")


def _invalid(detail: str) -> JobFault:
    return JobFault(FailureCode.LOSS_INVALID, detail, "/loss/program")
