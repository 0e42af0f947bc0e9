"""Pictures stay well formed and true at the edges of what a report may hold."""

from __future__ import annotations

import math
import random
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.contract.reports import Density, Landscape, RitzPair, Spectrum
from service.charts import history_chart, landscape_chart, spectrum_chart
from service.svg import Picture, horizontal, round_ticks, standalone

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)


def nodes(picture: Picture, name: str, class_: str) -> list[ElementTree.Element]:
    tree = ElementTree.fromstring(standalone(picture))
    return [
        node
        for node in tree.iter(f"{{http://www.w3.org/2000/svg}}{name}")
        if class_ in (node.get("class") or "").split()
    ]


def spectrum(values: list[float], zero_tol: float = 0.0) -> Spectrum:
    return Spectrum(
        exact=True, num_parameters=len(values), zero_tol=zero_tol, spectral_scale=1.0, eigenvalues=tuple(values)
    )


def test_few_eigenvalues_are_bars_of_their_sign_and_height() -> None:
    picture = spectrum_chart(spectrum([-2.0, 0.0, 1.0], zero_tol=0.5))
    (negative,), (positive,) = nodes(picture, "rect", "negative"), nodes(picture, "rect", "positive")
    assert len(nodes(picture, "circle", "zero")) == 1
    heights = [float(bar.get("height") or 0) for bar in (negative, positive)]
    assert heights[0] / heights[1] == pytest.approx(2, rel=1e-2)
    # Negative hangs below the axis on which positive stands.
    below = float(negative.get("y") or 0)
    above = float(positive.get("y") or 0) + heights[1]
    assert below == pytest.approx(above, abs=0.05)


def test_one_negative_eigenvalue_among_thousands_is_seen() -> None:
    generator = random.Random(0)
    values = sorted([-0.5, *(generator.uniform(0.1, 4) for _ in range(3000))])
    (bar,) = nodes(spectrum_chart(spectrum(values)), "rect", "negative")
    assert float(bar.get("height") or 0) > 5
    assert len(standalone(spectrum_chart(spectrum(values)))) < 30_000


@given(st.lists(FINITE, min_size=1, max_size=90))
def test_any_finite_spectrum_can_be_drawn(values: list[float]) -> None:
    text = standalone(spectrum_chart(spectrum(sorted(values))))
    ElementTree.fromstring(text)
    assert "nan" not in text
    assert "inf" not in text


def test_ritz_values_are_as_wide_as_their_residuals() -> None:
    density = Density(grid=(-1.0, 0.0, 3.0), density=(0.1, 1.0, 0.1), cumulative_low=(0,) * 3, cumulative_high=(1,) * 3)
    pairs = (RitzPair(value=-1.0, residual_norm=0.5), RitzPair(value=2.0, residual_norm=0.25))
    picture = spectrum_chart(
        Spectrum(
            exact=False,
            num_parameters=10,
            zero_tol=0,
            spectral_scale=1,
            eigenvalues=None,
            ritz=pairs,
            density=density,
        )
    )
    widths = [float(node.get("width") or 0) for node in nodes(picture, "rect", "ritz")]
    assert widths[0] / widths[1] == pytest.approx(2, rel=1e-2)
    empty = Spectrum(exact=False, num_parameters=1, zero_tol=0, spectral_scale=1, eigenvalues=None)
    ElementTree.fromstring(standalone(spectrum_chart(empty)))


def test_the_landscape_is_darkest_where_the_loss_is_lowest() -> None:
    axis = tuple(index / 10 for index in range(-10, 11))
    loss = tuple(tuple(None if x == y == 1.0 else x * x + y * y for x in axis) for y in axis)
    landscape = Landscape(x_label="<a>", y_label="&", x=axis, y=axis, loss=loss, quadratic=((0.0,) * 21,) * 21)
    picture = landscape_chart(landscape)
    darkest, lightest = nodes(picture, "rect", "band-0"), nodes(picture, "rect", "band-13")
    assert darkest
    assert lightest
    (here,) = nodes(picture, "circle", "here")

    def distance(node: ElementTree.Element) -> float:
        left, top = (float(node.get(name) or 0) for name in "xy")
        middle = left + float(node.get("width") or 0) / 2, top + float(node.get("height") or 0) / 2
        return math.dist(middle, (float(here.get("cx") or 0), float(here.get("cy") or 0)))

    assert max(map(distance, darkest)) < min(map(distance, lightest))
    assert len(nodes(picture, "rect", "unknown")) == 1


@given(FINITE, FINITE)
def test_ticks_are_few_and_inside(first: float, second: float) -> None:
    scale = horizontal([first, second])
    ticks = round_ticks(scale.low, scale.high)
    assert len(ticks) <= 30
    assert all(math.isfinite(scale(tick)) for tick in ticks)


def test_a_history_needs_two_points() -> None:
    assert history_chart([1.0], [1.0], name="loss") is None
    picture = history_chart([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], name="loss")
    assert picture is not None
    heights = [float(node.get("cy") or 0) for node in nodes(picture, "circle", "dot")]
    assert heights == sorted(heights)
