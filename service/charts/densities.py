"""Ritz values over the smoothed spectral density, and the sure bounds of the mass below each point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import Density, RitzPair, Spectrum
from service.charts.eigenvalues import STRIP, extremes, sign, zero_band
from service.charts.frames import Box, frame
from service.charts.scales import Linear, Logarithmic, Scale, Unlabelled, linear
from service.svg import Picture, element, path, text

_UPPER, _LOWER = 232.0, 440.0
_RITZ = 10.0
# The two frames share their horizontal axis.
_LABEL_ROOM = 48.0
# The density is smoothed: what is a millionth of its peak is the tail of the smoothing.
_DECADES_SHOWN = 6.0


def density_picture(spectrum: Spectrum) -> Picture:
    """The density with each Ritz value as wide as its residual norm; below it, the bracket of the cumulative mass."""
    density = spectrum.density
    ends = [pair.value + way * pair.residual_norm for pair in spectrum.ritz for way in (-1, 1)]
    x = linear([*(() if density is None else density.grid), *ends, 0.0], margin=0.03)
    elements = list(_upper(spectrum, density, x))
    if density is not None:
        elements += _lower(density, x, spectrum.zero_tol)
    said = f"{len(spectrum.ritz)} Ritz values of {spectrum.num_parameters:,} eigenvalues"
    caption = (
        f"{said}, each bar as wide as twice its residual norm (it holds an eigenvalue), hollow where that leaves its sign "
        f"open; τ = {number(spectrum.zero_tol)}. "
    )
    if density is not None:
        caption += (
            "The density is smoothed: for looking at, never for signs. Below: the share of eigenvalues at most λ as one "
            "random probe sees it, between sure bounds."
        )
    return Picture(
        "Spectrum of the Hessian: Ritz values and density" if density else "Ritz values of the Hessian",
        tuple(elements),
        height=_LOWER if density is not None else _UPPER,
        description=f"{said}{_extremes_in_words(spectrum)}.",
        caption=caption,
    )


def bracket(density: Density) -> Sequence[tuple[float, float, float]]:
    """(λ, least, most): the share of eigenvalues at most λ, as the probe sees it."""
    return list(zip(density.grid, density.cumulative_low, density.cumulative_high, strict=False))


def proven_sign(pair: RitzPair, zero_tol: float) -> str:
    """The sign that an eigenvalue within the residual norm must have; zero where it may lie on either side."""
    low, high = pair.value - pair.residual_norm, pair.value + pair.residual_norm
    return sign(pair.value, zero_tol) if low > zero_tol or high < -zero_tol else "zero"


def _upper(spectrum: Spectrum, density: Density | None, x: Scale) -> Iterator[str]:
    peak = max((value for value in density.density if value > 0), default=1.0) if density is not None else 1.0
    top = Logarithmic(0, 1).share(peak)
    y: Scale = Logarithmic(top - _DECADES_SHOWN, top + 0.3)
    names = ("eigenvalue", "density (logarithmic)") if density is not None else ("eigenvalue", "")
    drawn = frame(
        x,
        y if density is not None else Unlabelled(),
        names=names,
        box=Box(top=STRIP, bottom=_UPPER, label_room=_LABEL_ROOM),
    )
    yield from drawn.elements
    yield from zero_band(drawn, spectrum.zero_tol)
    if density is not None:
        points = [drawn.at(at, value) for at, value in zip(density.grid, density.density, strict=False)]
        floor = [(points[-1][0], drawn.bottom), (points[0][0], drawn.bottom)] if points else []
        yield drawn.cut([path([*points, *floor], class_="area", is_closed=True), path(points, class_="line loss")])
    yield element("line", x1=drawn.x(0.0), x2=drawn.x(0.0), y1=drawn.bottom, y2=drawn.top, class_="axis")
    for pair in spectrum.ritz:
        # The residual norm bounds the distance to an eigenvalue.
        left, right = drawn.x(pair.value - pair.residual_norm), drawn.x(pair.value + pair.residual_norm)
        kind, width = proven_sign(pair, spectrum.zero_tol), max(right - left, 2.0)
        tip = f"Ritz value {number(pair.value)} ± {number(pair.residual_norm)}"
        yield element(
            "rect", x=(left + right - width) / 2, y=drawn.bottom - _RITZ, width=width, height=_RITZ,
            class_=f"{kind} ritz", tip=tip,
        )  # fmt: skip
    if spectrum.ritz:
        values = [pair.value for pair in spectrum.ritz]
        yield from extremes(drawn, min(values), max(values), names=("lowest Ritz value", "highest Ritz value"))


def _lower(density: Density, x: Scale, zero_tol: float) -> Iterator[str]:
    box = Box(top=_UPPER + 26, bottom=_LOWER, label_room=_LABEL_ROOM)
    drawn = frame(x, Linear(0.0, 1.0), names=("eigenvalue λ", "share at most λ"), box=box)
    yield from drawn.elements
    yield from zero_band(drawn, zero_tol)
    low = [drawn.at(at, least) for at, least, _ in bracket(density)]
    high = [drawn.at(at, most) for at, _, most in bracket(density)]
    yield path([*low, *reversed(high)], class_="bracket", is_closed=True, tip="between sure bounds")
    yield path(low, class_="line loss")
    yield path(high, class_="line loss dashed")
    yield text(drawn.x.end - 4, drawn.bottom - 6, "solid: least · dashed: most", class_="key end")


def _extremes_in_words(spectrum: Spectrum) -> str:
    if not spectrum.ritz:
        return ""
    values = [pair.value for pair in spectrum.ritz]
    return f", from {number(min(values))} to {number(max(values))}"
