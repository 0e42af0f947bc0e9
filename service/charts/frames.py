"""The two axes of a picture: where values lie, grid, tick labels that never touch, names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from service.charts.scales import Scale, Ticks
from service.svg import TEXT_SIZE, WIDTH, Point, clipped, element, group, text, text_width

_GAP = 10.0
_TICK_ROOM = 36.0
_MOST_ACROSS = 8


@dataclass(frozen=True)
class Axis:
    """A scale between two positions of the picture."""

    scale: Scale
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + self.scale.share(value) * (self.end - self.start)


@dataclass(frozen=True)
class Box:
    """The outside of a frame, tick labels and names within."""

    left: float = 8.0
    top: float = 14.0
    right: float = WIDTH - 8.0
    bottom: float = 300.0
    label_room: float | None = None
    """For the tick labels at the left; None for as much as they need."""


@dataclass(frozen=True)
class Frame:
    x: Axis
    y: Axis
    elements: tuple[str, ...]

    def at(self, x: float, y: float) -> Point:
        return self.x(x), self.y(y)

    @property
    def top(self) -> float:
        return min(self.y.start, self.y.end)

    @property
    def bottom(self) -> float:
        return max(self.y.start, self.y.end)

    def cut(self, elements: Sequence[str]) -> str:
        """Cut at the frame: a nested picture shows nothing outside itself and needs no identifier."""
        width, height = self.x.end - self.x.start, self.bottom - self.top
        inside = "".join(elements)
        return (
            f'<svg x="{self.x.start:g}" y="{self.top:g}" width="{width:g}" height="{height:g}" '
            f'viewBox="{self.x.start:g} {self.top:g} {width:g} {height:g}">{inside}</svg>'
        )


def frame(x: Scale, y: Scale, *, names: tuple[str, str], box: Box = Box(), is_square: bool = False) -> Frame:
    """Fit both axes into the box; the widest label decides the room at the left."""
    bottom = box.bottom - 2 * TEXT_SIZE - 16
    upward = y.ticks(max(int((bottom - box.top) / _TICK_ROOM), 2))
    widest = max((text_width(label) for label in upward.labels), default=0.0)
    if box.label_room is not None:
        widest = box.label_room
    left = box.left + (TEXT_SIZE + 8 if names[1] else 0) + widest + 8
    # The last label is centred under its tick.
    right = box.right - 12
    if is_square:
        side = min(right - left, bottom - box.top)
        right, bottom = left + side, box.top + side
    across = _fitting(x, left, right, box)
    horizontal, vertical = Axis(x, left, right), Axis(y, bottom, box.top)
    grid = [
        element("line", x1=horizontal(value), x2=horizontal(value), y1=bottom, y2=box.top) for value in across.values
    ]
    grid += [element("line", x1=left, x2=right, y1=vertical(value), y2=vertical(value)) for value in upward.values]
    labels = [
        text(_centre(horizontal(value), label, box), bottom + 16, label, class_="tick middle")
        for value, label in zip(across.values, across.labels, strict=True)
    ]
    labels += [
        text(left - 8, vertical(value) + 4, label, class_="tick end")
        for value, label in zip(upward.values, upward.labels, strict=True)
    ]
    middle = (bottom + box.top) / 2
    said = clipped(across.named(names[0]), box.right - box.left)
    centre = min(max((left + right) / 2, box.left + text_width(said) / 2), box.right - text_width(said) / 2)
    labels.append(text(centre, bottom + 34, said, class_="name middle"))
    if names[1]:
        labels.append(_upright(box.left + TEXT_SIZE, middle, upward.named(names[1]), room=bottom - box.top + 40))
    return Frame(horizontal, vertical, (group(grid, class_="grid"), *labels))


def _fitting(scale: Scale, left: float, right: float, box: Box) -> Ticks:
    """As many ticks as have room for their labels beside each other."""
    axis = Axis(scale, left, right)
    for most in range(_MOST_ACROSS, 0, -1):
        ticks = scale.ticks(most)
        spans = [
            (_centre(axis(value), label, box) - text_width(label) / 2, text_width(label))
            for value, label in zip(ticks.values, ticks.labels, strict=True)
        ]
        if all(x + width + _GAP <= after for (x, width), (after, _) in itertools.pairwise(spans)):
            return ticks
    return Ticks(ticks.values[:1], ticks.labels[:1], ticks.power, ticks.minus)


def _centre(x: float, label: str, box: Box) -> float:
    """Under its tick, but inside the picture."""
    half = text_width(label) / 2
    return min(max(x, box.left + half), box.right - half)


def _upright(x: float, y: float, name: str, *, room: float) -> str:
    return element(
        "text", x=x, y=y, transform=f"rotate(-90 {x:g} {y:g})", class_="name middle", content=clipped(name, room)
    )
