"""A number for people is short, has a true minus sign, and is the number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.contract.numerals import number


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(2, 9))
def test_a_number_is_read_back_to_its_digits_and_has_no_hyphen(value: float, digits: int) -> None:
    written = number(value, digits)
    assert "-" not in written
    assert math.isclose(float(written.replace("−", "-")), float(f"{value:.{digits}g}"), rel_tol=1e-15, abs_tol=0.0)


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [(-2.0, 4, "−2"), (-0.0, 4, "0"), (12345.0, 4, "12340"), (1e-12, 3, "1e−12"), (1e7, 4, "1e+07"), (7, 4, "7"),
     (math.inf, 4, "∞"), (-math.inf, 4, "−∞")],
)  # fmt: skip
def test_it_is_short(value: float, digits: int, written: str) -> None:
    assert number(value, digits) == written
