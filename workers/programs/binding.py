"""The arguments of a node, checked against the schema of its operator.

torch trusts the types of what it is called with through some paths (an int where a dtype belongs ends the process), so nothing
reaches an operator here that its schema does not name, by kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault, quoted
from workers.programs.operators import Operator
from workers.programs.wire import Argument, IntegerArgument, Named, Node, Real, RealArgument, TruthArgument


@dataclass(frozen=True)
class TensorRef:
    """A tensor computed before."""

    name: str


@dataclass(frozen=True)
class ScalarRef:
    """A size, or a number made of sizes, computed before."""

    name: str


Ref = TensorRef | ScalarRef
Literal = None | bool | int | float | str | torch.dtype | torch.device
Bound = Literal | Ref | list[Literal | Ref]


@dataclass(frozen=True)
class Working:
    """Where and how precisely the program runs, whatever it was exported with."""

    dtype: torch.dtype
    device: torch.device


class _Mismatch(Exception):
    """An argument that its parameter does not take."""


_DTYPES: Mapping[int, torch.dtype | None] = {  # torch._export.serde.schema.ScalarType; None: the working dtype
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: None,
    7: None,
    8: None,
    12: torch.bool,
    13: None,
}
_STRIDED = 7
_WORD = re.compile(r"[A-Za-z0-9_ .,>-]{0,256}")


def stored_dtype(code: int) -> torch.dtype | None:
    """The dtype of that code in an archive; None for the dtypes that no program may have."""
    floating = {6: torch.float16, 7: torch.float32, 8: torch.float64, 13: torch.bfloat16}
    return floating.get(code) or _DTYPES.get(code)


def bind(node: Node, operator: Operator, working: Working) -> tuple[list[Bound], dict[str, Bound]]:
    """Positional and keyword arguments for `operator.call`.

    Floating dtypes become the working dtype and devices the working device; layout, memory format and pinning, which change no
    value, are left to torch.

    Raises:
        JobFault: `loss_invalid`, if an argument is missing, unknown or of another kind than the schema says.
    """
    given = {argument.name: argument.arg for argument in node.inputs}
    parameters = {parameter.name: parameter for parameter in operator.schema.arguments}
    if len(given) != len(node.inputs) or not given.keys() <= parameters.keys():
        raise _invalid(node, "an argument is given twice or is not in its schema")
    positional: list[Bound] = []
    keywords: dict[str, Bound] = {}
    num_given = 0
    for name, parameter in parameters.items():
        kind = str(parameter.real_type)
        if "Device" in kind:
            value: Bound = working.device
        elif name in ("layout", "memory_format", "pin_memory"):
            _check_layout(node, given.get(name))
            value = None
        elif name in given:
            value = _convert(node, name, kind, given[name], working)
        elif parameter.has_default_value():
            value = parameter.default_value
        else:
            raise _invalid(node, f"argument {quoted(name)} is missing")
        is_given = name in given or "Device" in kind
        if not parameter.kwarg_only:
            positional.append(value)
            num_given = len(positional) if is_given else num_given
        elif is_given and value is not None:
            keywords[name] = value
    if operator.is_factory and "dtype" not in keywords and _is_floating(node, positional):
        keywords["dtype"] = working.dtype
    return positional[:num_given], keywords


def _is_floating(node: Node, positional: list[Bound]) -> bool:
    """Whether torch would give its default dtype to what a factory makes."""
    if node.target.startswith(("torch.ops.aten.arange.", "torch.ops.aten.full.")):
        return any(isinstance(value, float) for value in positional) or any(
            argument.arg.as_sym_float is not None for argument in node.inputs
        )
    return "_indices" not in node.target


def _check_layout(node: Node, argument: Argument | None) -> None:
    if argument is not None and argument.as_layout not in (None, _STRIDED):
        raise JobFault(FailureCode.UNSUPPORTED_OPERATION, f"{node.target} makes a sparse tensor", "/loss/program")


def _convert(node: Node, name: str, kind: str, argument: Argument, working: Working) -> Bound:
    if kind.startswith("Optional["):
        if argument.kind == "as_none" or (
            argument.as_optional_tensor is not None and argument.as_optional_tensor.as_none
        ):
            return None
        kind = kind.removeprefix("Optional[").removesuffix("]")
    converter = _CONVERTERS.get(kind)
    try:
        if kind == "ScalarType":
            return _dtype(argument, working)
        if converter is None or argument.kind is None:
            raise _Mismatch
        return converter(argument)
    except _Mismatch:
        raise _invalid(
            node, f"argument {quoted(name)} must be {kind}, not {argument.kind or 'of an unknown kind'}"
        ) from None


def _dtype(argument: Argument, working: Working) -> torch.dtype:
    code = argument.as_scalar_type
    if code is None or code not in _DTYPES:
        raise _Mismatch
    return _DTYPES[code] or working.dtype


def _real(value: Real) -> float:
    return float(value)  # "Infinity", "-Infinity" and "NaN" are read alike


def _named(argument: IntegerArgument | RealArgument | TruthArgument) -> ScalarRef:
    if argument.as_name is None:
        raise _Mismatch
    return ScalarRef(argument.as_name)


def _integer_item(argument: IntegerArgument) -> int | ScalarRef:
    return argument.as_int if argument.as_int is not None else _named(argument)


def _integer(argument: Argument) -> int | ScalarRef:
    if argument.as_int is not None:
        return argument.as_int
    if argument.as_sym_int is not None:
        return _integer_item(argument.as_sym_int)
    raise _Mismatch


def _float(argument: Argument) -> float | ScalarRef:
    if argument.as_float is not None:
        return _real(argument.as_float)
    if argument.as_sym_float is not None:
        symbolic = argument.as_sym_float
        return _real(symbolic.as_float) if symbolic.as_float is not None else _named(symbolic)
    value = _integer(argument)
    return value if isinstance(value, ScalarRef) else float(value)


def _truth(argument: Argument) -> bool | ScalarRef:
    if argument.as_bool is not None:
        return argument.as_bool
    if argument.as_sym_bool is not None:
        symbolic = argument.as_sym_bool
        return symbolic.as_bool if symbolic.as_bool is not None else _named(symbolic)
    raise _Mismatch


def scalar(argument: Argument) -> bool | int | float | ScalarRef:
    """A number of any kind.

    Raises:
        _Mismatch: if it is none.
    """
    if argument.as_bool is not None or argument.as_sym_bool is not None:
        return _truth(argument)
    if argument.as_int is not None or argument.as_sym_int is not None:
        return _integer(argument)
    return _float(argument)


def _tensor(argument: Argument) -> Bound:
    if argument.as_tensor is not None:
        return TensorRef(argument.as_tensor.name)
    if argument.as_optional_tensor is not None and argument.as_optional_tensor.as_tensor is not None:
        return TensorRef(argument.as_optional_tensor.as_tensor.name)
    return scalar(argument)  # torch makes a 0-dimensional tensor of a number


def _word(argument: Argument) -> str:
    if argument.as_string is None or not _WORD.fullmatch(argument.as_string):
        raise _Mismatch
    return argument.as_string


def _integers(argument: Argument) -> Bound:
    if argument.as_ints is not None:
        return list(argument.as_ints)
    if argument.as_sym_ints is not None:
        return [_integer_item(item) for item in argument.as_sym_ints]
    return [_integer(argument)]


def _floats(argument: Argument) -> Bound:
    if argument.as_floats is not None:
        return [_real(value) for value in argument.as_floats]
    if argument.as_ints is not None:
        return [float(value) for value in argument.as_ints]
    raise _Mismatch


def _references(tensors: list[Named]) -> list[Literal | Ref]:
    return [TensorRef(tensor.name) for tensor in tensors]


def _tensors(argument: Argument) -> Bound:
    if argument.as_tensors is None:
        raise _Mismatch
    return _references(argument.as_tensors)


def _optional_tensors(argument: Argument) -> Bound:
    if argument.as_optional_tensors is None:
        return _tensors(argument)
    return [None if item.as_tensor is None else TensorRef(item.as_tensor.name) for item in argument.as_optional_tensors]


_CONVERTERS: Mapping[str, Callable[[Argument], Bound]] = {
    "Tensor": _tensor,
    "int": _integer,
    "float": _float,
    "number": scalar,
    "bool": _truth,
    "str": _word,
    "List[int]": _integers,
    "List[float]": _floats,
    "List[Tensor]": _tensors,
    "List[Optional[Tensor]]": _optional_tensors,
}


def bind_scalars(node: Node) -> list[Bound]:
    """The arguments of a scalar function: numbers, and a tensor first where its size is asked.

    Raises:
        JobFault: `loss_invalid`, for arguments of another kind.
    """
    try:
        return [
            _tensor(argument.arg) if position == 0 else scalar(argument.arg)
            for position, argument in enumerate(node.inputs)
        ]
    except _Mismatch:
        raise _invalid(node, "a size is computed from something that is not a number") from None


def _invalid(node: Node, detail: str) -> JobFault:
    return JobFault(
        FailureCode.LOSS_INVALID, f"the program calls {quoted(node.target)} wrongly: {detail}", "/loss/program"
    )
