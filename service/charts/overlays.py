"""Two to eight spectra on one axis: the share of eigenvalues at most λ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import Spectrum
from service.charts.densities import bracket
from service.charts.eigenvalues import STRIP, scale_in_words, zero_band
from service.charts.frames import Box, Frame, frame
from service.charts.marks import Key, legend, stroke_class
from service.charts.scales import Linear, finite, for_signed
from service.svg import WIDTH, Picture, Point, clipped, element, path, text

_HEIGHT = 384.0
_BADGE = 7.0
# Nearer than this two points cannot be told apart.
_RESOLUTION = 0.4
_MOST_STEPS = 2_000
Stairs = Sequence[tuple[float, float]]


def overlay_chart(spectra: Sequence[tuple[str, Spectrum]]) -> Picture | None:
    """Staircases of exact spectra, brackets of estimated ones, numbered; None where no spectrum can be drawn."""
    drawable = [(name, spectrum, stairs_of(spectrum)) for name, spectrum in spectra]
    shown = [(name, spectrum, stairs) for name, spectrum, stairs in drawable if stairs]
    if not shown:
        return None
    keys = [
        Key(clipped(f"{place + 1} {name}", 280), line=stroke_class(place)) for place, (name, _, _) in enumerate(shown)
    ]
    said, top = legend(keys, left=12, top=0, right=WIDTH - 8)
    tolerance = max(spectrum.zero_tol for _, spectrum, _ in shown)
    x = for_signed((value for _, _, stairs in shown for value, _ in stairs), zero_tol=tolerance)
    box = Box(top=top + STRIP / 2, bottom=_HEIGHT + top)
    drawn = frame(x, Linear(0.0, 1.0), names=("eigenvalue λ", "share at most λ"), box=box)
    lines = [
        line for place, (_, spectrum, stairs) in enumerate(shown) for line in _lines(place, spectrum, stairs, drawn)
    ]
    badges = [
        badge
        for place, (_, _, stairs) in enumerate(shown)
        for badge in _badge(place, stairs, drawn, (place + 0.5) / len(shown))
    ]
    axis = element("line", x1=drawn.x(0.0), x2=drawn.x(0.0), y1=drawn.bottom, y2=drawn.top, class_="axis")
    caption = f"Where a line meets the zero band is the index n₋/n. Widest τ = {number(tolerance)}. {scale_in_words(x)}"
    if any(spectrum.eigenvalues is None for _, spectrum, _ in shown):
        caption += " A pair of lines brackets a spectrum that was estimated, as one random probe sees it."
    if len(shown) < len(drawable):
        caption += f" {len(drawable) - len(shown)} without known shares: not drawn."
    return Picture(
        "Spectra compared: share of eigenvalues at most λ",
        (*drawn.elements, *zero_band(drawn, tolerance), axis, said, *lines, *badges),
        height=_HEIGHT + top,
        description=" ".join(
            f"{name}: λ from {number(stairs[0][0])} to {number(stairs[-1][0])}." for name, _, stairs in shown
        ),
        caption=caption,
    )


def stairs_of(spectrum: Spectrum) -> Stairs:
    """(λ, share of eigenvalues at most λ), ascending; of an estimate the middle of its bracket."""
    if spectrum.eigenvalues is not None:
        values = sorted(finite(spectrum.eigenvalues))
        count, steps = len(values), min(len(values), _MOST_STEPS)
        # Evenly by share: between two steps of a large spectrum lies less than can be seen.
        places = (step * (count - 1) // max(steps - 1, 1) for step in range(steps))
        return [(values[place], (place + 1) / count) for place in places]
    if spectrum.density is not None:
        return [(at, (least + most) / 2) for at, least, most in bracket(spectrum.density)]
    return []


def _lines(place: int, spectrum: Spectrum, stairs: Stairs, drawn: Frame) -> Iterator[str]:
    if spectrum.eigenvalues is None and spectrum.density is not None:
        low = [drawn.at(at, least) for at, least, _ in bracket(spectrum.density)]
        high = [drawn.at(at, most) for at, _, most in bracket(spectrum.density)]
        yield path([*low, *reversed(high)], class_=f"bracket s-{place % 8}", is_closed=True)
        yield path(low, class_=stroke_class(place))
        yield path(high, class_=stroke_class(place))
    else:
        yield path(_staircase(stairs, drawn), class_=stroke_class(place))


def _staircase(stairs: Stairs, drawn: Frame) -> list[Point]:
    """From zero up, one corner for what lies closer together than can be seen."""
    points = [(drawn.x.start, drawn.y(0.0)), (drawn.x(stairs[0][0]), drawn.y(0.0))]
    for value, share in stairs:
        x, y = drawn.at(value, share)
        if x - points[-1][0] >= _RESOLUTION:
            points += [(x, points[-1][1]), (x, y)]
        else:
            points[-1] = (points[-1][0], y)
            if len(points) == 2 or points[-2][0] != points[-1][0]:
                points.insert(-1, (points[-1][0], points[-2][1]))
    points.append((drawn.x.end, points[-1][1]))
    return points


def _badge(place: int, stairs: Stairs, drawn: Frame, share: float) -> Iterator[str]:
    """The spectrum's number where its line has a share of its own."""
    value = next((value for value, reached in stairs if reached >= share), stairs[-1][0])
    x, y = drawn.at(value, share)
    yield element("circle", cx=x, cy=y, r=_BADGE, class_=f"badge s-{place % 8}")
    yield text(x, y + 4, str(place + 1), class_="badge-text middle")
