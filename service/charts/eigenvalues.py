"""What every picture of a spectrum shares: signs at the tolerance, the zero band, the extremes, outliers."""

from __future__ import annotations

from collections.abc import Iterator

from saddlescope.contract.numerals import number
from service.charts.frames import Frame
from service.charts.scales import Scale, SymmetricLogarithmic
from service.svg import WIDTH, element, text, text_width

# Above the frame: the extremes in words, the name of the zero band, the marks of the outliers.
STRIP = 44.0


def sign(value: float, zero_tol: float) -> str:
    """The class of an eigenvalue: its sign at the tolerance."""
    if abs(value) <= zero_tol:
        return "zero"
    return "negative" if value < 0 else "positive"


def scale_in_words(scale: Scale) -> str:
    """How to read the axis where it is not linear."""
    if isinstance(scale, SymmetricLogarithmic):
        return f"Axis: logarithmic on both sides, linear within ±{number(10.0**scale.linear_power)}."
    return ""


def zero_band(frame_: Frame, zero_tol: float) -> Iterator[str]:
    """±`zero_tol` on the horizontal axis, shaded and named; at least a hairline."""
    left, right = frame_.x(-zero_tol), frame_.x(zero_tol)
    middle, width = (left + right) / 2, max(right - left, 2.0)
    tip = f"zero: |λ| ≤ τ = {number(zero_tol)}"
    height = frame_.bottom - frame_.top
    yield element("rect", x=middle - width / 2, y=frame_.top, width=width, height=height, class_="nil-band", tip=tip)
    yield text(middle, frame_.top - 5, "±τ", class_="key middle")


def extremes(drawn: Frame, lowest: float, highest: float, names: tuple[str, str] = ("λ min", "λ max")) -> Iterator[str]:
    """The smallest and the largest value in words above their places."""
    words = (f"{names[0]} {number(lowest)}", f"{names[1]} {number(highest)}")
    widths = [text_width(said) for said in words]
    room = WIDTH - 8
    left = min(max(drawn.x(lowest) - widths[0] / 2, 8), room - widths[0])
    right = min(max(drawn.x(highest) - widths[1] / 2, 8), room - widths[1])
    apart = right >= left + widths[0] + 12
    yield text(left if apart else 8, 14, words[0], class_="name")
    yield text(right if apart else room - widths[1], 14, words[1], class_="name")


def outlier(drawn: Frame, value: float, zero_tol: float) -> str:
    x, y = drawn.x(value), drawn.top - 2
    shape = f"M{x - 4:.1f} {y - 8:.1f}h8l-4 7z"
    return element("path", d=shape, class_=f"outlier {sign(value, zero_tol)}", tip=f"outlier: λ = {number(value)}")
