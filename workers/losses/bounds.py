"""A sound lower bound of an expression, by interval arithmetic over its syntax tree."""

from __future__ import annotations

import math
from dataclasses import dataclass

from saddlescope.contract.expressions import Call, Chain, Expression, Function, Name, Negate, Number, Power, Subscript


@dataclass(frozen=True)
class Interval:
    """Every entry of a value lies in [low, high]."""

    low: float
    high: float


_REAL = Interval(-math.inf, math.inf)
_NON_NEGATIVE = Interval(0.0, math.inf)

_RANGES = {
    Function.SIN: Interval(-1.0, 1.0),
    Function.COS: Interval(-1.0, 1.0),
    Function.TANH: Interval(-1.0, 1.0),
    Function.SIGMOID: Interval(0.0, 1.0),
    Function.EXP: _NON_NEGATIVE,
    Function.SQRT: _NON_NEGATIVE,
    Function.ABS: _NON_NEGATIVE,
    Function.RELU: _NON_NEGATIVE,
    Function.SOFTPLUS: _NON_NEGATIVE,
    Function.NORM: _NON_NEGATIVE,
}


def lower_bound(tree: Expression) -> float | None:
    """A number that the expression never falls below for any real tensors, or None when the rules find none.

    Each name is taken to be any real number at each of its uses, except that equal factors make a square.
    """
    low = bounds(tree).low
    return low if math.isfinite(low) else None


def bounds(tree: Expression) -> Interval:
    """An interval that holds every entry of the value."""
    match tree:
        case Number(value):
            return Interval(value, value)
        case Name():
            return _REAL
        case Negate(operand):
            return _negated(bounds(operand))
        case Subscript(operand, _):
            return bounds(operand)
        case Power(base, exponent):
            return _power(bounds(base), exponent)
        case Chain(first, rest) if rest[0][0] in ("+", "-"):
            total = bounds(first)
            for operator, operand in rest:
                term = bounds(operand)
                total = _added(total, term if operator == "+" else _negated(term))
            return total
        case Chain():
            return _chained_product(tree)
        case Call():
            return _called(tree)


def _negated(x: Interval) -> Interval:
    return Interval(-x.high, -x.low)


def _added(x: Interval, y: Interval) -> Interval:
    low, high = x.low + y.low, x.high + y.high
    return Interval(-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)


def _multiplied(x: Interval, y: Interval) -> Interval:
    # 0·∞ is 0 here: the end of an interval is never reached when it is infinite.
    products = [a * b if a and b else 0.0 for a in (x.low, x.high) for b in (y.low, y.high)]
    return Interval(min(products), max(products))


def _chained_product(chain: Chain) -> Interval:
    """Product of factors, equal neighbours counted as a square; the sum inside @ keeps only the sign."""
    result, previous = bounds(chain.first), chain.first
    is_single = True
    for operator, operand in chain.rest:
        factor = bounds(operand)
        if operator == "*":
            is_square = is_single and operand == previous
            result = _even(result, 2.0) if is_square else _multiplied(result, factor)
        elif operator == "/":
            positive = factor.low >= 0 and result.low >= 0
            is_constant = factor.low == factor.high and factor.low != 0
            if is_constant:
                result = _multiplied(result, Interval(1 / factor.low, 1 / factor.low))
            else:
                result = _NON_NEGATIVE if positive else _REAL
        else:
            result = _NON_NEGATIVE if factor.low >= 0 and result.low >= 0 else _REAL
        is_single = False
    return result


def _even(x: Interval, exponent: float) -> Interval:
    smallest = 0.0 if x.low <= 0 <= x.high else min(abs(x.low), abs(x.high))
    return Interval(_to_power(smallest, exponent), _to_power(max(abs(x.low), abs(x.high)), exponent))


def _to_power(x: float, exponent: float) -> float:
    try:
        return math.pow(x, exponent)
    except OverflowError:
        return math.inf


def _power(base: Interval, exponent: Expression) -> Interval:
    if isinstance(exponent, Number) and exponent.value > 0 and exponent.value % 2 == 0:
        return _even(base, exponent.value)
    even = isinstance(exponent, Negate) and isinstance(exponent.operand, Number) and exponent.operand.value % 2 == 0
    even = even or (isinstance(exponent, Number) and exponent.value % 2 == 0)
    return _NON_NEGATIVE if even or base.low >= 0 else _REAL


def _called(call: Call) -> Interval:
    arguments = [bounds(argument) for argument in call.arguments]
    x = arguments[0]
    if call.function in _RANGES:
        return _RANGES[call.function]
    match call.function:
        case Function.MEAN | Function.TRANSPOSE:
            return x
        case Function.MAX:
            return Interval(max(each.low for each in arguments), max(each.high for each in arguments))
        case Function.MIN:
            return Interval(min(each.low for each in arguments), min(each.high for each in arguments))
        case Function.LOGSUMEXP:
            return Interval(x.low, math.inf)
        case Function.DOT:
            is_square = call.arguments[0] == call.arguments[1]
            return _NON_NEGATIVE if is_square or (x.low >= 0 and arguments[1].low >= 0) else _REAL
        case Function.SUM | Function.PROD | Function.TRACE:
            return _NON_NEGATIVE if x.low >= 0 else _REAL
        case Function.LOG | Function.LOG1P:
            return _NON_NEGATIVE if x.low >= (1 if call.function is Function.LOG else 0) else _REAL
        case _:
            return _REAL
