"""Scales are monotone for any finite value; ticks lie inside, are round, and their labels say their values."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from drawings import assert_legible
from hypothesis import assume, given
from hypothesis import strategies as st

from service.charts.frames import frame
from service.charts.scales import (
    Logarithmic,
    Scale,
    SymmetricLogarithmic,
    Ticks,
    Unlabelled,
    for_positive,
    for_signed,
    linear,
)
from service.svg import Picture

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)
DRAWABLE = st.floats(-1e300, 1e300, allow_nan=False)
POSITIVE = st.floats(1e-300, 1e300)
RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def said(label: str, ticks: Ticks) -> Decimal:
    """The value that a label stands for, read as a person reads it."""
    plain = label.replace("−", "-").replace(",", "")
    if "10" in plain and any(letter in "⁻⁰¹²³⁴⁵⁶⁷⁸⁹" for letter in plain):
        sign, _, power = plain.partition("10")
        return Decimal(f"{sign}1").scaleb(int(power.translate(RAISED)))
    offset = Decimal(ticks.minus.replace("−", "-")) if ticks.minus else Decimal(0)
    return offset + Decimal(plain).scaleb(ticks.power)


def assert_true_ticks(scale: Scale, most: int) -> None:
    ticks = scale.ticks(most)
    assert len(ticks.labels) == len(ticks.values) == len(set(ticks.labels))
    for value, label in zip(ticks.values, ticks.labels, strict=True):
        assert -1e-6 <= scale.share(value) <= 1 + 1e-6
        assert float(said(label, ticks)) == pytest.approx(value, rel=1e-12, abs=0)


@given(st.lists(FINITE, min_size=1, max_size=6), st.integers(1, 9))
def test_a_linear_scale_holds_its_values_and_says_its_ticks(values: list[float], most: int) -> None:
    scale = linear(values)
    assert_true_ticks(scale, most)
    drawable = [value for value in values if abs(value) <= 1e300]
    assert all(0 <= scale.share(value) <= 1 for value in drawable)
    shares = [scale.share(value) for value in sorted(values)]
    assert shares == sorted(shares)
    assert len(scale.ticks(most).values) <= 2 * most + 2


@given(st.lists(POSITIVE, min_size=1, max_size=6), st.integers(2, 9))
def test_a_positive_scale_holds_its_values_and_says_its_ticks(values: list[float], most: int) -> None:
    scale = for_positive(values)
    assert_true_ticks(scale, most)
    assert all(-1e-9 <= scale.share(value) <= 1 + 1e-9 for value in values)
    shares = [scale.share(value) for value in sorted(values)]
    assert shares == sorted(shares)


@given(st.lists(DRAWABLE, min_size=1, max_size=9), st.floats(0, 1e10), st.integers(2, 9))
def test_a_signed_scale_holds_zero_and_orders_both_sides(values: list[float], zero_tol: float, most: int) -> None:
    scale = for_signed(values, zero_tol=zero_tol)
    assert_true_ticks(scale, most)
    everything = sorted([*values, 0.0])
    shares = [scale.share(value) for value in everything]
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in shares)
    assert shares == sorted(shares)


def test_values_that_span_decades_are_spread_and_others_are_not() -> None:
    assert isinstance(for_signed([-3.0, 1e-4, 50.0]), SymmetricLogarithmic)
    assert not isinstance(for_signed([-2.0, 2.0]), SymmetricLogarithmic)
    assert isinstance(for_positive([1e-6, 2.3]), Logarithmic)
    # What is zero at the tolerance spans nothing.
    assert not isinstance(for_signed([-2.0, 1e-14, 2.0], zero_tol=1e-12), SymmetricLogarithmic)


@given(st.floats(1e-200, 1e200), st.floats(1e-200, 1e200))
def test_a_decade_is_as_wide_as_any_other(first: float, second: float) -> None:
    scale = SymmetricLogarithmic(-201, -402.0, 402.0)
    widths = [scale.share(10 * value) - scale.share(value) for value in (first, second, -first)]
    assert widths[0] == pytest.approx(widths[1], rel=1e-6)
    assert widths[0] == pytest.approx(-widths[2], rel=1e-6)


def test_equal_digits_are_said_once() -> None:
    ticks = linear([2.30258509, 2.30258511]).ticks(4)
    assert ticks.minus.startswith("2.30258")
    assert ticks.named("loss").startswith("loss − 2.30258")
    assert "×10" in ticks.named("loss")
    assert linear([-5.00000001, -5.0]).ticks(4).named("loss").startswith("loss + 5")


def test_steps_of_a_training_are_whole() -> None:
    ticks = linear([3, 4], is_whole=True).ticks(8)
    assert all(value.is_integer() for value in ticks.values)
    assert linear([0, 2_000_000], is_whole=True).ticks(4).named("step") == "step (×10⁶)"
    assert "20,000" in linear([0, 40_000], is_whole=True).ticks(4).labels


@given(st.lists(FINITE, min_size=1, max_size=5), st.lists(FINITE, min_size=1, max_size=5))
def test_the_words_of_a_frame_never_touch_and_are_never_cut(across: list[float], upward: list[float]) -> None:
    assume(all(map(math.isfinite, across)))
    for x, y in ((linear(across), for_signed(upward)), (for_signed(across), linear(upward))):
        drawn = frame(x, y, names=("training step of the run", "gradient norm"))
        assert_legible(Picture("A frame", drawn.elements, height=310))


@given(st.lists(POSITIVE, min_size=1, max_size=5))
def test_the_words_of_a_logarithmic_frame_never_touch(values: list[float]) -> None:
    drawn = frame(for_positive(values), Unlabelled(), names=("loss", ""))
    assert_legible(Picture("A frame", drawn.elements, height=310))
