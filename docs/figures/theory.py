"""Draws docs/figures/theory.svg from docs/figures/data/study.json: what is known of critical points, and what was measured.

python -m docs.figures.theory
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docs.figures.study import DATA, GREY, INK, Results, empty_figure, name

TARGET = Path(__file__).with_suffix(".svg")
HUES = ("#00798c", "#b08900", "#8a3b8f", "#3f7d20", "#b23a48")


def draw(results: Results) -> Figure:
    figure = empty_figure()
    transition, leaving, outliers, edges = figure.subplots(2, 2).flat
    transition_panel(transition, results["pennington_bahri"])
    leaving_panel(leaving, results["escape_time"])
    outlier_panel(outliers, results["classes"])
    edge_panel(edges, results["edge"])
    return figure


def transition_panel(axes: Axes, part: Results) -> None:
    points, critical = part["points"], part["critical_energy"]
    energies = [point["energy"] / critical for point in points]
    axes.plot(energies, [point["index_of_theory"] for point in points], color=GREY, label="limit of large n")
    measured = [point["report"]["negative"] / part["num_dimensions"] for point in points]
    axes.scatter(energies, measured, s=18, color=INK, zorder=3, label=f"n = {part['num_dimensions']}")
    name(axes, "Index of Pennington and Bahri's random Hessians", "energy / critical energy", "index")
    axes.legend(frameon=False, fontsize=8)


def leaving_panel(axes: Axes, part: Results) -> None:
    for way, colour in (("plain", INK), ("perturbed", HUES[0])):
        times = part[way]
        for distance, steps in zip(part["distances"], times, strict=True):
            axes.scatter([distance] * len(steps), steps, s=8, color=colour, alpha=0.35)
        axes.plot(part["distances"], [median(steps) for steps in times], color=colour, label=f"{way} descent")
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_ylim(bottom=0)
    name(axes, "Steps until a strict saddle is left", "distance from the saddle at the start", "steps")
    axes.legend(frameon=False, fontsize=8)


def outlier_panel(axes: Axes, part: Results) -> None:
    colours = dict(zip(dict.fromkeys(point["num_classes"] for point in part["points"]), HUES, strict=False))
    for point in part["points"]:
        label = None if point["seed"] else f"{point['num_classes']} classes"
        ranks, colour = range(1, len(point["largest"]) + 1), colours[point["num_classes"]]
        axes.plot(ranks, point["largest"], color=colour, linewidth=1, marker=".", markersize=4, label=label)
    axes.set_yscale("log")
    name(axes, "Largest eigenvalues of networks that tell digits apart", "rank", "λ")
    axes.legend(frameon=False, fontsize=8)


def edge_panel(axes: Axes, part: Results) -> None:
    for descent, colour in zip(part["descents"], HUES, strict=False):
        label = f"learning rate {descent['learning_rate']:g}"
        axes.plot(descent["steps"], descent["lambda_max"], color=colour, marker=".", markersize=4, label=label)
        axes.axhline(descent["edge"], color=colour, linewidth=0.8, linestyle="dashed")
    axes.set_ylim(bottom=0)
    name(axes, "Full-batch gradient descent; dashed: 2 / learning rate", "step", "λ max")
    axes.legend(frameon=False, fontsize=8)


def main() -> None:
    results = json.loads(DATA.read_text(encoding="utf-8"))
    draw(results).savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    main()
