"""Pictures of one report are true to its numbers and stay whole at the edges of what it may hold."""

from __future__ import annotations

import itertools
import math
import random
import re
from importlib.resources import files

import pytest
from drawings import assert_legible, nodes, number_of, parsed, points, starts, words_of
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.contract.reports import Curve, Density, Escape, RitzPair, Spectrum
from service.charts import escape_chart, overlay_chart, shares_chart, spectrum_chart
from service.svg import Picture, clipped, element, path_data, standalone, text_width, wrapped

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)
HOSTILE = "<script>alert(1)</script>\"&'" * 12


def spectrum(values: list[float], zero_tol: float = 0.0) -> Spectrum:
    return Spectrum(
        exact=True, num_parameters=len(values), zero_tol=zero_tol, spectral_scale=1.0, eigenvalues=tuple(values)
    )


def estimated(pairs: tuple[RitzPair, ...], density: Density | None) -> Spectrum:
    return Spectrum(
        exact=False, num_parameters=10, zero_tol=0.1, spectral_scale=1, eigenvalues=None, ritz=pairs, density=density
    )


DENSITY = Density(
    grid=(-1.0, 0.0, 1.0, 3.0),
    density=(0.1, 1.0, 0.0, 1e-12),
    cumulative_low=(0, 0.2, 0.5, 0.9),
    cumulative_high=(0.1, 0.4, 0.8, 1),
)


def escape(curve: Curve, step: float = 1.0, after: float = 0.25) -> Escape:
    return Escape(
        index=0, curvature=-2.0, residual_norm=0.0, slope=0.0, step=step, loss_before=1.0, loss_after=after,
        predicted_decrease=1.0, decrease=1 - after, verified=True, curve=curve,
    )  # fmt: skip


def assert_sound(picture: Picture) -> None:
    text = standalone(picture)
    parsed(picture)
    assert "nan" not in text
    assert "inf" not in text
    assert_legible(picture)


def test_few_eigenvalues_are_bars_of_their_sign_and_height() -> None:
    picture = spectrum_chart(spectrum([-2.0, 0.0, 1.0], zero_tol=0.5))
    (negative,), (positive,) = nodes(picture, "rect", "negative"), nodes(picture, "rect", "positive")
    assert len(nodes(picture, "circle", "zero")) == 1
    heights = [number_of(bar, "height") for bar in (negative, positive)]
    assert heights[0] / heights[1] == pytest.approx(2, rel=1e-2)
    # Negative hangs below the axis on which positive stands.
    assert number_of(negative, "y") == pytest.approx(number_of(positive, "y") + heights[1], abs=0.05)
    band = nodes(picture, "rect", "nil-band")[0]
    assert number_of(band, "height") == pytest.approx(heights[1], rel=1e-2)
    assert "1 negative, 1 within ±τ, 1 positive" in picture.description


def test_bars_are_in_proportion_to_decades_where_values_span_them() -> None:
    picture = spectrum_chart(spectrum([-1e-3, 1e-3, 1.0, 1e3]))
    heights = [number_of(bar, "height") for bar in nodes(picture, "rect", "positive")]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], rel=1e-2)
    assert "logarithmic on both sides" in picture.caption


def test_one_negative_eigenvalue_among_thousands_is_seen() -> None:
    generator = random.Random(0)
    values = sorted([-0.5, *(generator.uniform(0.1, 4) for _ in range(3000))])
    picture = spectrum_chart(spectrum(values))
    (bar,) = nodes(picture, "rect", "negative")
    assert number_of(bar, "height") > 5
    assert len(standalone(picture)) < 30_000


@given(st.lists(st.floats(-10, 10), min_size=65, max_size=200), st.floats(0, 3))
def test_a_histogram_counts_every_eigenvalue_at_its_sign(values: list[float], zero_tol: float) -> None:
    picture = spectrum_chart(spectrum(sorted(values), zero_tol))
    for kind, expected in {
        "negative": sum(value < -zero_tol for value in values),
        "zero": sum(abs(value) <= zero_tol for value in values),
        "positive": sum(value > zero_tol for value in values),
    }.items():
        bars = nodes(picture, "rect", kind)
        counted = sum(int((bar[0].text or "").split()[0].replace(",", "")) for bar in bars)
        assert counted == expected


def test_outliers_are_marked_at_their_values() -> None:
    generator = random.Random(1)
    values = sorted([*(generator.gauss(0.1, 0.02) for _ in range(300)), 5.0, 9.0])
    picture = spectrum_chart(spectrum(values))
    marks = starts(picture, "outlier")
    assert len(marks) == 2
    assert "Outliers" in picture.caption
    assert marks[0][0] < marks[1][0]
    assert any("λ max 9" in words.content for words in words_of(picture))


