"""The loss on a plane through θ as pictures see it: its levels, its unknown places, the way out on it."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import Landscape
from service.charts.regions import Grid, Place
from service.charts.scales import finite
from service.svg import Point

BANDS = 10


@dataclass(frozen=True)
class Levels:
    """Values that part the plane into about equal areas, rounded as far as that keeps them apart."""

    values: tuple[float, ...]
    digits: int

    def words(self, value: float) -> str:
        return number(value, self.digits)

    def band(self, value: float) -> int:
        return self.shade(bisect_right(self.values, value))

    def shade(self, place: int) -> int:
        """The class of the region above the first `place` levels; the shades of few levels lie apart."""
        return round(place * (BANDS - 1) / max(len(self.values), 1))


@dataclass(frozen=True)
class Plane:
    """The grid that is drawn: the loss, or its quadratic model at the loss's own levels."""

    landscape: Landscape
    grid: Grid
    levels: Levels
    is_model: bool

    @property
    def words(self) -> str:
        return "Quadratic model" if self.is_model else "Loss"

    def place(self, x: float, y: float) -> Place:
        """Where a point of the plane lies on the grid, in columns and rows."""
        return _place(self.landscape.x, x), _place(self.landscape.y, y)

    def point(self, place: Place) -> tuple[float, float]:
        return _value(self.landscape.x, place[0]), _value(self.landscape.y, place[1])

    def value(self, place: Place) -> float | None:
        """Bilinear between the corners of the cell; None where one is unknown."""
        column = min(max(int(place[0]), 0), len(self.landscape.x) - 2)
        row = min(max(int(place[1]), 0), len(self.landscape.y) - 2)
        right, up = place[0] - column, place[1] - row
        a, b = self.grid[row][column : column + 2]
        d, c = self.grid[row + 1][column : column + 2]
        if a is None or b is None or c is None or d is None:
            return None
        return (a * (1 - right) + b * right) * (1 - up) + (d * (1 - right) + c * right) * up

    def here(self) -> Place | None:
        """θ, where the plane holds it."""
        x, y = self.landscape.x, self.landscape.y
        return self.place(0.0, 0.0) if x[0] <= 0 <= x[-1] and y[0] <= 0 <= y[-1] else None

    def way_out(self) -> Place | None:
        """Where the best escape ends on the plane."""
        there = self.landscape.escape
        if there is None:
            return None
        x, y = self.landscape.x, self.landscape.y
        return self.place(there.x, there.y) if x[0] <= there.x <= x[-1] and y[0] <= there.y <= y[-1] else None


@dataclass(frozen=True)
class Sheet:
    """From places on the grid to points of the picture: where its columns and rows stand, and evenly in between."""

    across: tuple[float, ...]
    upward: tuple[float, ...]

    def __call__(self, place: Place) -> Point:
        column, row = min(int(place[0]), len(self.across) - 2), min(int(place[1]), len(self.upward) - 2)
        left, below = self.across[column], self.upward[row]
        return (
            left + (place[0] - column) * (self.across[column + 1] - left),
            below + (place[1] - row) * (self.upward[row + 1] - below),
        )


def plane_of(landscape: Landscape, *, is_model: bool) -> Plane | None:
    """None where not a single cell is known."""
    loss = [value for row in landscape.loss for value in finite(row)]
    model = [value for row in landscape.quadratic for value in finite(row)]
    grid: Grid = landscape.quadratic if is_model else landscape.loss
    # The model is seen at the levels of the loss, so that both pictures can be compared.
    levels = _levels(loss or model)
    has_cell = any(
        None not in (a, b, c, d)
        for lower, upper in itertools.pairwise(grid)
        for a, b, c, d in zip(lower, lower[1:], upper, upper[1:], strict=False)
    )
    return Plane(landscape, grid, levels, is_model) if has_cell else None


def _levels(values: Sequence[float]) -> Levels:
    ordered = sorted(values)
    bounds = sorted({ordered[len(ordered) * band // BANDS] for band in range(1, BANDS)} - {ordered[0]})
    if not bounds:
        return Levels((), 4)
    gap = min((high / 2 - low / 2 for low, high in itertools.pairwise(bounds)), default=abs(bounds[0]) / 2)
    for digits in range(2, 18):
        rounded = [float(f"{bound:.{digits}g}") for bound in bounds]
        if all(abs(a / 2 - b / 2) <= gap / 4 for a, b in zip(rounded, bounds, strict=True)):
            return Levels(tuple(dict.fromkeys(rounded)), digits)
    return Levels(tuple(bounds), 17)


def _place(values: Sequence[float], value: float) -> float:
    index = min(max(bisect_right(values, value) - 1, 0), len(values) - 2)
    return index + (value - values[index]) / (values[index + 1] - values[index])


def _value(values: Sequence[float], place: float) -> float:
    index = min(max(math.floor(place), 0), len(values) - 2)
    return values[index] + (place - index) * (values[index + 1] - values[index])
