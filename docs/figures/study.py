"""Draws docs/figures/study.svg from docs/figures/data/study.json: the lecture's figure, and what it leaves out.

python -m docs.figures.study
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DATA = Path(__file__).parent / "data" / "study.json"
TARGET = Path(__file__).with_suffix(".svg")
INK, GREY = "#1c2733", "#8894a0"
COLOURS = {"tanh": "#00798c", "relu": "#b08900"}
NAMES = {"tanh": "tanh", "relu": "ReLU"}

Results = Mapping[str, object]


def draw(results: Results) -> Figure:
    figure = empty_figure()
    lecture, ladder = results["lecture"], results["ladder"]
    counted, honest, rungs, slopes = figure.subplots(2, 2).flat
    count_panel(counted, lecture)
    triple_panel(honest, lecture)
    ladder_panel(rungs, ladder)
    stationary_panel(slopes, lecture)
    return figure


def empty_figure() -> Figure:
    mpl.rcParams["svg.hashsalt"] = "saddlescope"
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["font.family"] = "sans-serif"
    return Figure(figsize=(10.5, 8.4), layout="constrained", facecolor="white")


def count_panel(axes: Axes, lecture: Results) -> None:
    for group in lecture["groups"]:
        networks = group["networks"]
        ratios = [network["strict_ratio"] for network in networks]
        losses = [network["flattest"]["loss"] for network in networks]
        activation = group["activation"]
        axes.scatter(ratios, losses, s=14, color=COLOURS[activation], alpha=0.7, label=NAMES[activation])
    axes.set_xlim(-0.03, 1.03)
    axes.set_yscale("log")
    name(axes, "1. The usual count: λ > 0 in float32", "minimum ratio", "loss")
    axes.legend(frameon=False, fontsize=8)


def triple_panel(axes: Axes, lecture: Results) -> None:
    """n₊/n of each network: filled where the point is critical, hollow where it is not."""
    for group in lecture["groups"]:
        networks, colour = group["networks"], COLOURS[group["activation"]]
        for network in networks:
            report = network["report"]
            total = report["negative"] + report["zero"] + report["positive"]
            face = colour if report["is_critical"] else "none"
            axes.scatter(
                report["positive"] / total, report["loss"], s=16, facecolor=face, edgecolor=colour, linewidth=0.9
            )
        shares = [mean_share(networks, part) for part in ("negative", "zero", "positive")]
        critical = sum(network["report"]["is_critical"] for network in networks)
        label = f"{NAMES[group['activation']]}: ({', '.join(f'{share:.2f}' for share in shares)}), {critical} critical"
        axes.scatter([], [], s=16, facecolor="none", edgecolor=colour, label=label)
    axes.set_xlim(-0.03, 1.03)
    axes.set_yscale("log")
    name(axes, "2. The same points: (n₋, n₀, n₊)/n in the mean, and whether critical", "n₊/n", "loss")
    axes.legend(frameon=False, fontsize=8)


def mean_share(networks: Sequence[Results], part: str) -> float:
    """The mean of n₋/n, n₀/n or n₊/n."""
    return fmean(
        network["report"][part] / sum(network["report"][each] for each in ("negative", "zero", "positive"))
        for network in networks
    )


def ladder_panel(axes: Axes, ladder: Results) -> None:
    for verdict, colour in (("saddle", INK), ("local_minimum", COLOURS["tanh"])):
        points = [point for point in ladder["points"] if point["report"]["verdict"] == verdict]
        ratios = [point["report"]["minimum_ratio"] for point in points]
        losses = [point["report"]["loss"] for point in points]
        axes.scatter(ratios, losses, s=18, color=colour, label=verdict.replace("_", " "))
        if verdict == "saddle":
            for point, ratio, loss in zip(points, ratios, losses, strict=True):
                label, place = f"k = {point['num_trained']}", (ratio, loss)
                axes.annotate(label, place, (0, -11), textcoords="offset points", fontsize=7.5, ha="center")
    axes.set_yscale("log")
    axes.margins(y=0.12)
    axes.legend(frameon=False, fontsize=8)
    name(axes, "3. Exact critical points: k of 8 units trained, the others zero", "minimum ratio", "loss")


def stationary_panel(axes: Axes, lecture: Results) -> None:
    for group in lecture["groups"]:
        networks, colour = group["networks"], COLOURS[group["activation"]]
        for stage, face in (("trained", "none"), ("flattest", colour)):
            norms = [network[stage]["gradient_norm"] for network in networks]
            images = [network[stage]["image"] for network in networks]
            after = "where ‖g‖ is least" if stage == "flattest" else "trained"
            label = f"{NAMES[group['activation']]}, {after}"
            axes.scatter(norms, images, s=16, facecolor=face, edgecolor=colour, linewidth=0.9, alpha=0.8, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    name(axes, "4. Where ‖g‖ is least: how much of g lies outside the flat directions", "‖g‖", "‖Hg‖ / (‖H‖ ‖g‖)")
    axes.legend(frameon=False, fontsize=8)


def name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    results = json.loads(DATA.read_text(encoding="utf-8"))
    draw(results).savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    main()