@given(st.lists(FINITE, min_size=1, max_size=90), st.floats(0, 1e3))
def test_any_finite_spectrum_can_be_drawn(values: list[float], zero_tol: float) -> None:
    assert_sound(spectrum_chart(spectrum(sorted(values), zero_tol)))


@pytest.mark.parametrize(
    "values", [[0.0], [1e300], [-1e-300], [3.0, 3.0], [0.0] * 70, [2.5] * 70, [-1e300, 1e-300, 1e300]]
)
def test_single_equal_and_extreme_spectra_are_legible(values: list[float]) -> None:
    assert_sound(spectrum_chart(spectrum(values)))


def test_ritz_values_are_as_wide_as_their_residuals() -> None:
    pairs = (RitzPair(value=-1.0, residual_norm=0.5), RitzPair(value=2.0, residual_norm=0.25))
    picture = spectrum_chart(estimated(pairs, DENSITY))
    widths = [number_of(node, "width") for node in nodes(picture, "rect", "ritz")]
    assert widths[0] / widths[1] == pytest.approx(2, rel=1e-2)
    for shown in (picture, spectrum_chart(estimated(pairs, None)), spectrum_chart(estimated((), None))):
        assert_sound(shown)


def test_a_ritz_value_whose_residual_leaves_its_sign_open_is_hollow() -> None:
    pairs = (RitzPair(value=-1.0, residual_norm=0.5), RitzPair(value=-1.0, residual_norm=1.2))
    picture = spectrum_chart(estimated(pairs, None))
    assert len(nodes(picture, "rect", "negative")) == 1
    assert len(nodes(picture, "rect", "zero")) == 1


def test_the_bracket_of_the_mass_is_drawn_where_its_bounds_are() -> None:
    picture = spectrum_chart(estimated((), DENSITY))
    corners = points(nodes(picture, "path", "bracket")[0])
    heights = [y for _, y in corners]
    low, high = heights[:4], heights[4:][::-1]
    unit = (low[0] - low[3]) / 0.9
    for drawn, shares in ((low, DENSITY.cumulative_low), (high, DENSITY.cumulative_high)):
        assert [(low[0] - y) / unit for y in drawn] == pytest.approx(list(shares), abs=0.01)


def test_an_escape_is_drawn_where_it_was_measured() -> None:
    curve = Curve(step=(-1.0, 0.0, 0.5, 1.0), loss=(2.25, 1.0, 0.6, 0.25), quadratic=(0.0, 1.0, 0.75, 0.0))
    picture = escape_chart(escape(curve))
    assert picture is not None
    assert_sound(picture)
    dots = [(number_of(dot, "cx"), number_of(dot, "cy")) for dot in nodes(picture, "circle", "dot")]
    drawn = [points(line) for line in nodes(picture, "path", "loss") if len(points(line)) == len(dots)]
    assert [axis for at in drawn[0] for axis in at] == pytest.approx([axis for at in dots for axis in at], abs=0.06)
    per_step, per_loss = (dots[3][0] - dots[0][0]) / 2, (dots[0][1] - dots[3][1]) / 2
    for at, step, loss in zip(dots, curve.step, curve.loss, strict=True):
        assert (at[0] - dots[1][0]) / per_step == pytest.approx(step, abs=0.01)
        assert (at[1] - dots[1][1]) / per_loss == pytest.approx(loss - 1.0, abs=0.01)
    assert "loss from 1 to 0.25" in picture.description


def test_an_escape_without_a_curve_is_not_drawn() -> None:
    assert escape_chart(escape(Curve())) is None
    assert escape_chart(escape(Curve(step=(0.0,), loss=(1.0,), quadratic=(1.0,)))) is None


@given(st.lists(st.tuples(FINITE, FINITE, FINITE), min_size=2, max_size=12), FINITE, FINITE)
def test_any_finite_escape_can_be_drawn(samples: list[tuple[float, float, float]], step: float, after: float) -> None:
    steps, losses, models = zip(*samples, strict=True)
    picture = escape_chart(escape(Curve(step=steps, loss=losses, quadratic=models), step, min(after, 1e308)))
    assert picture is None or parsed(picture) is not None


def test_shares_are_in_proportion_and_the_rest_is_together() -> None:
    shares = [(f"layer{index}.weight", 1 / 2 ** (index + 1)) for index in range(40)]
    picture = shares_chart(shares)
    assert picture is not None
    assert_sound(picture)
    bars = [number_of(bar, "width") for bar in nodes(picture, "rect", "share")]
    assert len(bars) == 12
    assert bars[0] / bars[1] == pytest.approx(2, rel=1e-2)
    written = [words.content for words in words_of(picture)]
    assert "29 other tensors" in written
    assert "50.0 %" in written
    alike = [(f"transformer.blocks.{index}.attention.query_key_value.projection.weight", 0.1) for index in range(10)]
    picture = shares_chart(alike)
    assert picture is not None
    assert len({words.content for words in words_of(picture) if "…" in words.content}) == 10
    assert shares_chart([]) is None
    assert shares_chart([("a", math.nan)]) is None


