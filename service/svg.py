"""Pictures as text: escaped elements, compact paths, the frame that a screen reader and a page need."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

SVG_MEDIA_TYPE = "image/svg+xml"
# A picture that is opened by itself carries its own style element, and nothing else of it may run or load.
SVG_HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
}
WIDTH = 640.0
TEXT_SIZE = 12.0
LINE_HEIGHT = 16.0
# In ems, of the widest common sans-serif (DejaVu), so that text fits wherever it is read.
_NARROW = dict.fromkeys("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺₀₊₋ .,:;'|!ijl()[]·/", 0.45)
_USUAL = dict.fromkeys("0123456789abcdefghknopqrstuvxyzλθτ_-?", 0.645)
_WIDE = dict.fromkeys("mwMW@%…—", 1.01)
_WIDTHS = _NARROW | _USUAL | _WIDE
_GLYPH = 0.645
_OTHER, _FULL = 0.85, 1.1
_FULL_FROM = "\u2e80"
_TITLE_ROOM = 34.0
Point = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """An SVG without its style: pages bring theirs, `standalone` adds one.

    `description` says in words what the picture shows; `caption` is drawn below it: where its numbers come from.
    """

    title: str
    elements: tuple[str, ...]
    height: float
    description: str = ""
    caption: str = ""
    width: float = WIDTH
    is_linked: bool = False

    def __html__(self) -> str:
        """For templates, which escape everything that does not say that it is markup."""
        return self.render()

    def render(self, style: str = "", *, source: str | None = None) -> str:
        """By itself where a `source` is said: under its title, on its own paper, the source in its caption."""
        with_title = source is not None
        lines = wrapped(f"{self.caption} {source or ''}", self.width - 16)
        below = [
            text(8, self.height + LINE_HEIGHT * (row + 0.9), line, class_="caption") for row, line in enumerate(lines)
        ]
        top = _TITLE_ROOM if with_title else 0.0
        height = self.height + (LINE_HEIGHT * len(lines) + 6 if lines else 0.0)
        heading = ""
        if with_title:
            # Nobody knows on what it will lie, so it brings its paper.
            heading = element("rect", x=0, y=-top, width=self.width, height=height + top, class_="paper")
            heading += text(8, -12, clipped(self.title, self.width / 1.3), class_="heading")
        # An image hides what is inside it from a screen reader, so a picture with links is a group.
        role = "group" if self.is_linked else "img"
        said = f"<desc>{escape(self.description)}</desc>" if self.description else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 {0 - top:g} {self.width:g} {height + top:g}" '
            f'role="{role}" aria-label="{escape(self.title)}"><title>{escape(self.title)}</title>{said}{style}'
            f"{heading}{''.join(self.elements)}{''.join(below)}</svg>"
        )


def standalone(picture: Picture, *, source: str = "") -> str:
    """With its title, its own style and where it comes from, for a file or a message."""
    style = files("service").joinpath("static/chart.css").read_text(encoding="utf-8")
    return picture.render(f"<style>{style}</style>", source=source)


def element(name: str, /, *, tip: str | None = None, content: str | None = None, **attributes: str | float) -> str:
    """One element; an underscore in an attribute's name stands for a hyphen, one at its end is dropped.

    `tip` becomes its title, which browsers show to a pointer and screen readers say.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_written(value))}"' for key, value in attributes.items()
    )
    inside = "" if tip is None else f"<title>{escape(tip)}</title>"
    inside += "" if content is None else escape(content)
    return f"<{name}{said}>{inside}</{name}>" if inside else f"<{name}{said}/>"


def group(elements: Iterable[str], *, class_: str) -> str:
    """What it holds inherits its class's style, so that a thousand marks say it once."""
    return f'<g class="{escape(class_)}">{"".join(elements)}</g>'


def link(href: str, content: str, *, label: str) -> str:
    return f'<a href="{escape(href)}" aria-label="{escape(label)}">{content}</a>'


def text(x: float, y: float, content: str, *, class_: str = "tick") -> str:
    return element("text", x=x, y=y, class_=class_, content=content)


def path(points: Iterable[Point], *, class_: str, is_closed: bool = False, tip: str | None = None) -> str:
    return element("path", d=path_data(points, is_closed=is_closed), class_=class_, tip=tip)


def path_data(points: Iterable[Point], *, is_closed: bool = False) -> str:
    """Absolute start, relative steps in tenths of a unit: the steps are rounded so that no error adds up."""
    tenths = [(round(10 * x), round(10 * y)) for x, y in points]
    if not tenths:
        return ""
    said = [f"M{_tenths(tenths[0][0])} {_tenths(tenths[0][1])}"]
    steps = [(x - a, y - b) for (a, b), (x, y) in itertools.pairwise(tenths)]
    moves = [f"{_tenths(dx)} {_tenths(dy)}" for dx, dy in steps if dx or dy]
    if moves:
        said.append("l" + " ".join(moves).replace(" -", "-"))
    return "".join(said) + ("z" if is_closed else "")


def text_width(content: str, size: float = TEXT_SIZE) -> float:
    """At least what the text takes in a common sans-serif font."""
    return size * sum(_WIDTHS.get(letter, _FULL if letter >= _FULL_FROM else _OTHER) for letter in content)


def clipped(content: str, room: float) -> str:
    """The text, or its two ends around an ellipsis where it is wider than the room: names differ at either end."""
    if text_width(content) <= room:
        return content
    kept = min(max(int(room / (TEXT_SIZE * _GLYPH)), 2), len(content) - 1)
    while True:
        short = f"{content[: kept - kept // 2]}…{content[len(content) - kept // 2 :]}"
        if kept <= 2 or text_width(short) <= room:
            return short
        kept -= 1


def wrapped(content: str, room: float) -> Sequence[str]:
    """Lines of whole words, each at most as wide as the room."""
    lines: list[str] = []
    for word in content.split():
        if lines and text_width(f"{lines[-1]} {word}") <= room:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(clipped(word, room))
    return lines


def _tenths(value: int) -> str:
    whole, rest = divmod(abs(value), 10)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}" if rest == 0 else f"{sign}{whole or ''}.{rest}"


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
