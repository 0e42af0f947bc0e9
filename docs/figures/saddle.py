"""Draws docs/figures/saddle.svg from an analysis of (1 - w1·w2)² at the origin.

python docs/figures/saddle.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

import saddlescope

TARGET = Path(__file__).with_suffix(".svg")
SURFACE, INK, WAY_OUT, DESCENT = "white", "#1c2733", "#d1495b", "#00798c"


def loss(weights: dict[str, Tensor]) -> Tensor:
    return (1 - weights["w1"] * weights["w2"]) ** 2


def main() -> None:
    origin = {name: torch.zeros((), dtype=torch.float64) for name in ("w1", "w2")}
    report = saddlescope.analyze(loss, origin, lower_bound=0.0)
    landscape, escape = report.landscape, report.escapes[0]
    if landscape is None:
        raise SystemExit("the analysis gave no landscape")

    # The same bytes from the same numbers: no date, and the same identifiers inside the file.
    mpl.rcParams["svg.hashsalt"] = "saddlescope"
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["font.family"] = "sans-serif"
    figure = Figure(figsize=(9, 3.9), layout="constrained", facecolor=SURFACE)
    plane, along = figure.subplots(1, 2, width_ratios=(1.05, 1))

    levels = [0, 0.1, 0.3, 0.6, 0.85, 1, 1.2, 1.6, 2.4, 4, 8, 16, 32]
    filled = plane.contourf(landscape.x, landscape.y, landscape.loss, levels=levels, cmap="YlGnBu", norm="symlog")
    plane.contour(landscape.x, landscape.y, landscape.loss, levels=[1], colors=INK, linewidths=0.8, linestyles=":")
    figure.colorbar(filled, ax=plane, ticks=[0, 0.3, 1, 4, 16], format="%g", label="loss")
    w1, w2 = (escape.step * float(escape.vector[name]) for name in ("w1", "w2"))
    plane.annotate("", (w1, w2), (0, 0), arrowprops={"arrowstyle": "-|>", "color": WAY_OUT, "linewidth": 2})
    plane.plot([0], [0], "o", color=WAY_OUT, markersize=8)
    plane.text(0.12, -0.32, "stuck here: gradient 0", color=INK, fontsize=9)
    plane.set(xlabel="w1", ylabel="w2", title="Loss (1 − w1·w2)² around the origin", aspect="equal")

    steps = torch.linspace(-0.4, 2.0, 97, dtype=torch.float64)
    losses = [float(loss({name: step * part for name, part in escape.vector.items()})) for step in steps]
    along.plot(steps, losses, color=DESCENT, linewidth=2, label="loss")
    model = report.loss + 0.5 * escape.curvature * steps**2
    along.plot(steps, model, "--", color="0.55", label=f"quadratic model, curvature {escape.curvature:.3g}")
    along.plot([0], [report.loss], "o", color=WAY_OUT, markersize=8)
    along.plot([escape.step], [escape.loss_after], "o", color=DESCENT, markersize=8)
    along.annotate(
        f"step {escape.step:.3f}: loss {escape.loss_after:.3g}",
        (escape.step, escape.loss_after),
        (0.35, -0.35),
        fontsize=9,
        color=INK,
        arrowprops={"arrowstyle": "-", "color": "0.6"},
    )
    along.set(xlabel="step along the escape direction", ylabel="loss", title="The way out", ylim=(-0.6, 1.35))
    along.legend(frameon=False, fontsize=9, loc="upper right")
    for axes in (plane, along):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    main()
