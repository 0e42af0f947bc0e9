"""Evaluation of syntax trees on tensors, differentiable to every order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from saddlescope.contract.expressions import (
    Call,
    Chain,
    Expression,
    Function,
    Name,
    Negate,
    Number,
    Operator,
    Power,
    Slice,
    Subscript,
)
from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault

_MAX_NUMBERS = 2**30

Operand = Tensor | float
"""Constants stay Python floats, so that they are exact in any working dtype and never promote a tensor."""


def invalid_expression(detail: str) -> JobFault:
    """The fault that the expression is to blame for."""
    return JobFault(FailureCode.LOSS_INVALID, detail, "/loss/expression")


def as_tensor(value: Operand) -> Tensor:
    """The tensor itself, or a constant in float64."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def evaluate(tree: Expression, tensors: Mapping[str, Tensor]) -> Operand:
    """The value of a tree; a Python float where no tensor takes part.

    Raises:
        JobFault: `loss_invalid`, if the shapes of an operation do not fit.
    """
    match tree:
        case Number(value):
            return value
        case Name(name):
            return tensors[name]
        case Negate(operand):
            return -evaluate(operand, tensors)
        case Chain(first, rest):
            result = evaluate(first, tensors)
            for operator, operand in rest:
                result = _held(_operate(operator, result, evaluate(operand, tensors)))
            return result
        case Power(base, exponent):
            return _held(_power(evaluate(base, tensors), evaluate(exponent, tensors)))
        case Subscript(operand, items):
            return _subscript(as_tensor(evaluate(operand, tensors)), items)
        case Call():
            return _call(tree, [evaluate(argument, tensors) for argument in tree.arguments])


def _shape(value: Operand) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _held(value: Operand) -> Operand:
    """The value itself; in the dry run, where tensors have no storage, only if it could be held."""
    if isinstance(value, Tensor) and value.is_meta and value.numel() > _MAX_NUMBERS:
        shape = tuple(value.shape)
        detail = f"the expression makes a tensor of shape {shape}, more than can be held; is a broadcast meant there?"
        raise JobFault(FailureCode.RESOURCE_LIMIT, detail, "/loss/expression")
    return value


def _operate(operator: Operator, left: Operand, right: Operand) -> Operand:
    if not isinstance(left, Tensor) and not isinstance(right, Tensor):
        left = as_tensor(left)  # torch's division by zero is infinite, Python's raises
    try:
        match operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right
            case "@":
                return as_tensor(left) @ as_tensor(right)
    except RuntimeError as mismatch:
        raise invalid_expression(
            f"operator {operator} does not fit shapes {_shape(left)} and {_shape(right)}"
        ) from mismatch


def _power(base: Operand, exponent: Operand) -> Operand:
    try:
        if isinstance(exponent, Tensor):
            return base**exponent
        # A constant exponent stays a number: torch then differentiates x**2 at 0 exactly, to every order.
        return as_tensor(base) ** exponent
    except RuntimeError as mismatch:
        raise invalid_expression(f"operator ** does not fit shapes {_shape(base)} and {_shape(exponent)}") from mismatch


def _subscript(tensor: Tensor, items: tuple[int | Slice, ...]) -> Tensor:
    index = tuple(slice(item.start, item.stop, item.step) if isinstance(item, Slice) else item for item in items)
    try:
        return tensor[index]
    except IndexError as outside:
        raise invalid_expression(
            f"index [{_written(items)}] is outside a tensor of shape {tuple(tensor.shape)}"
        ) from outside


def _written(items: tuple[int | Slice, ...]) -> str:
    return ", ".join(
        str(item)
        if isinstance(item, int)
        else ":".join("" if part is None else str(part) for part in (item.start, item.stop))
        for item in items
    )


_ELEMENTWISE: Mapping[Function, Callable[[Tensor], Tensor]] = {
    Function.SIN: torch.sin,
    Function.COS: torch.cos,
    Function.TAN: torch.tan,
    Function.EXP: torch.exp,
    Function.LOG: torch.log,
    Function.LOG1P: torch.log1p,
    Function.SQRT: torch.sqrt,
    Function.ABS: torch.abs,
    Function.TANH: torch.tanh,
    Function.SIGMOID: torch.sigmoid,
    Function.RELU: torch.relu,
    # torch switches to the straight line at the threshold; at its default, 20, that cuts off curvatures of 2e-9.
    Function.SOFTPLUS: lambda x: functional.softplus(x, threshold=50.0),
}


def _call(call: Call, arguments: list[Operand]) -> Tensor:
    try:
        return _apply(call.function, _tensors_alike(arguments), call.axis)
    except (RuntimeError, IndexError) as mismatch:
        shapes = " and ".join(str(_shape(argument)) for argument in arguments)
        axis = "" if call.axis is None else f" along axis {call.axis}"
        raise invalid_expression(
            f"{call.function}{axis} does not fit {shapes} (at character {call.position + 1})"
        ) from mismatch


def _tensors_alike(arguments: list[Operand]) -> list[Tensor]:
    """Constants take the dtype and the device of the tensors that they meet."""
    like = next(
        (argument for argument in arguments if isinstance(argument, Tensor)), torch.zeros((), dtype=torch.float64)
    )
    return [argument if isinstance(argument, Tensor) else like.new_tensor(argument) for argument in arguments]


def _apply(function: Function, arguments: list[Tensor], axis: int | None) -> Tensor:
    if function in _ELEMENTWISE:
        return _ELEMENTWISE[function](arguments[0])
    if function is Function.MAX or function is Function.MIN:
        return _extreme(function, arguments, axis)
    if function is Function.DOT:
        return _dot(*arguments)
    return _reduce(function, arguments[0], axis)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    if left.shape != right.shape:
        raise RuntimeError("shapes differ")
    return (left * right).sum()


def _reduce(function: Function, x: Tensor, axis: int | None) -> Tensor:
    flat, along = (x.reshape(-1), 0) if axis is None else (x, axis)
    match function:
        case Function.SUM:
            return flat.sum(along)
        case Function.MEAN:
            return flat.mean(along)
        case Function.PROD:
            return _product(flat, along)
        case Function.NORM:
            return flat.square().sum(along).sqrt()
        case Function.LOGSUMEXP:
            return torch.logsumexp(flat, along)
        case Function.TRANSPOSE:
            return x.permute(*reversed(range(x.dim())))
        case Function.TRACE:
            return x.diagonal().sum()
        case _:
            raise AssertionError(function)


def _extreme(function: Literal[Function.MAX, Function.MIN], arguments: list[Tensor], axis: int | None) -> Tensor:
    if len(arguments) == 1:
        flat, along = (arguments[0].reshape(-1), 0) if axis is None else (arguments[0], axis)
        return flat.amax(along) if function is Function.MAX else flat.amin(along)
    pairwise = torch.maximum if function is Function.MAX else torch.minimum
    result = arguments[0]
    for other in arguments[1:]:
        result = pairwise(result, other)
    return result


def _product(x: Tensor, axis: int) -> Tensor:
    """Product along an axis by a tree of pairs.

    The derivative of `torch.prod` branches on which entries are zero, which vmap cannot follow. Products of pairs have
    exact derivatives of every order, zeros or not, in O(n) and with a graph log₂ n deep.
    """
    x = x.movedim(axis, 0)
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        paired = x[:half] * x[half : 2 * half]
        x = torch.cat((paired, x[2 * half :])) if x.shape[0] % 2 else paired
    return x[0] if x.shape[0] else x.new_ones(x.shape[1:])
