"""All eigenvalues of a Hessian: few as bars, many as a histogram."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import quantiles

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import Spectrum
from service.charts.densities import density_picture
from service.charts.eigenvalues import STRIP, extremes, outlier, scale_in_words, sign, zero_band
from service.charts.frames import Box, frame
from service.charts.scales import Linear, Logarithmic, Scale, finite, for_signed
from service.svg import Picture, element, text

MAX_BARS = 64
_BINS = 60
_MAX_OUTLIERS = 12
_FENCE = 3.0
_HEIGHT = 360.0


def spectrum_chart(spectrum: Spectrum) -> Picture:
    """All eigenvalues where they are known, else Ritz values over the estimated density."""
    if spectrum.eigenvalues is None:
        return density_picture(spectrum)
    values = finite(spectrum.eigenvalues)
    counts = Counter(sign(value, spectrum.zero_tol) for value in values)
    scale = for_signed(values, zero_tol=spectrum.zero_tol)
    words = (
        f"{counts['negative']:,} negative, {counts['zero']:,} within ±τ, {counts['positive']:,} positive; "
        f"τ = {number(spectrum.zero_tol)}"
    )
    few = len(values) <= MAX_BARS
    elements = _bars(values, spectrum.zero_tol, scale) if few else _histogram(values, spectrum.zero_tol, scale)
    caption = f"All {len(values):,} eigenvalues: {words}. {scale_in_words(scale)}"
    if not few and _outliers(values, spectrum.zero_tol):
        caption += (
            " ▾ Outliers: beyond three interquartile ranges of the eigenvalues beyond ±τ; "
            f"at most {_MAX_OUTLIERS} are marked at either end."
        )
    between = f" from {number(values[0])} to {number(values[-1])}" if values else ""
    return Picture(
        "Eigenvalues of the Hessian" if few else "Histogram of the Hessian's eigenvalues",
        tuple(elements),
        height=_HEIGHT,
        description=f"{len(values)} eigenvalues{between}: {words}.",
        caption=caption,
    )


def _bars(eigenvalues: Sequence[float], zero_tol: float, scale: Scale) -> Iterator[str]:
    count = len(eigenvalues)
    places = Linear(0.5, max(count, 1) + 0.5, is_whole=True)
    drawn = frame(places, scale, names=("place, in ascending order", "eigenvalue"), box=Box(bottom=_HEIGHT))
    yield from drawn.elements
    top, bottom = sorted((drawn.y(zero_tol), drawn.y(-zero_tol)))
    height = max(bottom - top, 2.0)
    yield element(
        "rect", x=drawn.x.start, y=(top + bottom - height) / 2, width=drawn.x.end - drawn.x.start, height=height,
        class_="nil-band", tip=f"zero: |λ| ≤ τ = {number(zero_tol)}",
    )  # fmt: skip
    zero = drawn.y(0.0)
    yield element("line", x1=drawn.x.start, x2=drawn.x.end, y1=zero, y2=zero, class_="axis")
    yield text(drawn.x.end + 3, zero - 3, "τ", class_="key")
    width = min((drawn.x.end - drawn.x.start) / max(count, 1) * 0.7, 48.0)
    for index, value in enumerate(eigenvalues, start=1):
        kind, tip = sign(value, zero_tol), f"λ{_lowered(index)} = {number(value)}"
        at = drawn.y(value)
        if kind == "zero":
            yield element("circle", cx=drawn.x(index), cy=at, r=min(4.0, width / 2), class_="zero", tip=tip)
        else:
            yield element(
                "rect", x=drawn.x(index) - width / 2, y=min(at, zero), width=width, height=max(abs(at - zero), 1.0),
                class_=kind, tip=tip,
            )  # fmt: skip


def _histogram(eigenvalues: Sequence[float], zero_tol: float, scale: Scale) -> Iterator[str]:
    bins = Counter(_bin(value, zero_tol, scale) for value in eigenvalues)
    # Logarithmic: one negative eigenvalue among thousands is what the reader looks for.
    counts = Logarithmic(-0.3, Logarithmic(0, 1).share(max(bins.values())) * 1.05 + 0.1)
    box = Box(top=STRIP, bottom=_HEIGHT)
    drawn = frame(scale, counts, names=("eigenvalue", "count (logarithmic)"), box=box)
    yield from drawn.elements
    yield from zero_band(drawn, zero_tol)
    for (kind, low, high), count in sorted(bins.items(), key=lambda entry: entry[0][0] == "zero"):
        left, right = (drawn.x.start + share * (drawn.x.end - drawn.x.start) for share in (low, high))
        middle, width = (left + right) / 2, max(right - left - 1, 5.0 if kind == "zero" else 1.5)
        top = drawn.y(count)
        tip = f"{count:,} {'within ±τ' if kind == 'zero' else kind}"
        yield element("rect", x=middle - width / 2, y=top, width=width, height=drawn.bottom - top, class_=kind, tip=tip)
    yield element("line", x1=drawn.x(0.0), x2=drawn.x(0.0), y1=drawn.bottom, y2=drawn.top, class_="axis")
    yield from extremes(drawn, eigenvalues[0], eigenvalues[-1])
    for value in _outliers(eigenvalues, zero_tol):
        yield outlier(drawn, value, zero_tol)


def _outliers(eigenvalues: Sequence[float], zero_tol: float) -> list[float]:
    """The outermost values beyond Tukey's outer fences of those that are not zero, at most some at either end."""
    beyond = [value for value in eigenvalues if abs(value) > zero_tol]
    if len(beyond) < 8:
        return []
    first, _, third = quantiles((value / 2 for value in beyond), n=4)
    reach = _FENCE * (third - first)
    low = [value for value in beyond if value / 2 < first - reach][:_MAX_OUTLIERS]
    high = [value for value in beyond if value / 2 > third + reach][-_MAX_OUTLIERS:]
    return low + high


def _bin(value: float, zero_tol: float, scale: Scale) -> tuple[str, float, float]:
    """The sign and the ends of the bar that a value belongs to, as shares; no bar holds two signs."""
    kind = sign(value, zero_tol)
    low, high = scale.share(-zero_tol), scale.share(zero_tol)
    if kind == "zero":
        return kind, low, high
    low, high = (0.0, low) if kind == "negative" else (high, 1.0)
    bars = max(1, round(_BINS * (high - low)))
    width = (high - low) / bars
    place = min(max(int((scale.share(value) - low) / width), 0), bars - 1)
    return kind, low + place * width, low + (place + 1) * width


def _lowered(index: int) -> str:
    return str(index).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
