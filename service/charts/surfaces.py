"""The same plane in three dimensions: an axonometric projection, drawn from back to front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import Landscape
from service.charts.contours import arrow_along, caption, diamond
from service.charts.planes import Plane, plane_of
from service.charts.regions import Place
from service.charts.scales import Linear, finite
from service.svg import Picture, Point, clipped, element, group, path_data, text, text_width

_HEIGHT = 452.0
_SINE, _COSINE = math.sin(math.radians(34)), math.cos(math.radians(34))
_SIZE = 330.0
_TILT = 0.5
_RISE = 170.0
_CENTRE = (322.0, 264.0)
_STEPS = 32
# What rises above this share of the plane's points would flatten the rest; it is cut off, and the caption says where.
_SHOWN_SHARE = 0.9
Corner = tuple[float, float, float]


@dataclass(frozen=True)
class View:
    """From columns, rows and values to the picture; nearer is lower."""

    columns: int
    rows: int
    low: float
    high: float

    def __call__(self, place: Place, value: float) -> Point:
        across = place[0] / self.columns - 0.5
        along = place[1] / self.rows - 0.5
        height = Linear(self.low, self.high).share(value)
        x = _CENTRE[0] + _SIZE * (across * _COSINE + along * _SINE)
        y = _CENTRE[1] + _SIZE * _TILT * (across * _SINE - along * _COSINE) - _RISE * (height - 0.25)
        return x, y

    def nearness(self, place: Place) -> float:
        return place[0] / self.columns * _SINE - place[1] / self.rows * _COSINE


def surface_chart(landscape: Landscape, *, model: bool = False) -> Picture | None:
    """The loss, or its quadratic model, as a surface over the plane; None where nothing is known."""
    plane = plane_of(landscape, is_model=model)
    if plane is None:
        return None
    low, high, is_cut = _shown(landscape)
    view = View(len(landscape.x) - 1, len(landscape.y) - 1, low, high)
    said = caption(plane)
    if is_cut or model:
        said += f" Shown between {number(low)} and {number(high)}."
    return Picture(
        f"{plane.words} as a surface over the plane through θ",
        (*_floor(plane, view), group(_faces(plane, view), class_="surface"), *_marks(plane, view)),
        height=_HEIGHT,
        description=f"{plane.words} seen from above and in front, from {number(low)} to {number(high)}.",
        caption=said,
    )


def _shown(landscape: Landscape) -> tuple[float, float, bool]:
    """The range of heights, the same for the loss and its model, and whether it cuts."""
    values = sorted(value for row in landscape.loss for value in finite(row))
    values = values or sorted(value for row in landscape.quadratic for value in finite(row))
    low, top = values[0], values[-1]
    most = values[int(_SHOWN_SHARE * (len(values) - 1))]
    is_cut = (top / 2 - low / 2) > 1.5 * (most / 2 - low / 2) > 0
    high = most if is_cut else top
    if high / 2 - low / 2 <= 1e-12 * max(abs(low), abs(high)):
        room = 0.1 * max(abs(low), abs(high)) or 1.0
        return low - room, high + room, False
    return low, high, is_cut


def _faces(plane: Plane, view: View) -> Iterator[str]:
    cells = [(column, row) for row in range(view.rows) for column in range(view.columns)]
    for column, row in sorted(cells, key=view.nearness):
        places = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        values = [plane.grid[y][x] for x, y in places]
        corners: list[Corner] = [
            (x, y, value) for (x, y), value in zip(places, values, strict=True) if value is not None
        ]
        if len(corners) < 4:
            continue
        lowest, highest = (choose(value for _, _, value in corners) for choose in (min, max))
        for low, high in _slices(plane, view, lowest, highest):
            shown = corners
            if lowest < low or highest > high:
                shown = _cut(_cut(corners, high, keeps_below=True), low, keeps_below=False)
            if len(shown) < 3:
                continue
            middle = sum(value / len(shown) for _, _, value in shown)
            points = [view((x, y), value) for x, y, value in shown]
            yield f'<path d="{path_data(points, is_closed=True)}" class="b{plane.levels.band(middle)}"/>'


def _slices(plane: Plane, view: View, lowest: float, highest: float) -> Iterator[tuple[float, float]]:
    """The heights between which a cell has one shade: all of it, but the bands of a steep one by themselves."""
    levels = [level for level in plane.levels.values if max(lowest, view.low) < level < min(highest, view.high)]
    bounds = [view.low, *(levels if len(levels) > 1 else ()), view.high]
    yield from itertools.pairwise(bounds)


def _cut(corners: Sequence[Corner], level: float, *, keeps_below: bool) -> list[Corner]:
    """The part of a polygon on one side of a height (Sutherland, Hodgman)."""

    def is_kept(corner: Corner) -> bool:
        return corner[2] <= level if keeps_below else corner[2] >= level

    kept: list[Corner] = []
    for here, there in zip(corners, [*corners[1:], *corners[:1]], strict=True):
        if is_kept(here):
            kept.append(here)
        if is_kept(here) != is_kept(there):
            share = Linear(here[2], there[2]).share(level)
            kept.append((here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1]), level))
    return kept


def _floor(plane: Plane, view: View) -> Iterator[str]:
    """The plane below the surface with the ticks of both directions, and the heights at the left."""
    landscape, low = plane.landscape, view.low
    corners: list[Place] = [(0, 0), (view.columns, 0), (view.columns, view.rows), (0, view.rows)]
    yield element("path", d=path_data((view(corner, low) for corner in corners), is_closed=True), class_="floor")
    left, front, right, _back = (view(corner, low) for corner in corners)
    ticks = Linear(landscape.x[0], landscape.x[-1]).ticks(4)
    lines = []
    for value, label in zip(ticks.values, ticks.labels, strict=True):
        at = plane.place(value, landscape.y[0])
        start, end = view(at, low), view((at[0], view.rows), low)
        lines.append(element("path", d=path_data((start, end))))
        yield text(start[0] - 8, start[1] + 14, label, class_="tick end")
    yield text(
        (left[0] + front[0]) / 2 - 36,
        (left[1] + front[1]) / 2 + 34,
        clipped(ticks.named(landscape.x_label), 150),
        class_="name end",
    )
    ticks = Linear(landscape.y[0], landscape.y[-1]).ticks(4)
    for value, label in zip(ticks.values, ticks.labels, strict=True):
        at = plane.place(landscape.x[-1], value)
        start, end = view(at, low), view((0, at[1]), low)
        lines.append(element("path", d=path_data((start, end))))
        yield text(start[0] + 10, start[1] + 10, label, class_="tick")
    yield text(
        (front[0] + right[0]) / 2 + 40,
        (front[1] + right[1]) / 2 + 26,
        clipped(ticks.named(landscape.y_label), 130),
        class_="name",
    )
    yield group(lines, class_="grid")
    heights = Linear(view.low, view.high).ticks(5)
    yield element("path", d=path_data((left, view(corners[0], view.high))), class_="axis")
    for value, label in zip(heights.values, heights.labels, strict=True):
        x, y = view(corners[0], value)
        yield element("path", d=f"M{x:.1f} {y:.1f}h-5", class_="axis")
        yield text(x - 8, y + 4, label, class_="tick end")
    name = heights.named("model" if plane.is_model else "loss")
    x, y = view(corners[0], view.high)
    yield text(max(x - text_width(name) / 2, 8), y - 16, name, class_="name")


def _marks(plane: Plane, view: View) -> Iterator[str]:
    here, there = plane.here(), plane.way_out()
    if here is None or (start := plane.value(here)) is None:
        return
    if there is not None:
        way = []
        for step in range(_STEPS + 1):
            share = step / _STEPS
            place = here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])
            value = plane.value(place)
            # Where the surface is cut off there is nothing that the way could lie on.
            if value is None or not view.low <= value <= view.high:
                break
            way.append(view(place, value))
        yield from arrow_along(way)
        end = plane.value(there)
        if end is not None and view.low <= end <= view.high:
            yield diamond(view(there, end), f"where the escape ends: {number(end)}")
    x, y = view(here, start)
    yield element("circle", cx=x, cy=y, r=5, class_="here", tip=f"θ: {number(start)}")
