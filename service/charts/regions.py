"""Where values on a grid reach a level: marching squares, as closed boundaries and as iso-lines.

Between the points of the grid the value is the bilinear interpolant: linear along the edges of a cell, so that the crossings
there are exact; two opposite corners above the level are joined exactly when the bilinear saddle value reaches it. A cell with
an unknown corner has no values.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set

Grid = Sequence[Sequence[float | None]]
# Columns and rows are counted as floats: (1.5, 2.0) is halfway between two columns on the third row.
Place = tuple[float, float]
Edge = tuple[Place, Place]
# Counter-clockwise, as places grow: here, right, right above, above.
Corners = tuple[float, float, float, float]
# The neighbour beyond each side, in the order of the corners.
_BESIDE = ((0, -1), (1, 0), (0, 1), (-1, 0))
_HUGE = 1e300
_CORNERS: tuple[Place, ...] = ((0, 0), (1, 0), (1, 1), (0, 1))


def region(grid: Grid, level: float) -> tuple[list[list[Place]], list[list[Place]]]:
    """The closed boundaries of {value ≥ level}, and the iso-lines {value = level} among them.

    Neighbouring cells walk their common edge in opposite senses, so what is inside the region cancels exactly. What is left
    is an iso-line, unless it is the border of what is known.
    """
    walked: Counter[Edge] = Counter()
    cells = {(column, row): corners for column, row, corners in _known_cells(grid)}
    inside = {cell for cell, corners in cells.items() if min(corners) >= level}
    for cell, corners in cells.items():
        if max(corners) < level:
            continue
        for start, end in _rim(cell, inside) if cell in inside else _edges(_reaching(corners, level, *cell)):
            if start < end:
                walked[start, end] += 1
            elif end < start:
                walked[end, start] -= 1
    boundary = [edge if count > 0 else (edge[1], edge[0]) for edge, count in walked.items() if count]
    lines = [edge for edge in boundary if all(cell in cells for cell in _beside(*edge))]
    return _chained(boundary), _chained(lines)


def _known_cells(grid: Grid) -> Iterator[tuple[int, int, Corners]]:
    for row, (lower, upper) in enumerate(itertools.pairwise(grid)):
        for column in range(len(lower) - 1):
            a, b, c, d = lower[column], lower[column + 1], upper[column + 1], upper[column]
            if a is not None and b is not None and c is not None and d is not None:
                yield column, row, (a, b, c, d)


def _rim(cell: tuple[int, int], inside: Set[tuple[int, int]]) -> Iterator[Edge]:
    """The sides of a whole cell without those that a whole neighbour walks the other way."""
    column, row = cell
    for index, (right, up) in enumerate(_BESIDE):
        if (column + right, row + up) not in inside:
            start, end = _CORNERS[index], _CORNERS[(index + 1) % 4]
            yield (column + start[0], row + start[1]), (column + end[0], row + end[1])


def _edges(loops: Iterable[list[Place]]) -> Iterator[Edge]:
    for loop in loops:
        yield from zip(loop, [*loop[1:], *loop[:1]], strict=True)


def _reaching(corners: Corners, level: float, column: int, row: int) -> list[list[Place]]:
    """The part of a cell that reaches the level somewhere but not everywhere: one polygon, or two at opposite corners.

    The iso-line inside a cell is a piece of a hyperbola; it is drawn through a point of it between its ends.
    """
    is_high = [value >= level for value in corners]
    # In units of the largest difference, so that nothing overflows.
    above = _above(corners, level)
    unit = max(map(abs, above))
    a, b, c, d = (value / unit for value in above)
    heights = (a, b, c, d)
    crossings = {
        index: _crossing(index, corners, level) for index in range(4) if is_high[index] != is_high[(index + 1) % 4]
    }
    is_split = is_high[0] == is_high[2] != is_high[1] == is_high[3]
    # The bilinear saddle value, which is where opposite corners meet.
    if is_split and (a * c - b * d) / (a - b + c - d) < 0:
        return [
            _placed(
                [crossings[(index + 3) % 4], _CORNERS[index], crossings[index], _on_diagonal(heights, index)],
                column,
                row,
            )
            for index in range(4)
            if is_high[index]
        ]
    walk: list[Place] = []
    for index in range(4):
        if is_high[index]:
            walk.append(_CORNERS[index])
        if index in crossings:
            walk.append(crossings[index])
            if is_high[index]:
                walk.append(_between(heights, is_high, index))
    return [_placed(walk, column, row)]


def _between(heights: Corners, is_high: list[bool], leaving: int) -> Place:
    """A point of the iso-line that leaves the region on an edge, as far from its ends as is easy to find."""
    low = (leaving + 1) % 4
    following = (low + 1) % 4
    if is_high[following]:
        return _on_diagonal(heights, low)
    if not is_high[(following + 1) % 4]:
        return _on_diagonal(heights, leaving)
    # Opposite edges: where the line halfway between them meets the level, which is linear there.
    before = (leaving + 3) % 4
    inner, outer = heights[leaving] + heights[before], heights[low] + heights[following]
    share = inner / (inner - outer)
    start, end = _halfway(leaving, before), _halfway(low, following)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _on_diagonal(heights: Corners, corner: int) -> Place:
    """The crossing nearest to a corner that is alone on its side, on the diagonal from it."""
    here, there = heights[corner], heights[(corner + 2) % 4]
    beside = heights[(corner + 1) % 4] + heights[(corner + 3) % 4]
    # here(1−s)² + beside·s(1−s) + there·s², which changes sign once before the other side's corner or its saddle.
    square, linear = here - beside + there, beside - 2 * here
    root = math.sqrt(max(linear * linear - 4 * square * here, 0.0))
    divisor = linear + math.copysign(root, linear)
    found = (-2 * here / divisor if divisor else 0.0, -divisor / (2 * square) if square else 2.0)
    share = min((min(share, 1.0) for share in found if 0 <= share <= 1 + 1e-9), default=1.0)
    start, end = _CORNERS[corner], _CORNERS[(corner + 2) % 4]
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _crossing(index: int, corners: Corners, level: float) -> Place:
    """Where an edge meets the level; from its smaller end, so that both cells beside it find the same number."""
    ends = sorted(((_CORNERS[index], corners[index]), (_CORNERS[(index + 1) % 4], corners[(index + 1) % 4])))
    (start, low), (end, high) = ends
    below, over = _above((low, high), level)
    share = below / (below - over)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _above(values: Sequence[float], level: float) -> list[float]:
    """The heights above the level, all of them a quarter where the whole could overflow."""
    factor = 0.25 if max(map(abs, (*values, level))) > _HUGE else 1.0
    return [factor * value - factor * level for value in values]


def _halfway(one: int, other: int) -> Place:
    return (_CORNERS[one][0] + _CORNERS[other][0]) / 2, (_CORNERS[one][1] + _CORNERS[other][1]) / 2


def _placed(walk: list[Place], column: int, row: int) -> list[Place]:
    return [(column + x, row + y) for x, y in walk]


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
