"""The pictures of a report: spectrum, escape curve, landscape, history of a run."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby

from saddlescope.contract.reports import Escape, Landscape, Spectrum
from service.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Picture,
    Scale,
    axes,
    element,
    horizontal,
    number,
    polyline,
    round_ticks,
    vertical,
)

_MAX_BARS = 64
_BINS = 60
_BANDS = 14
# The search for the step looks far away; the picture shows the neighbourhood of what it found.
_SHOWN_STEPS = 2.5


def spectrum_chart(spectrum: Spectrum) -> Picture:
    """Few eigenvalues as bars, many as a histogram, Ritz values over the estimated density."""
    if spectrum.eigenvalues is None:
        return Picture("Spectrum of the Hessian: Ritz values and density", tuple(_density(spectrum)))
    if len(spectrum.eigenvalues) <= _MAX_BARS:
        return Picture("Eigenvalues of the Hessian", tuple(_bars(spectrum.eigenvalues, spectrum.zero_tol)))
    return Picture("Histogram of the Hessian's eigenvalues", tuple(_histogram(spectrum.eigenvalues, spectrum.zero_tol)))


def escape_chart(escape: Escape) -> Picture | None:
    """The measured loss along the way out, beside its quadratic model; None without a curve."""
    curve = escape.curve
    if len(curve.step) < 2:
        return None
    near = [
        point
        for point in zip(curve.step, curve.loss, curve.quadratic, strict=False)
        if abs(point[0]) <= _SHOWN_STEPS * abs(escape.step)
    ]
    samples = near if len(near) >= 3 else list(zip(curve.step, curve.loss, curve.quadratic, strict=False))
    x = horizontal([0.0, escape.step, *(step for step, _, _ in samples)])
    # The model falls without end; the true loss sets the range.
    y = vertical([escape.loss_before, escape.loss_after, *(loss for _, loss, _ in samples)])
    elements = list(axes(x, y, x_label="step along u", y_label="loss"))
    modelled = [(x(step), y(value)) for step, _, value in samples if y.low <= value <= y.high]
    elements.append(polyline(modelled, class_="line model"))
    elements.append(polyline([(x(step), y(loss)) for step, loss, _ in samples], class_="line loss"))
    elements += [element("circle", cx=x(step), cy=y(loss), r=2.5, class_="dot") for step, loss, _ in samples]
    elements.append(element("circle", cx=x(0.0), cy=y(escape.loss_before), r=5, class_="here"))
    elements.append(element("circle", cx=x(escape.step), cy=y(escape.loss_after), r=5, class_="there"))
    return Picture(
        f"Loss along escape direction {escape.index}: {number(escape.loss_before)} to {number(escape.loss_after)}",
        tuple(elements),
    )


def landscape_chart(landscape: Landscape) -> Picture:
    """The loss on the plane in bands of equal area, darker where it is lower."""
    side = HEIGHT - TOP - BOTTOM
    x = Scale(*_edges(landscape.x), (WIDTH - side) / 2, (WIDTH + side) / 2)
    y = Scale(*_edges(landscape.y), HEIGHT - BOTTOM, TOP)
    known = sorted(value for row in landscape.loss for value in row if value is not None)
    bounds = [known[len(known) * band // _BANDS] for band in range(1, _BANDS)] if known else []
    cell = abs(y.end - y.start) / len(landscape.y)
    columns = [x.start + (x.end - x.start) * index / len(landscape.x) for index in range(len(landscape.x) + 1)]
    elements = []
    for row, losses in enumerate(landscape.loss):
        top = y.start - cell * (row + 1)
        bands = [None if value is None else bisect_right(bounds, value) for value in losses]
        # One rectangle per run of equal cells keeps the picture small.
        for band, cells in groupby(range(len(bands)), key=lambda index: bands[index]):
            run = list(cells)
            left, width = columns[run[0]], columns[run[-1] + 1] - columns[run[0]]
            shade = "unknown" if band is None else f"band band-{band}"
            elements.append(element("rect", x=left, y=top, width=width + 0.3, height=cell + 0.3, class_=shade))
    elements += axes(x, y, x_label=landscape.x_label, y_label=landscape.y_label)
    if x.low <= 0 <= x.high and y.low <= 0 <= y.high:
        elements.append(element("circle", cx=x(0.0), cy=y(0.0), r=5, class_="here"))
    if known:
        for line, words in enumerate((f"light: {number(known[-1])}", f"dark: {number(known[0])}")):
            elements.append(element("text", x=x.end + 12, y=TOP + 12 + 16 * line, class_="tick", content=words))
    return Picture("Loss on a plane through θ", tuple(elements))


def history_chart(steps: Sequence[float], values: Sequence[float], *, name: str) -> Picture | None:
    """One number of a run's reports by training step; None for fewer than two."""
    if len(steps) < 2:
        return None
    x, y = horizontal(steps), vertical(values)
    points = [(x(step), y(value)) for step, value in zip(steps, values, strict=True)]
    elements = [*axes(x, y, x_label="training step", y_label=name), polyline(points, class_="line loss")]
    elements += [element("circle", cx=left, cy=top, r=3, class_="dot") for left, top in points]
    return Picture(f"{name} by training step", tuple(elements))


