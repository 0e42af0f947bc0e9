"""The grammar of expressions: precedence as in Python, and nothing beyond the contract."""

import ast
import random

import pytest

from saddlescope.contract import limits
from saddlescope.contract.expressions import (
    Call,
    Chain,
    Expression,
    ExpressionError,
    Name,
    Negate,
    Number,
    Power,
    names,
    parse,
)


def value(tree: Expression) -> float:
    """The number that a tree of plain numbers stands for."""
    match tree:
        case Number(number):
            return number
        case Negate(operand):
            return -value(operand)
        case Power(base, exponent):
            return float(value(base) ** value(exponent))
        case Chain(first, rest):
            result = value(first)
            for operator, operand in rest:
                each = value(operand)
                result = {"+": result + each, "-": result - each, "*": result * each, "/": result / (each or 1)}[
                    operator
                ]
            return result
        case _:
            raise AssertionError(tree)


def test_numbers_and_operators_mean_what_they_mean_in_python() -> None:
    chance = random.Random(5)

    def written(depth: int) -> str:
        if depth == 0 or chance.random() < 0.2:
            return chance.choice(["1", "2", "3.5", "0.5", "1e-1", "2.", ".25"])
        left, right = written(depth - 1), written(depth - 1)
        return chance.choice(
            [
                f"{left}+{right}",
                f"{left} - {right}",
                f"{left}*{right}",
                f"{left} / {right}",
                f"-{left}",
                f"({left})",
                f"+{left}",
                f"2**-{chance.choice('123')}",
                f"-3**2*{left}",
                f"2**3**{chance.choice('012')}",
            ]
        )

    for _ in range(500):
        source = written(5)
        assert value(parse(source)) == pytest.approx(
            float(eval(compile(ast.parse(source, mode="eval"), "", "eval"), {}))
        ), source


def test_names_are_found_once_with_their_first_place() -> None:
    assert names(parse("a.0.weight*b + sum(b[0:2]) - a.0.weight")) == {"a.0.weight": 0, "b": 11}


def test_equal_text_gives_equal_trees_wherever_it_stands() -> None:
    chain = parse("sin(w) * sin(w)")
    assert isinstance(chain, Chain)
    assert chain.first == chain.rest[0][1] == Call(parse("sin(w)").function, (Name("w"),))  # type: ignore[union-attr]


def test_a_long_sum_is_not_deep() -> None:
    source = "+".join(["w"] * 4_000)
    assert len(names(parse(source))) == 1
    assert len(parse(source).rest) == 3_999  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("source", "detail", "position"),
    [
        ("", "expected a number, a name, a function or '('", 0),
        ("w +", "the expression ends", 3),
        ("w1 w2", "expected an operator or the end", 3),
        ("0.weight", "no name starts with a digit", 2),
        ("w^2", "a power is written **", 1),
        ("__import__('os')", "two underscores", 0),
        ("w.__class__", "two underscores", 0),
        ("lambda: 0", "expected an operator", 6),
        ("f(w)", "'f' is no function; there are: sin", 0),
        ("sum()", "expected a number", 4),
        ("sum(w, v)", "constant axis", 0),
        ("norm(w, 2)", "norm takes one argument", 0),
        ("dot(w)", "dot takes two arguments", 0),
        ("exp(w, axis=0)", "exp takes no axis", 7),
        ("max(w, v, axis=0)", "one argument only", 0),
        ("w[v]", "constant integer", 2),
        ("w[0.5]", "constant integer", 2),
        ("w[]", "constant integer", 2),
        ("w[0:1:0]", "at least 1", 7),
        ("w[1", "expected ']' or ','", 3),
        ("(w", "expected an operator or ')'", 2),
        ("w = 1", "expected an operator", 2),
        ("1e999*w", "too large", 0),
        ("'w'", "has no meaning", 0),
        ("w\0", "has no meaning", 1),
        ("ẃ", "has no meaning", 0),
        ("(" * 500, "nested deeper", 64),
        ("-" * 5_000 + "w", "nested deeper", 64),
        ("2**" * 3_000 + "w", "nested deeper", 192),
        ("w" + "[0]" * 3_000, "nested deeper", 191),
        ("exp(" * 100 + "w" + ")" * 100, "nested deeper", 256),
        ("w" * 10_001, "at most 10000 characters", 10_000),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(source: str, detail: str, position: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(source)
    assert detail in str(caught.value)
    assert caught.value.position == position


def test_any_text_is_parsed_or_refused() -> None:
    chance = random.Random(7)
    pieces = [
        "w",
        "1",
        "+",
        "-",
        "*",
        "**",
        "(",
        ")",
        "[",
        "]",
        ",",
        ":",
        "sum(",
        "max(",
        "axis",
        "=",
        "@",
        "/",
        " ",
        ".",
        "0.5",
        "__",
        "é",
    ]
    parsed, places = 0, []
    for _ in range(20_000):
        source = "".join(chance.choices(pieces, k=chance.randrange(1, 12)))
        try:
            parse(source)
            parsed += 1
        except ExpressionError as wrong:
            places.append(wrong.position / max(len(source), 1))
    assert parsed > 300
    assert 0 <= min(places) <= max(places) <= 1


def test_constants_are_not_computed() -> None:
    assert parse("9**9**9**9") == Power(Number(9.0), Power(Number(9.0), Power(Number(9.0), Number(9.0))))
    assert limits.MAX_EXPRESSION_NESTING == 64
