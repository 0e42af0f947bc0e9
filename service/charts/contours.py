"""The plane of lowest and highest curvature from above: iso-lines over bands, the critical point, the way out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import Landscape
from service.charts.frames import Box, Frame, frame
from service.charts.planes import Plane, Sheet, plane_of
from service.charts.regions import Place, region
from service.charts.scales import Linear
from service.svg import WIDTH, Picture, Point, element, path_data, text, text_width

_HEIGHT = 400.0
_KEY_ROOM = 190.0
Rect = tuple[float, float, float, float]


def contour_chart(landscape: Landscape, *, model: bool = False) -> Picture | None:
    """Iso-lines of the loss, or of its quadratic model, on the plane; None where nothing is known."""
    plane = plane_of(landscape, is_model=model)
    if plane is None:
        return None
    drawn = frame(
        Linear(landscape.x[0], landscape.x[-1]), Linear(landscape.y[0], landscape.y[-1]),
        names=(landscape.x_label, landscape.y_label),
        box=Box(right=WIDTH - _KEY_ROOM, bottom=_HEIGHT), is_square=True,
    )  # fmt: skip
    width = drawn.x.end - drawn.x.start
    elements = [element("rect", x=drawn.x.start, y=drawn.top, width=width, height=width, class_="unknown")]
    at = Sheet(tuple(map(drawn.x, landscape.x)), tuple(map(drawn.y, landscape.y)))
    elements += _bands_and_lines(plane, drawn, at)
    elements += drawn.elements[1:]
    elements += [*_marks(plane, at), *_key(plane, drawn)]
    return Picture(
        f"{plane.words} on a plane through θ",
        tuple(elements),
        height=_HEIGHT,
        description=_in_words(plane),
        caption=caption(plane),
    )


def caption(plane: Plane) -> str:
    side = f"{len(plane.landscape.x)} × {len(plane.landscape.y)}"
    if plane.is_model:
        return f"L(θ) + gᵀv + ½vᵀHv on the same {side} points, with the levels of the loss."
    return f"Measured over the whole data at {side} points, linear in between."


def _in_words(plane: Plane) -> str:
    known = [value for row in plane.grid for value in row if value is not None]
    words = f"{plane.words} from {number(min(known))} to {number(max(known))}"
    here = plane.here()
    if here is not None and (value := plane.value(here)) is not None:
        words += f"; {number(value)} at θ"
    there = plane.way_out()
    if there is not None and (value := plane.value(there)) is not None:
        words += f", {number(value)} where the escape ends"
    return f"{words}. Horizontal: {plane.landscape.x_label}. Vertical: {plane.landscape.y_label}."


def _bands_and_lines(plane: Plane, drawn: Frame, at: Sheet) -> Iterator[str]:
    base, _ = region(plane.grid, float("-inf"))
    yield element("path", d=_loops(base, at), class_="b0")
    taken = [_around(point, 8) for point in _way(plane, at)]
    lines, labels = [], []
    for index, level in enumerate(plane.levels.values, start=1):
        loops, isolines = region(plane.grid, level)
        if loops:
            shade = f"b{plane.levels.shade(index)}"
            yield element("path", d=_loops(loops, at), class_=shade)
        points = [list(map(at, line)) for line in isolines]
        if points:
            lines.append(element("path", d="".join(map(path_data, points)), class_="iso"))
        words = plane.levels.words(level)
        if (spot := _free_spot(points, text_width(words), taken, drawn)) is not None:
            labels.append(text(spot[0], spot[1] + 4, words, class_="level middle"))
    yield from lines
    here = plane.here()
    if here is not None and (value := plane.value(here)) is not None:
        _, through = region(plane.grid, value)
        d = "".join(path_data(map(at, line)) for line in through)
        if d:
            yield element("path", d=d, class_="iso through", tip=f"as high as θ: {number(value)}")
    yield from labels


def _loops(loops: Sequence[Sequence[Place]], at: Sheet) -> str:
    return "".join(path_data(map(at, loop), is_closed=True) for loop in loops)


def _free_spot(lines: Sequence[Sequence[Point]], width: float, taken: list[Rect], drawn: Frame) -> Point | None:
    """A point of the longest line where a label covers no other; its place is then taken."""
    for line in sorted(lines, key=len, reverse=True):
        middle = len(line) // 2
        for offset in range(middle + 1):
            for index in {middle - offset, min(middle + offset, len(line) - 1)}:
                x, y = line[index]
                room = (x - width / 2 - 3, y - 8, x + width / 2 + 3, y + 8)
                inside = (
                    room[0] > drawn.x.start and room[2] < drawn.x.end and room[1] > drawn.top and room[3] < drawn.bottom
                )
                if inside and not any(_overlap(room, other) for other in taken):
                    taken.append(room)
                    return x, y
    return None


def _overlap(one: Rect, other: Rect) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _around(at: Point, reach: float) -> Rect:
    return at[0] - reach, at[1] - reach, at[0] + reach, at[1] + reach


def _way(plane: Plane, at: Sheet) -> list[Point]:
    """From θ to where the escape ends, close enough that no label finds room in between."""
    here, there = plane.here(), plane.way_out()
    if here is None:
        return []
    start = at(here)
    if there is None:
        return [start]
    end = at(there)
    steps = int(math.dist(start, end) / 8) + 1
    return [
        (start[0] + (end[0] - start[0]) * step / steps, start[1] + (end[1] - start[1]) * step / steps)
        for step in range(steps + 1)
    ]


def _marks(plane: Plane, at: Sheet) -> Iterator[str]:
    here, there = plane.here(), plane.way_out()
    if here is None:
        return
    start = at(here)
    if there is not None:
        yield from arrow_along((start, at(there)))
        yield diamond(at(there), _tip("where the escape ends", plane.value(there)))
    yield element("circle", cx=start[0], cy=start[1], r=5, class_="here", tip=_tip("θ", plane.value(here)))


def arrow_along(points: Sequence[Point]) -> Iterator[str]:
    """The way out, with a halo, so that it is seen on any band."""
    d = path_data(points)
    yield element("path", d=d, class_="halo")
    yield element("path", d=d, class_="way")


def diamond(at: Point, tip: str) -> str:
    return element("path", d=f"M{at[0]:.1f} {at[1]:.1f}m0-7 6 7-6 7-6-7z", class_="there", tip=tip)


def _tip(name: str, value: float | None) -> str:
    return name if value is None else f"{name}: {number(value)}"


def _key(plane: Plane, drawn: Frame) -> Iterator[str]:
    """The bands from high to low with the levels between them, and what the marks mean."""
    left, top, height = drawn.x.end + 24, drawn.top + 16, 18.0
    yield text(left, top - 6, "loss" if not plane.is_model else "model", class_="name")
    levels = plane.levels
    for index in range(len(levels.values), -1, -1):
        y = top + height * (len(levels.values) - index)
        yield element("rect", x=left, y=y, width=18, height=height, class_=f"b{levels.shade(index)}")
        if index:
            yield text(left + 26, y + height + 4, levels.words(levels.values[index - 1]), class_="tick")
    y = top + height * (len(levels.values) + 1) + 20
    rows = [(element("circle", cx=0, cy=0, r=5, class_="here"), "θ, the checkpoint")]
    rows.append((element("path", d="M-9 0h18", class_="iso through"), "as high as θ"))
    if plane.way_out() is not None:
        rows.append((diamond((0, 0), "where the escape ends"), "the escape's end"))
    if any(value is None for row in plane.grid for value in row):
        rows.append((element("rect", x=-9, y=-6, width=18, height=12, class_="unknown"), "not finite"))
    for row, (example, words) in enumerate(rows):
        yield f'<g transform="translate({left + 9:.1f} {y + 20 * row - 4:.1f})">{example}</g>'
        yield text(left + 26, y + 20 * row, words, class_="key")
