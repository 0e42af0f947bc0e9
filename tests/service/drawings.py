"""A drawn picture, parsed back: its elements, and where its words stand in the font with the widest letters."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import cache
from xml.etree import ElementTree

from matplotlib.font_manager import FontProperties, findfont, get_font

from service.svg import Picture, standalone

SVG = "{http://www.w3.org/2000/svg}"
SIZES = {"heading": 15.0, "level": 11.0, "badge-text": 10.0}


@dataclass(frozen=True)
class Words:
    content: str
    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: Words) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def parsed(picture: Picture) -> ElementTree.Element:
    return ElementTree.fromstring(standalone(picture, source="Job job_" + 32 * "a" + "."))


def nodes(picture: Picture, name: str, class_: str = "") -> list[ElementTree.Element]:
    """Elements of a name that have a class, or are in a group that has it."""
    found = []

    def walk(node: ElementTree.Element, around: frozenset[str]) -> None:
        classes = around | set((node.get("class") or "").split())
        if node.tag == SVG + name and (not class_ or class_ in classes):
            found.append(node)
        for child in node:
            walk(child, classes if node.tag in (SVG + "g", SVG + "a") else frozenset())

    walk(parsed(picture), frozenset())
    return found


def number_of(node: ElementTree.Element, name: str) -> float:
    return float(node.get(name) or 0)


def starts(picture: Picture, class_: str) -> list[tuple[float, float]]:
    """Where the paths of a class begin, which for a mark is its point."""
    return [points(node)[0] for node in nodes(picture, "path", class_)]


def points(node: ElementTree.Element) -> list[tuple[float, float]]:
    """The corners of a path of straight lines, in the picture's units."""
    at, corners = (0.0, 0.0), []
    for command, numbers in re.findall(r"([Ml])([^MlzahHv]*)", node.get("d") or ""):
        values = [float(value) for value in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers)]
        for x, y in zip(values[::2], values[1::2], strict=True):
            at = (x, y) if command == "M" else (at[0] + x, at[1] + y)
            corners.append(at)
    return corners


def words_of(picture: Picture) -> list[Words]:
    return [_words(node) for node in parsed(picture).iter(SVG + "text") if node.text]


def assert_legible(picture: Picture) -> None:
    """No words touch others, and none is cut off by the picture's edge."""
    tree = parsed(picture)
    left, top, width, height = (float(value) for value in (tree.get("viewBox") or "").split())
    everything = words_of(picture)
    for words in everything:
        assert left <= words.left, words
        assert words.right <= left + width, words
        assert top <= words.top, words
        assert words.bottom <= top + height, words
    for one, other in itertools.combinations(everything, 2):
        assert not one.touches(other), (one, other)


@cache
def _width(content: str) -> float:
    """In ems, of DejaVu Sans."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    font.set_size(100, 72)
    font.set_text(content)
    return float(font.get_width_height()[0]) / 64 / 100


def _words(node: ElementTree.Element) -> Words:
    classes = (node.get("class") or "").split()
    size = next((SIZES[class_] for class_ in classes if class_ in SIZES), 12.0)
    width = _width(node.text or "") * size
    x, y = number_of(node, "x"), number_of(node, "y")
    before = width / 2 if "middle" in classes else width if "end" in classes else 0.0
    # Digits and capitals reach 0.73 em above the line; descenders 0.2 below.
    if "transform" in node.attrib:
        return Words(node.text or "", x - 0.73 * size, y - width / 2, x + 0.2 * size, y + width / 2)
    return Words(node.text or "", x - before, y - 0.73 * size, x - before + width, y + 0.2 * size)
