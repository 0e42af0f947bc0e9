"""Marks: what a verdict looks like, by shape as well as by colour, and the legends that say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saddlescope.contract.vocabulary import Verdict
from service.svg import Point, element, group, text, text_width

# Around (0, 0), about eleven units wide; minima point down, maxima up, what is flat is cut off.
_SHAPES: dict[str, str] = {
    "local_minimum": "m-5.5-4.5h11l-5.5 9.5z",
    "flat_minimum": "m-6-4h12l-3.5 8h-5z",
    "saddle": "m0-6 6 6-6 6-6-6z",
    "local_maximum": "m-5.5 4.5h11l-5.5-9.5z",
    "flat_maximum": "m-6 4h12l-3.5-8h-5z",
    "plateau": "m-4.5-4.5h9v9h-9z",
    "gradient_flat": "m-6.5-2.5h13v5h-13z",
    "not_critical": "m-4.8 0a4.8 4.8 0 1 0 9.6 0a4.8 4.8 0 1 0-9.6 0z",
    "undecided": "m-1.8-5.5h3.6v3.7h3.7v3.6h-3.7v3.7h-3.6v-3.7h-3.7v-3.6h3.7z",
    "unknown": "m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0z",
}
ORDER = tuple(_SHAPES)
_STROKES = ("solid", "dashed", "dotted", "dash-dot", "long", "sparse", "dense", "broken")


@dataclass(frozen=True)
class Key:
    """One entry of a legend: an example, drawn around (0, 0) of its place, and its words."""

    words: str
    example: str = ""
    line: str = ""


def kind_of(verdict: Verdict | None) -> str:
    """The class of a verdict's mark."""
    return "unknown" if verdict is None else verdict.value


def in_words(kind: str) -> str:
    return "no verdict" if kind == "unknown" else kind.replace("_", " ")


def mark(at: Point, kind: str, *, class_: str = "") -> str:
    """The shape of a verdict at a point."""
    return element("path", d=shape_at(at, kind), class_=f"v {kind} {class_}".rstrip())


def shape_at(at: Point, kind: str) -> str:
    x, y = (f"{value:.1f}".removesuffix(".0") for value in at)
    return f"M{x} {y}{_SHAPES[kind]}"


def stroke_class(place: int) -> str:
    """A line's pattern and colour by its place; eight can be told apart without colour."""
    return f"line s-{place % len(_STROKES)} {_STROKES[place % len(_STROKES)]}"


def verdict_keys(kinds: Iterable[str]) -> list[Key]:
    """A legend of the verdicts that occur, in the order of the vocabulary."""
    present = set(kinds)
    return [
        Key(in_words(kind), example=mark((0, 0), kind, class_="hollow" if kind == "not_critical" else ""))
        for kind in ORDER
        if kind in present
    ]


def legend(keys: Sequence[Key], *, left: float, top: float, right: float) -> tuple[str, float]:
    """Entries in rows from (left, top); the elements, and where the next thing may start."""
    elements, x, y = [], left, top + 10
    for key in keys:
        lead = 30.0 if key.line else 18.0
        width = lead + text_width(key.words) + 18
        if x > left and x + width - 18 > right:
            x, y = left, y + 18
        if key.line:
            elements.append(element("path", d=f"M{x:g} {y - 4:g}h24", class_=key.line))
        if key.example:
            middle = x + (12 if key.line else 7)
            elements.append(f'<g transform="translate({middle:g} {y - 4:g})">{key.example}</g>')
        elements.append(text(x + lead, y, key.words, class_="key"))
        x += width
    return (group(elements, class_="legend"), y + 8) if keys else ("", top)
