"""One matplotlib figure of a report: spectrum, escape curve, landscape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import Escape, Landscape, Report, Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(report: Report, spectrum: Spectrum, landscape: Landscape | None) -> Figure:
    """Draw what there is, side by side.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  an extra, needed here alone
    except ImportError:
        raise ImportError("a plot needs matplotlib: pip install saddlescope[plot]") from None

    best = max(report.escapes, key=lambda escape: escape.decrease, default=None)
    num_panels = 1 + (best is not None) + (landscape is not None)
    figure = Figure(figsize=(5 * num_panels, 4), layout="constrained")
    panels = iter(figure.subplots(1, num_panels, squeeze=False)[0])
    _draw_spectrum(next(panels), spectrum)
    if best is not None:
        _draw_escape(next(panels), best)
    if landscape is not None:
        _draw_landscape(next(panels), landscape)
    figure.suptitle(f"{report.verdict.value}: {report.summary}", wrap=True)
    return figure


def _draw_spectrum(axes: Axes, spectrum: Spectrum) -> None:
    axes.set_xlabel("curvature λ")
    axes.axvline(0.0, color="0.6", linewidth=0.8)
    if spectrum.eigenvalues is not None:
        axes.plot(spectrum.eigenvalues, range(1, len(spectrum.eigenvalues) + 1), ".", color="tab:blue")
        axes.set_ylabel("eigenvalues up to λ")
        axes.set_title("Spectrum (exact)")
        return
    if spectrum.density is not None:
        axes.plot(spectrum.density.grid, spectrum.density.density, color="tab:blue")
    for pair in spectrum.ritz:
        axes.axvline(pair.value, color="tab:orange", linewidth=0.4)
    axes.set_ylabel("smoothed density")
    axes.set_title("Spectrum (Ritz values)")


def _draw_escape(axes: Axes, escape: Escape) -> None:
    # The line search also looks far away, where the loss may be thousands of times larger than near θ.
    reach = 1.5 * abs(escape.step)
    near = [index for index, step in enumerate(escape.curve.step) if abs(step) <= reach]
    steps = [escape.curve.step[index] for index in near]
    axes.plot(steps, [escape.curve.loss[index] for index in near], color="tab:blue", label="loss")
    axes.plot(steps, [escape.curve.quadratic[index] for index in near], "--", color="0.6", label="quadratic model")
    axes.plot([escape.step], [escape.loss_after], "o", color="tab:green", label="θ + step·u")
    axes.set_xlabel("step along u")
    axes.set_ylabel("loss")
    axes.set_title(f"Escape {escape.index}, curvature {number(escape.curvature, 3)}")
    axes.legend()


def _draw_landscape(axes: Axes, landscape: Landscape) -> None:
    loss = [[float("nan") if value is None else value for value in row] for row in landscape.loss]
    drawn = axes.contourf(landscape.x, landscape.y, loss, levels=24, cmap="viridis")
    axes.figure.colorbar(drawn, ax=axes)
    axes.plot([0.0], [0.0], "o", color="white", markeredgecolor="black")
    axes.set_xlabel(landscape.x_label)
    axes.set_ylabel(landscape.y_label)
    axes.set_title("Loss around θ")
