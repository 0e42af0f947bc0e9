"""The landscape of a project: loss against minimum ratio, against the index, or the whole triple (n₋, n₀, n₊)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Literal

from saddlescope.contract.numerals import number
from service.charts.checkpoints import Checkpoint, gathered
from service.charts.frames import Box, frame
from service.charts.marks import Key, legend, mark, verdict_keys
from service.charts.scales import Linear, finite, for_positive
from service.svg import WIDTH, Picture, Point, group, path, text

Against = Literal["ratio", "index", "triple"]
MAX_POINTS = 2_000
_HEIGHT = 400.0
_SHADES = 5
_CROWD = 500


def ratio_chart(points: Sequence[Checkpoint], *, against: Against) -> Picture | None:
    """One mark a checkpoint, a link to its job, hollow where it is not critical; None without a point to draw."""
    if against == "triple":
        return _ternary(points)
    fits = [point for point in points if finite([point.loss]) and _across(point, against) is not None]
    shown = _thinned(fits)
    if not shown:
        return None
    said, top = legend(_keys(shown), left=12, top=0, right=WIDTH - 8)
    name = "minimum ratio n₊/n" if against == "ratio" else "index n₋/n"
    height = _HEIGHT + top
    drawn = frame(
        Linear(-0.02, 1.02), for_positive(point.loss for point in shown), names=(name, "loss"),
        box=Box(top=top + 8, bottom=height),
    )  # fmt: skip
    marks: list[tuple[str, str]] = []
    has_bars, is_crowd = False, len(shown) > _CROWD
    bars: list[str] = []
    for point in shown:
        share = _across(point, against)
        if share is None or point.loss is None:
            continue
        at = drawn.at(share, point.loss)
        what = f"loss {number(point.loss, 3)}, {'ratio' if against == 'ratio' else 'index'} {number(share, 3)}"
        bar = ""
        if against == "ratio" and point.minimum_ratio is not None:
            low, high = point.minimum_ratio.low, point.minimum_ratio.high
            if high > low:
                has_bars = True
                line = f"M{drawn.x(low):.0f} {at[1]:.1f}H{drawn.x(high):.0f}"
                if is_crowd:
                    # The bar must do: the words of two thousand intervals are a quarter of the picture.
                    bars.append(line)
                else:
                    bar = f'<path d="{line}" class="bar"/>'
                    what += f" in [{number(low, 3)}, {number(high, 3)}]"
        marks.append((point.look, point.mark(at, what, beside=bar)))
    return Picture(
        f"Loss against {name}",
        (*drawn.elements, said, *_together(bars), *gathered(sorted(marks, key=itemgetter(0)), "cloud")),
        height=height,
        description=_in_words(shown, name),
        caption=_caption(points, fits, shown, has_bars=has_bars),
        is_linked=True,
    )


def _across(point: Checkpoint, against: Against) -> float | None:
    if against == "ratio":
        return None if point.minimum_ratio is None else point.minimum_ratio.estimate
    return point.index


def _together(bars: Sequence[str]) -> Iterator[str]:
    """The bars of a crowd as one path: elements that nobody points at are only in the way."""
    if bars:
        yield f'<path d="{"".join(bars)}" class="bar"/>'


def _thinned(points: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
    """Evenly over the points in the order given."""
    if len(points) <= MAX_POINTS:
        return points
    return [points[index * len(points) // MAX_POINTS] for index in range(MAX_POINTS)]


def _keys(shown: Sequence[Checkpoint]) -> list[Key]:
    keys = verdict_keys(point.kind for point in shown)
    if hollow := sorted({point.kind for point in shown if point.is_hollow} - {"not_critical"}):
        keys.append(Key("hollow: not critical", example=mark((0, 0), hollow[0], class_="hollow")))
    return keys


def _in_words(shown: Sequence[Checkpoint], name: str) -> str:
    losses = finite(point.loss for point in shown)
    between = f", losses from {number(min(losses))} to {number(max(losses))}" if losses else ""
    kinds = sorted({point.kind for point in shown})
    counts = ", ".join(f"{sum(point.kind == kind for point in shown)} {kind.replace('_', ' ')}" for kind in kinds)
    return f"{len(shown)} checkpoints by {name}{between}: {counts}."


def _caption(
    points: Sequence[Checkpoint], fits: Sequence[Checkpoint], shown: Sequence[Checkpoint], *, has_bars: bool
) -> str:
    said = [f"{len(shown):,} checkpoints."]
    if len(shown) < len(fits):
        said.append(f"{len(fits) - len(shown):,} more are not drawn, evenly left out.")
    if len(fits) < len(points):
        said.append(f"{len(points) - len(fits):,} have no such numbers.")
    if has_bars:
        said.append("Bars: the interval of the ratio.")
    return " ".join(said)


def _ternary(points: Sequence[Checkpoint]) -> Picture | None:
    fits = [point for point in points if point.inertia is not None and sum(point.inertia) > 0]
    shown = _thinned(fits)
    if not shown:
        return None
    losses = sorted(finite(point.loss for point in shown if not point.is_hollow))
    bounds = sorted({losses[len(losses) * shade // _SHADES] for shade in range(1, _SHADES)}) if losses else []
    said, top = legend(_keys(shown), left=12, top=0, right=WIDTH - 8)
    side = 380.0
    corners = _corners(WIDTH / 2, top + 30, side)
    marks: list[tuple[str, str]] = []
    for point in shown:
        if point.inertia is None:
            continue
        known = point.loss if finite([point.loss]) else None
        # A shade would fill what is hollow.
        shade = "" if known is None or point.is_hollow else f" shaded q{bisect_right(bounds, known)}"
        counts = " / ".join(number(value, 3) for value in point.inertia)
        what = f"n₋/n₀/n₊ {counts}" + ("" if known is None else f", loss {number(known, 3)}")
        marks.append((f"{point.look}{shade}", point.mark(_inside(corners, point.inertia), what)))
    height = corners[0][1] + 30
    said_bounds = ", ".join(number(bound) for bound in bounds)
    caption = _caption(points, fits, shown, has_bars=False)
    return Picture(
        "Negative, zero and positive curvatures (n₋, n₀, n₊)",
        (*_triangle(corners), said, *gathered(sorted(marks, key=itemgetter(0)), "cloud")),
        height=height,
        description=_in_words(shown, "the shares of negative, zero and positive curvatures"),
        caption=caption
        + (f" The darker a full mark, the lower its loss; shades part at {said_bounds}." if bounds else ""),
        is_linked=True,
    )


def _corners(middle: float, top: float, side: float) -> tuple[Point, Point, Point]:
    """All negative at the left, all zero above, all positive at the right."""
    height = side * math.sqrt(3) / 2
    return (middle - side / 2, top + height), (middle, top), (middle + side / 2, top + height)


def _inside(corners: tuple[Point, Point, Point], inertia: Sequence[float]) -> Point:
    """Barycentric: each corner weighs as much as its count."""
    total = sum(inertia)
    return (
        sum(share / total * corner[0] for share, corner in zip(inertia, corners, strict=True)),
        sum(share / total * corner[1] for share, corner in zip(inertia, corners, strict=True)),
    )


def _triangle(corners: tuple[Point, Point, Point]) -> Iterator[str]:
    grid = []
    for tenth in (0.2, 0.4, 0.6, 0.8):
        for first in range(3):
            one, two = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
            one[first] = two[first] = tenth
            one[(first + 1) % 3] = two[(first + 2) % 3] = 1 - tenth
            grid.append(path([_inside(corners, one), _inside(corners, two)], class_="line-thin"))
    yield group(grid, class_="grid")
    yield path(corners, class_="axis-line", is_closed=True)
    yield text(corners[0][0], corners[0][1] + 20, "all negative (n₋)", class_="name middle")
    yield text(corners[1][0], corners[1][1] - 8, "all zero (n₀)", class_="name middle")
    yield text(corners[2][0], corners[2][1] + 20, "all positive (n₊)", class_="name middle")