def _sign(value: float, zero_tol: float) -> str:
    if abs(value) <= zero_tol:
        return "zero"
    return "negative" if value < 0 else "positive"


def _bars(eigenvalues: Sequence[float], zero_tol: float) -> Iterator[str]:
    count = len(eigenvalues)
    x = Scale(0.5, count + 0.5, LEFT, WIDTH - RIGHT)
    y = vertical([*eigenvalues, 0.0])
    yield from axes(x, y, x_label="index", y_label="eigenvalue", is_counted=True)
    width = min((x.end - x.start) / count * 0.7, 48.0)
    for index, value in enumerate(eigenvalues, start=1):
        top, bottom = sorted((y(value), y(0.0)))
        kind = _sign(value, zero_tol)
        if kind == "zero":
            yield element("circle", cx=x(index), cy=y(0.0), r=4, class_="zero")
        else:
            yield element(
                "rect", x=x(index) - width / 2, y=top, width=width, height=max(bottom - top, 1.0), class_=kind
            )
    yield element("line", x1=x.start, x2=x.end, y1=y(0.0), y2=y(0.0), class_="axis")


def _histogram(eigenvalues: Sequence[float], zero_tol: float) -> Iterator[str]:
    x = horizontal([*eigenvalues, 0.0])
    width = (x.high - x.low) / _BINS
    counts: dict[tuple[int, str], int] = {}
    for value in eigenvalues:
        key = (min(int((value - x.low) / width), _BINS - 1), _sign(value, zero_tol))
        counts[key] = counts.get(key, 0) + 1
    # Logarithmic: one negative eigenvalue among thousands is what the reader looks for.
    y = Scale(0.0, math.log10(max(counts.values()) + 1) * 1.06, HEIGHT - BOTTOM, TOP)
    for value in round_ticks(x.low, x.high):
        yield element("line", x1=x(value), x2=x(value), y1=y.start, y2=y.end, class_="grid")
        yield element("text", x=x(value), y=y.start + 16, class_="tick middle", content=number(value))
    for power in range(math.ceil(y.high)):
        height = y(math.log10(10**power + 1))
        yield element("line", x1=x.start, x2=x.end, y1=height, y2=height, class_="grid")
        yield element("text", x=x.start - 6, y=height + 4, class_="tick end", content=f"{10**power:,}")
    yield element("text", x=(x.start + x.end) / 2, y=y.start + 36, class_="name middle", content="eigenvalue")
    yield element(
        "text", x=14, y=150, transform="rotate(-90 14 150)", class_="name middle", content="count (logarithmic)"
    )
    for (position, kind), count in sorted(counts.items()):
        left, top = x(x.low + position * width), y(math.log10(count + 1))
        yield element("rect", x=left, y=top, width=(x.end - x.start) / _BINS - 1, height=y.start - top, class_=kind)
    yield element("line", x1=x(0.0), x2=x(0.0), y1=y.start, y2=y.end, class_="axis")


def _density(spectrum: Spectrum) -> Iterator[str]:
    density = spectrum.density
    grid = () if density is None else density.grid
    x = horizontal([*grid, *(pair.value for pair in spectrum.ritz), 0.0])
    y = vertical([0.0, *(() if density is None else density.density), *((1.0,) if density is None else ())])
    yield from axes(x, y, x_label="eigenvalue", y_label="density (smoothed)")
    if density is not None:
        yield polyline(
            [(x(at), y(value)) for at, value in zip(grid, density.density, strict=False)], class_="line loss"
        )
    for pair in spectrum.ritz:
        # The residual norm bounds the distance to an eigenvalue.
        left, right = x(pair.value - pair.residual_norm), x(pair.value + pair.residual_norm)
        kind = _sign(pair.value, spectrum.zero_tol)
        yield element("rect", x=left, y=y(0.0) - 5, width=max(right - left, 2.0), height=10, class_=f"{kind} ritz")
    yield element("line", x1=x(0.0), x2=x(0.0), y1=y.start, y2=y.end, class_="axis")


def _edges(values: Sequence[float]) -> tuple[float, float]:
    """The outer edges of cells whose centres are the values."""
    half = (values[-1] - values[0]) / (len(values) - 1) / 2
    return values[0] - half, values[-1] + half
