"""Where values on a grid reach a level: marching squares, as closed boundaries and as iso-lines.

A cell is crossed where linear interpolation along its edges meets the level, which is where the bilinear interpolant of the
grid does; two opposite corners above the level are joined exactly when the bilinear saddle value reaches it. A cell with an
unknown corner has no values.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

Grid = Sequence[Sequence[float | None]]
# Columns and rows are counted as floats: (1.5, 2.0) is halfway between two columns on the third row.
Place = tuple[float, float]
Edge = tuple[Place, Place]
# Counter-clockwise, as places grow: here, right, right above, above.
Corners = tuple[float, float, float, float]


def region(grid: Grid, level: float) -> tuple[list[list[Place]], list[list[Place]]]:
    """The closed boundaries of {value ≥ level}, and the iso-lines {value = level} among them.

    Neighbouring cells walk their common edge in opposite senses, so what is inside the region cancels exactly. What is left
    is an iso-line, unless it is the border of what is known.
    """
    boundary: dict[Edge, None] = {}
    known = set()
    for column, row, corners in _known_cells(grid):
        known.add((column, row))
        for loop in _reaching(corners, level, column, row):
            for start, end in zip(loop, [*loop[1:], *loop[:1]], strict=True):
                if (end, start) in boundary:
                    del boundary[end, start]
                elif start != end:
                    boundary[start, end] = None
    lines = [edge for edge in boundary if all(cell in known for cell in _beside(*edge))]
    return _chained(boundary), _chained(lines)


def _known_cells(grid: Grid) -> Iterator[tuple[int, int, Corners]]:
    for row, (lower, upper) in enumerate(itertools.pairwise(grid)):
        for column in range(len(lower) - 1):
            a, b, c, d = lower[column], lower[column + 1], upper[column + 1], upper[column]
            if a is not None and b is not None and c is not None and d is not None:
                yield column, row, (a, b, c, d)


def _reaching(corners: Corners, level: float, column: int, row: int) -> list[list[Place]]:
    """The part of one cell that reaches the level: no polygon, one, or two at opposite corners."""
    is_high = [value >= level for value in corners]
    if not any(is_high):
        return []
    places: list[Place] = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
    walk: list[Place] = []
    for index in range(4):
        after = (index + 1) % 4
        if is_high[index]:
            walk.append(places[index])
        if is_high[index] != is_high[after]:
            walk.append(_crossing((places[index], corners[index]), (places[after], corners[after]), level))
    if is_high[0] == is_high[2] != is_high[1] == is_high[3] and not _is_joined(corners, level):
        # Corner, crossing, crossing, corner, crossing, crossing: each corner keeps the crossings beside it.
        turned = walk if is_high[0] else [*walk[1:], walk[0]]
        return [[turned[5], turned[0], turned[1]], [turned[2], turned[3], turned[4]]]
    return [walk]


def _is_joined(corners: Corners, level: float) -> bool:
    """Whether the bilinear interpolant reaches the level at its saddle point."""
    a, b, c, d = (value / 4 for value in corners)
    unit = max(map(abs, (a, b, c, d))) or 1.0
    a, b, c, d = a / unit, b / unit, c / unit, d / unit
    return (a * c - b * d) / (a - b + c - d) >= level / 4 / unit


def _crossing(first: tuple[Place, float], second: tuple[Place, float], level: float) -> Place:
    # From the smaller place, so that both cells beside an edge find the same number.
    (start, low), (end, high) = sorted((first, second))
    share = (level / 2 - low / 2) / (high / 2 - low / 2)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _beside(start: Place, end: Place) -> list[tuple[int, int]]:
    """The cells on both sides of an edge that runs along a line of the grid; its own cell otherwise."""
    column, row = (math.floor(min(start[axis], end[axis])) for axis in (0, 1))
    if start[0] == end[0] == column:
        return [(column - 1, row), (column, row)]
    if start[1] == end[1] == row:
        return [(column, row - 1), (column, row)]
    return []


def _chained(edges: Iterable[Edge]) -> list[list[Place]]:
    """Edges joined end to start; a closed chain ends where it began."""
    following: dict[Place, list[Place]] = {}
    arrivals: Counter[Place] = Counter()
    for start, end in edges:
        following.setdefault(start, []).append(end)
        arrivals[end] += 1
    chains = []
    # Open chains first, from where nothing arrives.
    for start in sorted(following, key=lambda place: len(following[place]) <= arrivals[place]):
        while following[start]:
            chain = [start]
            while following.get(chain[-1]):
                chain.append(following[chain[-1]].pop())
            chains.append(chain)
    return chains
