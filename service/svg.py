"""Pictures as text: escaped elements, linear scales, round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

SVG_MEDIA_TYPE = "image/svg+xml"
# A picture that is opened by itself carries its own style element, and nothing else of it may run or load.
SVG_HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
}
WIDTH, HEIGHT = 640.0, 340.0
_LARGEST = 1e300
LEFT, RIGHT, TOP, BOTTOM = 64.0, 16.0, 16.0, 46.0


@dataclass(frozen=True)
class Picture:
    """An SVG without its style: pages bring theirs, `standalone` adds one."""

    title: str
    elements: tuple[str, ...]
    width: float = WIDTH
    height: float = HEIGHT

    def __html__(self) -> str:
        """For templates, which escape everything that does not say that it is markup."""
        return self.render()

    def render(self, style: str = "") -> str:
        title = escape(self.title)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'role="img" aria-label="{title}"><title>{title}</title>{style}{"".join(self.elements)}</svg>'
        )


def standalone(picture: Picture) -> str:
    style = files("service").joinpath("static/chart.css").read_text(encoding="utf-8")
    return picture.render(f"<style>{style}</style>")


def element(name: str, /, *, content: str | None = None, **attributes: str | float) -> str:
    """One element; an underscore in an attribute's name stands for a hyphen, one at its end is dropped."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_written(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{said}/>" if content is None else f"<{name}{said}>{escape(content)}</{name}>"


def polyline(points: Iterable[tuple[float, float]], *, class_: str) -> str:
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def number(value: float) -> str:
    """Four significant digits, with a true minus sign."""
    rounded = float(f"{value:.4g}")
    return f"{rounded:.7g}".replace("-", "−")


@dataclass(frozen=True)
class Scale:
    """An interval of values on an interval of the picture."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        # Halved first: the difference of two large floats of opposite sign may overflow.
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return self.start + min(max(share, -1.0), 2.0) * (self.end - self.start)


def horizontal(values: Sequence[float]) -> Scale:
    low, high = _widened(values)
    return Scale(low, high, LEFT, WIDTH - RIGHT)


def vertical(values: Sequence[float]) -> Scale:
    low, high = _widened(values)
    return Scale(low, high, HEIGHT - BOTTOM, TOP)


def axes(x: Scale, y: Scale, *, x_label: str, y_label: str, is_counted: bool = False) -> Iterator[str]:
    """Grid, ticks and names of both axes; `is_counted` for whole numbers along x."""
    for value in round_ticks(x.low, x.high):
        if is_counted and not float(value).is_integer():
            continue
        yield element("line", x1=x(value), x2=x(value), y1=y.start, y2=y.end, class_="grid")
        yield element("text", x=x(value), y=y.start + 16, class_="tick middle", content=number(value))
    for value in round_ticks(y.low, y.high):
        yield element("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="grid")
        yield element("text", x=x.start - 6, y=y(value) + 4, class_="tick end", content=number(value))
    yield element("text", x=(x.start + x.end) / 2, y=y.start + 36, class_="name middle", content=x_label)
    middle = (y.start + y.end) / 2
    yield element("text", x=14, y=middle, transform=f"rotate(-90 14 {middle:g})", class_="name middle", content=y_label)


def round_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """At most about `count` multiples of 1, 2 or 5 times a power of ten."""
    rough = (high / 2 - low / 2) / count * 2
    if not math.isfinite(rough) or rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    if power == 0 or not math.isfinite(power * 10):
        return [low, high]
    step = next(multiple * power for multiple in (1, 2, 5, 10) if multiple * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [index * step for index in range(first, min(last, first + 4 * count) + 1)]


def _widened(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a margin, never empty."""
    # Beyond this even a margin overflows; such values are drawn at the edge.
    low, high = max(min(values), -_LARGEST), min(max(values), _LARGEST)
    low, high = min(low, _LARGEST), max(high, -_LARGEST)
    margin = 0.06 * (high / 2 - low / 2) * 2
    if margin <= 1e-12 * max(abs(low), abs(high)):
        margin = 0.1 * max(abs(low), abs(high)) or 1.0
    return low - margin, high + margin


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"
