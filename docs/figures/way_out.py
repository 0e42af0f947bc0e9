"""Draws docs/figures/way_out.svg from docs/figures/data/way_out.json, and puts the table of the same results into docs/way-out.md.

python -m docs.figures.way_out
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DATA = Path(__file__).parent / "data" / "way_out.json"
TARGET = Path(__file__).with_suffix(".svg")
PAGE = Path(__file__).parents[1] / "way-out.md"
BEGIN, END = "<!-- way_out -->\n", "<!-- end of way_out -->"
WAYS = {
    "alone": ("alone", "#1c2733"),
    "random": ("random step of the same length", "#b08900"),
    "escape": ("escape", "#00798c"),
}

Case = Mapping[str, object]


def curves_of(case: Case, way: str) -> list[Sequence[float]]:
    """One a seed; seeds without a way out have none for `escape` and `random`."""
    return [outcome["curves"][way] for outcome in case["outcomes"] if way in outcome["curves"]]


def spread(curves: Sequence[Sequence[float]]) -> tuple[list[float], list[float], list[float]]:
    """Lowest, middle and highest at each step."""
    columns = list(zip(*curves, strict=True))
    return (
        [min(column) for column in columns],
        [median(column) for column in columns],
        [max(column) for column in columns],
    )


def verdicts(case: Case) -> str:
    told = Counter(outcome["verdict"] for outcome in case["outcomes"])
    return ", ".join(f"{verdict} {count}" for verdict, count in told.most_common())


def draw(results: Mapping[str, object]) -> Figure:
    mpl.rcParams["svg.hashsalt"] = "saddlescope"
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["font.family"] = "sans-serif"
    figure = Figure(figsize=(10.5, 8.8), layout="constrained", facecolor="white")
    panels = figure.subplots(3, 3).flat
    for axes, case in zip(panels, results["cases"], strict=True):
        panel(axes, case)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def panel(axes: Axes, case: Case) -> None:
    for way, (label, colour) in WAYS.items():
        curves = curves_of(case, way)
        if not curves:
            continue
        low, middle, high = spread(curves)
        steps = [index * case["kept_every"] for index in range(len(middle))]
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(steps, middle, color=colour, linewidth=1.8, label=label)
    axes.set_title(f"{case['title']}\n{verdicts(case)}", fontsize=8.5)
    axes.set_ylim(0, 1.04 * max(curve[0] for curve in curves_of(case, "alone")))
    axes.set_xlabel("steps from there", fontsize=8)
    axes.set_ylabel("loss", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def table(results: Mapping[str, object]) -> str:
    """Medians over the seeds, and in brackets the lowest and the highest."""
    lines = [
        "| training | verdicts | loss there | at once | steps | alone | restarted | random | escape | below alone | cost |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case in results["cases"]:
        outcomes = case["outcomes"]
        last = {
            way: [curve[-1] for curve in curves_of(case, way)] for way in ("alone", "restarted", "random", "escape")
        }
        at_once = [outcome["loss_after_escape"] for outcome in outcomes if outcome["loss_after_escape"] is not None]
        pairs = [
            (outcome["curves"]["escape"][-1], outcome["curves"]["alone"][-1])
            for outcome in outcomes
            if "escape" in outcome["curves"]
        ]
        cost = median(outcome["analysis_seconds"] / outcome["step_seconds"] for outcome in outcomes)
        cells = [
            case["title"],
            verdicts(case),
            f"{median(outcome['loss'] for outcome in outcomes):.3g}",
            _between(at_once),
            str(case["num_steps"]),
            *(_between(last[way]) for way in ("alone", "restarted", "random", "escape")),
            f"{sum(escape < alone for escape, alone in pairs)} of {len(outcomes)}",
            f"{cost:.0f} steps",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    settings = [f"- *{case['title']}*: {case['setting']}." for case in results["cases"]]
    machine, versions = results["machine"], results["versions"]
    origin = (
        f"{results['date']}, {machine['processor']}, {machine['threads']} thread; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + "."
    )
    return "\n".join([*lines, "", *settings, "", origin, ""])


def _between(values: Sequence[float]) -> str:
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})" if values else ""


def with_table(text: str, results: Mapping[str, object]) -> str:
    """The page with the table of these results between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table(results)}{END}{after}"


def main() -> None:
    results = json.loads(DATA.read_text(encoding="utf-8"))
    draw(results).savefig(TARGET, metadata={"Date": None})
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
