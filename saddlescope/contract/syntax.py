"""Syntax trees of `expression` losses: what `expressions.parse` gives and the workers evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Function(StrEnum):
    """The functions that an expression may call."""

    SIN = "sin"
    COS = "cos"
    TAN = "tan"
    EXP = "exp"
    LOG = "log"
    LOG1P = "log1p"
    SQRT = "sqrt"
    ABS = "abs"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    RELU = "relu"
    SOFTPLUS = "softplus"
    SUM = "sum"
    PROD = "prod"
    MEAN = "mean"
    DOT = "dot"
    NORM = "norm"
    MAX = "max"
    MIN = "min"
    TRANSPOSE = "transpose"
    TRACE = "trace"
    LOGSUMEXP = "logsumexp"


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Name:
    name: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Negate:
    operand: Expression


@dataclass(frozen=True)
class Chain:
    """Operators of one precedence applied from left to right; flat, so that a long sum is not a deep tree."""

    first: Expression
    rest: tuple[tuple[Operator, Expression], ...]


@dataclass(frozen=True)
class Power:
    base: Expression
    exponent: Expression


@dataclass(frozen=True)
class Slice:
    start: int | None
    stop: int | None
    step: int | None


@dataclass(frozen=True)
class Subscript:
    operand: Expression
    items: tuple[int | Slice, ...]


@dataclass(frozen=True)
class Call:
    function: Function
    arguments: tuple[Expression, ...]
    axis: int | None = None
    position: int = field(default=0, compare=False)


Operator = Literal["+", "-", "*", "/", "@"]
Expression = Number | Name | Negate | Chain | Power | Subscript | Call


def names(tree: Expression) -> dict[str, int]:
    """The tensor names that an expression uses, each with the position of its first use."""
    found: dict[str, int] = {}
    for node in walk(tree):
        if isinstance(node, Name):
            found[node.name] = min(node.position, found.get(node.name, node.position))
    return found


def walk(tree: Expression) -> Iterator[Expression]:
    """Every node of the tree, parents first."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(operands(node))


def operands(node: Expression) -> tuple[Expression, ...]:
    """The direct operands of a node, in the order of the text."""
    match node:
        case Number() | Name():
            return ()
        case Negate() | Subscript():
            return (node.operand,)
        case Chain():
            return (node.first, *(operand for _, operand in node.rest))
        case Power():
            return (node.base, node.exponent)
        case Call():
            return node.arguments
