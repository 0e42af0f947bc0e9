"""Arithmetic on sizes that depend on the batch: the literal table of scalar functions a program may call."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

from torch import Tensor

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault

Scalar = bool | int | float
_MAX_SHIFT = 62


def _power(base: Scalar, exponent: Scalar) -> Scalar:
    if not 0 <= exponent <= _MAX_SHIFT:
        raise OverflowError
    return base**exponent


def _left_shift(value: int, places: int) -> int:
    if not 0 <= places <= _MAX_SHIFT:
        raise OverflowError
    return value << places


def _choose(condition: Scalar, then: Scalar, otherwise: Scalar) -> Scalar:
    return then if condition else otherwise


def _size(tensor: Tensor, dim: int) -> int:
    return tensor.shape[dim]


_FUNCTIONS: Mapping[str, Callable[..., Scalar]] = {
    "torch.ops.aten.sym_size.int": _size,
    "torch.ops.aten.sym_numel.default": Tensor.numel,
    "_operator.add": operator.add,
    "_operator.sub": operator.sub,
    "_operator.mul": operator.mul,
    "_operator.floordiv": operator.floordiv,
    "_operator.truediv": operator.truediv,
    "_operator.mod": operator.mod,
    "_operator.pow": _power,
    "_operator.lshift": _left_shift,
    "_operator.rshift": operator.rshift,
    "_operator.neg": operator.neg,
    "_operator.pos": operator.pos,
    "_operator.and_": operator.and_,
    "_operator.or_": operator.or_,
    "_operator.eq": operator.eq,
    "_operator.ne": operator.ne,
    "_operator.lt": operator.lt,
    "_operator.le": operator.le,
    "_operator.gt": operator.gt,
    "_operator.ge": operator.ge,
    "math.trunc": math.trunc,
    "torch.sym_int": int,
    "torch.sym_float": float,
    "torch.sym_not": operator.not_,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_ite": _choose,
    "torch.sym_sqrt": math.sqrt,
}


def find_function(target: str) -> Callable[..., Scalar] | None:
    """The scalar function of that name, made safe: a size stays a 63-bit number, and a mistake is the program's fault."""
    function = _FUNCTIONS.get(target)
    if function is None:
        return None

    def checked(*operands: Tensor | Scalar) -> Scalar:
        try:
            value = function(*operands)
            if not -(2**_MAX_SHIFT) < value < 2**_MAX_SHIFT:
                raise OverflowError
        except (ArithmeticError, TypeError, ValueError, IndexError):
            raise JobFault(
                FailureCode.LOSS_INVALID,
                f"{target}, a computation of a size in the program, has no valid result",
                "/loss/program",
            ) from None
        return value

    return checked
