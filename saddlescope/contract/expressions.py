"""The grammar of `expression` losses: a closed form over tensor names, parsed here and never evaluated as code.

    expression = product (("+" | "-") product)*
    product    = signed (("*" | "/" | "@") signed)*
    signed     = ("+" | "-") signed | power
    power      = indexed ["**" signed]                         as in Python: -x**2 is -(x**2), 2**3**2 is 2**9
    indexed    = atom ("[" item ("," item)* "]")*              item: integer, or start:stop:step with constant parts
    atom       = number | name | function "(" arguments ")" | "(" expression ")"

A name is that of a tensor of the checkpoint or the data: letters, digits and underscores, with dots between parts
(`layer.0.weight`). A name that starts with a digit, as `0.weight`, cannot be written. `sum mean prod logsumexp` take an
axis as a second constant, `sum(x, 0)`, or by name, `sum(x, axis=0)`; `norm max min` by name only, since `max(x, 0)` is
elementwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from saddlescope.contract import limits
from saddlescope.contract.syntax import (
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
    names,
    operands,
    walk,
)

__all__ = [
    "Call",
    "Chain",
    "Expression",
    "ExpressionError",
    "Function",
    "Name",
    "Negate",
    "Number",
    "Operator",
    "Power",
    "Slice",
    "Subscript",
    "names",
    "operands",
    "parse",
    "walk",
]


class ExpressionError(ValueError):
    """The text is no expression of the grammar; `position` counts characters from 0."""

    def __init__(self, detail: str, position: int) -> None:
        super().__init__(f"{detail} (at character {position + 1})")
        self.detail = detail
        self.position = position


_WITH_AXIS = frozenset({Function.SUM, Function.PROD, Function.MEAN, Function.LOGSUMEXP})
_WITH_NAMED_AXIS = _WITH_AXIS | {Function.NORM, Function.MAX, Function.MIN}


def parse(source: str) -> Expression:
    """The syntax tree of `source`, at most `MAX_EXPRESSION_NESTING` operations deep. Nothing is computed.

    Raises:
        ExpressionError: says what was expected, and where.
    """
    if len(source) > limits.MAX_EXPRESSION_CHARS:
        raise ExpressionError(
            f"an expression has at most {limits.MAX_EXPRESSION_CHARS} characters", limits.MAX_EXPRESSION_CHARS
        )
    parser = _Parser(tuple(_tokens(source)))
    tree = parser.expression()
    parser.expect("", "an operator or the end of the expression")
    return tree


@dataclass(frozen=True)
class _Token:
    kind: Literal["number", "name", "operator", "end"]
    text: str
    position: int


_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)"
    r"|(?P<operator>\*\*|[-+*/@()\[\],:=])"
)
_BLANK = re.compile(r"[ \t\r\n]*")


def _tokens(source: str) -> Iterator[_Token]:
    position = 0
    while (position := _end_of_blanks(source, position)) < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            hint = "; a power is written **" if source[position] == "^" else ""
            raise ExpressionError(f"{source[position]!r} has no meaning in an expression{hint}", position)
        text = match.group()
        if match["number"] is not None:
            yield _Token("number", text, position)
        elif match["name"] is not None:
            if any(part.startswith("__") for part in text.split(".")):
                raise ExpressionError("no tensor name begins with two underscores", position)
            yield _Token("name", text, position)
        else:
            yield _Token("operator", text, position)
        position = match.end()
    yield _Token("end", "", position)


def _end_of_blanks(source: str, position: int) -> int:
    match = _BLANK.match(source, position)
    return position if match is None else match.end()


class _Parser:
    """Recursive descent, one method a rule; the nesting is counted so that it cannot exhaust the stack."""

    def __init__(self, tokens: tuple[_Token, ...]) -> None:
        self._tokens = tokens
        self._next = 0
        self._nesting = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _accept(self, *texts: str) -> str | None:
        token = self._token
        if token.kind != "operator" or token.text not in texts:
            return None
        self._next += 1
        return token.text

    def expect(self, text: str, what: str) -> None:
        """Step over the token `text` ('' is the end), or say `what` was expected."""
        token = self._token
        if token.text != text or token.kind not in ("operator", "end"):
            raise self._unexpected(what)
        self._next = min(self._next + 1, len(self._tokens) - 1)

    def _unexpected(self, what: str) -> ExpressionError:
        token = self._token
        found = "the expression ends" if token.kind == "end" else f"there is {token.text[:40]!r}"
        before = self._tokens[self._next - 1] if self._next else None
        if token.kind == "name" and before is not None and before.kind == "number":
            found += " after a number (a product is written with *, and no name starts with a digit)"
        return ExpressionError(f"expected {what}, but {found}", token.position)

    def _deeper(self) -> None:
        self._nesting += 1
        if self._nesting > limits.MAX_EXPRESSION_NESTING:
            raise ExpressionError(
                f"operations are nested deeper than {limits.MAX_EXPRESSION_NESTING} levels", self._token.position
            )

    def expression(self) -> Expression:
        first = self._product()
        rest: list[tuple[Operator, Expression]] = []
        while True:
            if self._accept("+"):
                rest.append(("+", self._product()))
            elif self._accept("-"):
                rest.append(("-", self._product()))
            else:
                return Chain(first, tuple(rest)) if rest else first

    def _product(self) -> Expression:
        first = self._signed()
        rest: list[tuple[Operator, Expression]] = []
        while True:
            if self._accept("*"):
                rest.append(("*", self._signed()))
            elif self._accept("/"):
                rest.append(("/", self._signed()))
            elif self._accept("@"):
                rest.append(("@", self._signed()))
            else:
                return Chain(first, tuple(rest)) if rest else first

    def _signed(self) -> Expression:
        # Every recursion of the grammar passes here: parentheses, arguments, signs and exponents.
        self._deeper()
        sign = self._accept("-", "+")
        if sign is None:
            tree = self._power()
        else:
            operand = self._signed()
            tree = Negate(operand) if sign == "-" else operand
        self._nesting -= 1
        return tree

    def _power(self) -> Expression:
        base = self._indexed()
        return Power(base, self._signed()) if self._accept("**") else base

    def _indexed(self) -> Expression:
        tree = self._atom()
        outer = self._nesting
        while self._accept("["):
            self._deeper()
            items = [self._item()]
            while self._accept(","):
                items.append(self._item())
            self.expect("]", "']' or ','")
            tree = Subscript(tree, tuple(items))
        self._nesting = outer
        return tree

    def _atom(self) -> Expression:
        token = self._token
        if self._accept("("):
            tree = self.expression()
            self.expect(")", "an operator or ')'")
            return tree
        if token.kind == "number":
            self._next += 1
            value = float(token.text)
            if not math.isfinite(value):
                raise ExpressionError("the number is too large for float64", token.position)
            return Number(value)
        if token.kind == "name":
            self._next += 1
            return self._call(token) if self._accept("(") else Name(token.text, token.position)
        raise self._unexpected("a number, a name, a function or '('")

    def _call(self, token: _Token) -> Expression:
        if token.text not in set(Function):
            raise ExpressionError(
                f"{token.text[:40]!r} is no function; there are: {', '.join(Function)}", token.position
            )
        function = Function(token.text)
        arguments = [self.expression()]
        axis: int | None = None
        while self._accept(","):
            if self._is_axis():
                axis = self._axis(function)
                break
            arguments.append(self.expression())
        self.expect(")", "an operator, ',' or ')'" if axis is None else "')'")
        if function in _WITH_AXIS and len(arguments) == 2 and axis is None:
            axis = _constant_axis(arguments.pop(), token)
        _check_arity(function, len(arguments), axis, token)
        return Call(function, tuple(arguments), axis, token.position)

    def _is_axis(self) -> bool:
        if self._token.text != "axis" or self._token.kind != "name":
            return False
        following = self._tokens[self._next + 1]
        return following.kind == "operator" and following.text == "="

    def _axis(self, function: Function) -> int:
        if function not in _WITH_NAMED_AXIS:
            raise ExpressionError(f"{function} takes no axis", self._token.position)
        self._next += 2
        return self._integer("the number of an axis")

    def _item(self) -> int | Slice:
        parts: list[int | None] = []
        while True:
            absent = self._token.text in (":", "]", ",") and self._token.kind == "operator"
            parts.append(None if absent else self._integer("a constant integer or a slice as 0:3"))
            if len(parts) == 3 or not self._accept(":"):
                break
        if len(parts) == 1:
            if parts[0] is None:
                raise self._unexpected("a constant integer or a slice as 0:3")
            return parts[0]
        start, stop, step = (*parts, None)[:3]
        if step is not None and step < 1:
            raise ExpressionError("the step of a slice is at least 1", self._token.position)
        return Slice(start, stop, step)

    def _integer(self, what: str) -> int:
        negative = self._accept("-") is not None
        token = self._token
        if token.kind != "number" or not token.text.isdigit() or len(token.text) > 18:
            raise self._unexpected(what)
        self._next += 1
        return -int(token.text) if negative else int(token.text)


def _constant_axis(argument: Expression, token: _Token) -> int:
    sign, number = (-1, argument.operand) if isinstance(argument, Negate) else (1, argument)
    if not isinstance(number, Number) or number.value != int(number.value) or number.value > limits.MAX_INLINE_RANK:
        raise ExpressionError(f"the second argument of {token.text} is a constant axis", token.position)
    return sign * int(number.value)


def _check_arity(function: Function, count: int, axis: int | None, token: _Token) -> None:
    if function is Function.DOT:
        if count != 2:
            raise ExpressionError("dot takes two arguments", token.position)
    elif function in (Function.MAX, Function.MIN):
        if count > 1 and axis is not None:
            raise ExpressionError(f"{function} takes an axis with one argument only", token.position)
    elif count != 1:
        raise ExpressionError(f"{function} takes one argument", token.position)
