"""Iso-lines lie where the value is; both pictures of a plane show it, its critical point and its way out."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from drawings import assert_legible, nodes, number_of, parsed, points, starts
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.contract.reports import Landscape, LandscapePoint
from service.charts import contour_chart, surface_chart
from service.charts.planes import plane_of
from service.charts.regions import Grid, region
from service.svg import Picture, standalone

VALUES = st.one_of(st.floats(-1e300, 1e300), st.sampled_from([0.0, 1.0, -1.0, 5e-324]), st.none())
GRIDS = st.integers(2, 6).flatmap(
    lambda side: st.lists(st.lists(VALUES, min_size=side, max_size=side), min_size=2, max_size=6)
)


def saddle(side: int = 25, reach: float = 1.5) -> Landscape:
    """(1 − xy)² around the origin, which escapes along the diagonal."""
    axis = tuple(reach * (2 * index / (side - 1) - 1) for index in range(side))
    axis = tuple(0.0 if abs(value) < 1e-12 else value for value in axis)
    return Landscape(
        x_label="w1", y_label="w2", x=axis, y=axis,
        loss=tuple(tuple((1 - x * y) ** 2 for x in axis) for y in axis),
        quadratic=tuple(tuple(1 - 2 * x * y for x in axis) for y in axis),
        escape=LandscapePoint(x=1.0, y=1.0),
    )  # fmt: skip


def plane(loss: Grid, **changes: object) -> Landscape:
    rows, columns = len(loss), len(loss[0])
    base = {
        "x_label": "<a>", "y_label": "&", "x": tuple(map(float, range(columns))), "y": tuple(map(float, range(rows))),
        "loss": tuple(map(tuple, loss)), "quadratic": ((0.0,) * columns,) * rows,
    }  # fmt: skip
    return Landscape.model_validate(base | changes)


@given(GRIDS, st.one_of(st.floats(-1e300, 1e300), st.sampled_from([0.0, 1.0])))
def test_an_iso_line_lies_where_the_bilinear_value_is(grid: Grid, level: float) -> None:
    # A place is a float: beside a huge corner it cannot be told from the small one's.
    largest = max((abs(value) for row in grid for value in row if value is not None), default=0.0)
    for line in region(grid, level)[1]:
        for place in line:
            assert bilinear(grid, place) == pytest.approx(level, rel=1e-7, abs=1e-7 * largest)


def bilinear(grid: Grid, place: tuple[float, float]) -> float:
    column, row = (math.floor(axis) for axis in place)
    right, up = place[0] - column, place[1] - row
    value = 0.0
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        share = (right if dx else 1 - right) * (up if dy else 1 - up)
        if share:
            corner = grid[row + dy][column + dx]
            assert corner is not None
            value += share * corner
    return value


@given(GRIDS, st.floats(-1e3, 1e3))
def test_the_boundary_of_a_region_is_closed_and_walked_once(grid: Grid, level: float) -> None:
    loops, _ = region(grid, level)
    assert all(loop[0] == loop[-1] for loop in loops)
    walked = Counter(edge for loop in loops for edge in itertools.pairwise(loop))
    assert all(count == 1 for count in walked.values())
    assert not any((end, start) in walked for start, end in walked)


@given(GRIDS, st.sampled_from([-2.1, 0.123, 0.57, 3.3]))
def test_a_region_and_what_is_below_it_make_the_plane(grid: Grid, level: float) -> None:
    bounded = [[value if value is None else min(max(value, -10.0), 10.0) for value in row] for row in grid]
    mirrored = [[value if value is None else -value for value in row] for row in bounded]
    whole = area(bounded, float("-inf"))
    assert area(bounded, level) + area(mirrored, -level) == pytest.approx(whole, abs=1e-6)


def area(grid: Grid, level: float) -> float:
    return sum(
        (x * below - after * y) / 2
        for loop in region(grid, level)[0]
        for (x, y), (after, below) in itertools.pairwise(loop)
    )


def test_opposite_corners_are_joined_exactly_when_the_bilinear_saddle_reaches_the_level() -> None:
    # The saddle value of the cell is (1·1 − 0·0)/(1 + 1) = 0.5.
    cell = [[1.0, 0.0], [0.0, 1.0]]
    assert len(region(cell, 0.4)[0]) == 1
    assert len(region(cell, 0.6)[0]) == 2


def test_what_is_as_high_as_a_saddle_are_its_axes() -> None:
    _, lines = region(saddle().quadratic, 1.0)
    corners = [place for line in lines for place in line]
    assert corners
    assert all(12 in place for place in corners)


def test_an_unknown_corner_hides_its_cells() -> None:
    grid = [[1.0, 1.0, 1.0], [1.0, None, 1.0], [1.0, 1.0, 1.0]]
    assert region(grid, 0.0) == ([], [])
    assert contour_chart(plane(grid)) is None
    assert surface_chart(plane(grid)) is None


@pytest.mark.parametrize("model", [False, True])
def test_contours_are_darkest_where_the_loss_is_lowest(model: bool) -> None:
    landscape = saddle()
    drawn = plane_of(landscape, is_model=model)
    assert drawn is not None
    assert drawn.levels.values == plane_of(landscape, is_model=False).levels.values  # type: ignore[union-attr]
    bands = [drawn.levels.band(value) for value in sorted(value for row in landscape.loss for value in row)]
    assert bands == sorted(bands)
    assert (bands[0], bands[-1]) == (0, 9)
    # About equal areas: no band is empty, none takes a third.
    assert all(0 < count < len(bands) / 3 for count in Counter(bands).values())


def test_the_marks_stand_where_the_numbers_say() -> None:
    picture = contour_chart(saddle())
    assert picture is not None
    frame = next(node for node in nodes(picture, "rect", "unknown"))
    left, top, side = (number_of(frame, name) for name in ("x", "y", "width"))
    here = nodes(picture, "circle", "here")[0]
    assert (number_of(here, "cx"), number_of(here, "cy")) == pytest.approx((left + side / 2, top + side / 2), abs=0.1)
    # (1, 1) of ±1.5, the diamond's upper corner is its first.
    expected = (left + side * 2.5 / 3, top + side * 0.5 / 3)
    assert starts(picture, "there")[0] == pytest.approx(expected, abs=0.1)
    way = points(nodes(picture, "path", "way")[0])
    assert way[-1] == pytest.approx(expected, abs=0.1)


def test_iso_lines_are_drawn_where_the_loss_is_as_labelled() -> None:
    landscape = saddle()
    picture = contour_chart(landscape)
    drawn = plane_of(landscape, is_model=False)
    assert picture is not None
    assert drawn is not None
    frame = next(node for node in nodes(picture, "rect", "unknown"))
    left, top, side = (number_of(frame, name) for name in ("x", "y", "width"))
    lines = [node for node in nodes(picture, "path", "iso") if "through" not in (node.get("class") or "")]
    assert len(lines) == len(drawn.levels.values)
    for level, line in zip(drawn.levels.values, lines, strict=True):
        for x, y in points(line):
            place = (x - left) / side * 24, (top + side - y) / side * 24
            value = drawn.value(place)
            # A tenth of a unit of the picture, times the steepest slope of the loss on this plane.
            assert value == pytest.approx(level, abs=0.35)


def test_a_landscape_without_an_escape_has_no_arrow() -> None:
    still = saddle().model_copy(update={"escape": None})
    for chart in (contour_chart, surface_chart):
        picture = chart(still)
        assert picture is not None
        assert not nodes(picture, "path", "way")
        assert nodes(picture, "circle", "here")


def test_the_way_out_ends_where_the_surface_is_cut_off() -> None:
    steep = saddle().model_copy(
        update={"quadratic": tuple(tuple(1 - 40 * x * y for x in saddle().x) for y in saddle().y)}
    )
    ways = [
        nodes(picture, "path", "way") for picture in (surface_chart(steep), surface_chart(steep, model=True)) if picture
    ]
    whole, cut = (len(points(way[0])) for way in ways)
    assert 1 < cut < whole


def test_a_surface_is_drawn_from_back_to_front_and_says_where_it_is_cut() -> None:
    picture = surface_chart(saddle())
    assert picture is not None
    faces = list(nodes(picture, "path", "surface"))
    assert 400 < len(faces) <= 24 * 24
    assert "Shown between 0" in picture.caption
    assert len(standalone(picture)) < 60_000
    # Of the flat model z = const nothing is hidden, so nearness is height in the picture.
    level = surface_chart(plane([[1.0] * 5] * 5))
    assert level is not None
    tops = [min(y for _, y in points(face)) for face in nodes(level, "path", "surface")]
    assert tops == sorted(tops)


@given(GRIDS)
def test_any_plane_can_be_drawn(grid: Grid) -> None:
    landscape = plane(grid)
    for chart in (contour_chart, surface_chart):
        for model in (False, True):
            picture = chart(landscape, model=model)
            if picture is not None:
                assert_sound(picture)


def assert_sound(picture: Picture) -> None:
    text = standalone(picture)
    parsed(picture)
    assert "nan" not in text
    assert "inf" not in text.replace("information", "")


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e300 / 64])
@pytest.mark.parametrize("offset", [0.0, 2.302585])
def test_words_on_a_plane_are_legible_at_any_scale(scale: float, offset: float) -> None:
    base = saddle(11)
    landscape = base.model_copy(
        update={
            "loss": tuple(tuple(offset + scale * value for value in row) for row in base.loss),
            "x_label": "w" * 200,
        }
    )
    for chart in (contour_chart, surface_chart):
        for model in (False, True):
            picture = chart(landscape, model=model)
            assert picture is not None
            assert_legible(picture)