def test_compared_spectra_differ_without_colour() -> None:
    spectra = [(f"run {index}", spectrum([index - 4.0, index + 0.5, index + 1.0])) for index in range(8)]
    picture = overlay_chart(spectra)
    assert picture is not None
    assert_legible(picture)
    strokes = {" ".join(sorted((line.get("class") or "").split()[2:])) for line in nodes(picture, "path", "line")}
    assert len(strokes) == 8
    assert [text.text for text in nodes(picture, "text", "badge-text")] == [str(number) for number in range(1, 9)]
    assert overlay_chart([]) is None


def test_a_staircase_rises_by_one_share_at_each_eigenvalue() -> None:
    picture = overlay_chart([("one", spectrum([-1.0, 0.0, 1.0, 3.0]))])
    assert picture is not None
    corners = points(next(line for line in nodes(picture, "path", "line") if len(points(line)) > 4))
    rises = [(x, y - after) for (x, y), (same, after) in itertools.pairwise(corners) if x == same and y != after]
    assert len(rises) == 4
    assert [rise for _, rise in rises] == pytest.approx([rises[0][1]] * 4, abs=0.2)
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(rises)]
    assert gaps[2] / gaps[0] == pytest.approx(2, rel=1e-2)


def test_a_large_spectrum_is_a_small_line() -> None:
    generator = random.Random(2)
    values = sorted(generator.gauss(0, 1) for _ in range(20_000))
    picture = overlay_chart([("a", spectrum(values)), ("b", estimated((), DENSITY))])
    assert picture is not None
    assert len(standalone(picture)) < 40_000


def test_hostile_names_are_words() -> None:
    curve = Curve(step=(0.0, 1.0), loss=(1.0, 0.0), quadratic=(1.0, 0.0))
    for picture in (
        shares_chart([(HOSTILE, 0.5), ("b", 0.5)]),
        overlay_chart([(HOSTILE, spectrum([1.0]))]),
        escape_chart(escape(curve)),
        Picture(
            HOSTILE,
            (element("text", x=1, y=20, content=HOSTILE[:9], tip=HOSTILE),),
            height=40,
            caption=HOSTILE,
            description=HOSTILE,
        ),
    ):
        assert picture is not None
        names = {node.tag.rpartition("}")[2] for node in parsed(picture).iter()}
        assert "script" not in names
        assert "<script" not in standalone(picture).partition("</style>")[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_what_is_drawn_stands_out_from_its_paper_in_both_themes(theme: int) -> None:
    style = files("service").joinpath("static/chart.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6}|#fff)\b", part)) for part in style.split("@media")[:2])
    colours = (light, dark)[theme]
    for name in ("neg", "pos", "nil", "good", "max", "flat"):
        assert contrast(colours[name], colours["paper"]) >= 3, name
    for name in ("ink", "faint"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    # Bands are ordered by lightness, and the words and lines on them stand out from each.
    shades = [luminance(colours[f"b{band}"]) for band in range(10)]
    assert shades == sorted(shades)
    assert all(contrast(colours["ink"], colours[f"b{band}"]) >= 3 for band in range(10))


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_picture_by_itself_brings_its_title_its_paper_and_its_style() -> None:
    picture = spectrum_chart(spectrum([1.0]))
    tree = parsed(picture)
    (paper,) = nodes(picture, "rect", "paper")
    left, top, width, height = (float(value) for value in (tree.get("viewBox") or "").split())
    assert [number_of(paper, name) for name in ("x", "y", "width", "height")] == [left, top, width, height]
    assert [node.text for node in nodes(picture, "text", "heading")] == [picture.title]
    assert "<style>" not in picture.render()


def test_words_are_cut_in_the_middle_and_wrapped_at_spaces() -> None:
    name = "encoder.layers.11.attention.weight" * 4
    short = clipped(name, 200)
    assert text_width(short) <= 200
    assert name.startswith(short.partition("…")[0])
    assert name.endswith(short.partition("…")[2])
    lines = wrapped("one two three four five six seven eight nine ten", 100)
    assert " ".join(lines) == "one two three four five six seven eight nine ten"
    assert all(text_width(line) <= 100 for line in lines)


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1, max_size=30))
def test_a_path_comes_back_to_a_tenth(corners: list[tuple[float, float]]) -> None:
    (node,) = nodes(Picture("a", (element("path", d=path_data(corners), class_="p"),), height=10), "path", "p")
    found = points(node)
    assert found[0] == pytest.approx(corners[0], abs=0.051)
    assert found[-1] == pytest.approx(corners[-1], abs=0.051)
