"""What is known of critical points and what was measured, in tables."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from benchmarks.study.cells import INERTIA, Part, extent, extent_of_steps, table, tally, triple


def autoencoder(part: Part) -> str:
    rows = []
    for point in part["points"]:
        report, formula, total = point["report"], point["formula"], point["num_parameters"]
        measured, lowest = triple([report[sign] for sign in INERTIA]), f"{report['lambda_min']:.5g}"
        if not report["is_exact"]:
            low, high = point["ratio_low"], point["ratio_high"]
            measured = f"about {measured}; n₊/n in [{low:.4f}, {high:.4f}], the formula's {formula[2] / total:.4f}"
            lowest = f"{report['lambda_min']:.3g}, not below {point['lambda_min_low']:.3g}"
        rows.append(
            (
                f"{point['num_inputs']}, {point['num_units']}",
                f"{total:,}",
                point["what"],
                triple(formula),
                measured,
                f"{point['lambda_min_of_formula']:.5g}",
                lowest,
                report["verdict"],
                f"{point['num_matvecs']:,}",
                f"{point['seconds']:.3g}",
            )
        )
    sizes = ("inputs, units", "parameters", "<eigenvectors taken")
    answers = ("(n₋, n₀, n₊) by formula", "measured", "λ min by formula", "measured", "<verdict", "products", "seconds")
    reasons = [
        f"- *{point['what']}*, {point['num_parameters']:,} parameters: {point['statement']}."
        for point in part["points"]
        if point["report"]["verdict"] == "undecided"
    ]
    setting = "\n".join(["Why `undecided`, in the words of the reports:", "", *reasons]) if reasons else ""
    return table((*sizes, *answers), rows, setting=setting)


def pennington_bahri(part: Part) -> str:
    rows = [
        (
            f"{point['energy'] / part['critical_energy']:.2f}",
            f"{point['index_of_theory']:.4f}",
            f"{point['report']['negative'] / part['num_dimensions']:.4f}",
            f"{point['report']['lambda_min']:.3g}",
            point["report"]["verdict"],
        )
        for point in part["points"]
    ]
    n, critical = part["num_dimensions"], part["critical_energy"]
    setting = f"n = {n}, φ = {part['phi']:g}, critical energy {critical:.4g}; one matrix at each energy."
    headings = ("energy / critical", "index in the limit", "measured", "λ min", "<verdict")
    return table(headings, rows, setting=setting)


def escape_time(part: Part) -> str:
    most, report = part["num_steps"], part["report"]
    rows = [
        (f"{distance:.0e}", extent_of_steps(plain, most), extent_of_steps(perturbed, most))
        for distance, plain, perturbed in zip(part["distances"], part["plain"], part["perturbed"], strict=True)
    ]
    plain, perturbed = [part["plain_from_the_saddle"]], part["perturbed_from_the_saddle"]
    rows.append(("0", extent_of_steps(plain, most), extent_of_steps(perturbed, most)))
    setting = (
        f"Steps at the learning rate {part['learning_rate']:g} until the loss has fallen by {part['gone']:.0%} of what the way out "
        f"gains, {part['num_directions']} directions: median, lowest to highest. Perturbation: of length {part['radius']:g}, once, "
        f"where ‖g‖ ≤ {part['small_gradient']:g}. For each factor of e in the distance plain descent takes "
        f"{part['steps_per_efold']:.3g} steps more (fitted); 1/ln(1 + η|λ min|) is {part['steps_per_efold_of_theory']:.3g} for the "
        f"report's λ min = {report['lambda_min']:.4g}, one of {report['negative']} negative ones. One step of length "
        f"{part['escape']['step']:.3g} along the report's way out gains {part['escape']['decrease']:.3g} of {report['loss']:.3g}."
    )
    return table(("distance at the start", "plain descent", "perturbed descent"), rows, setting=setting)


def classes(part: Part) -> str:
    rows = []
    for num_classes in dict.fromkeys(point["num_classes"] for point in part["points"]):
        points = [point for point in part["points"] if point["num_classes"] == num_classes]
        reports = [point["report"] for point in points]
        beside = [median(point["largest"][rank] for point in points) for rank in (num_classes - 2, num_classes - 1)]
        rows.append(
            (
                str(num_classes),
                f"{points[0]['num_parameters']:,}",
                extent([report["loss"] for report in reports]),
                extent([report["gradient_norm"] for report in reports]),
                ", ".join(str(point["num_outliers"]) for point in points),
                extent([point["largest"][0] for point in points]),
                ", ".join(f"{value:.3g}" for value in beside),
                tally(report["verdict"] for report in reports),
            )
        )
    seeds = len({point["seed"] for point in part["points"]})
    setting = (
        f"The first C digits, one hidden layer of {part['num_hidden']} tanh units, {part['num_steps']} steps of Adam at "
        f"{part['learning_rate']:g}; {seeds} seeds."
    )
    headings = ("classes C", "parameters", "loss", "‖g‖", "above the widest gap", "λ₁", "λ at C − 1 and C", "<verdicts")
    return table(headings, rows, setting=setting)


def edge(part: Part) -> str:
    rows = []
    for descent in part["descents"]:
        curve = descent["lambda_max"]
        late = median(curve[-max(1, len(curve) // 3) :])
        rows.append(
            (
                f"{descent['learning_rate']:g}",
                f"{descent['edge']:.3g}",
                f"{curve[0]:.3g}",
                f"{max(curve):.3g}",
                f"{late:.3g}",
                f"{late / descent['edge']:.2f}",
                f"{descent['losses'][0]:.3g} to {descent['losses'][-1]:.3g}",
                f"{sum(later > earlier for earlier, later in pairwise(descent['losses']))} of {len(curve) - 1}",
            )
        )
    setting = (
        f"{'-'.join(map(str, part['widths']))} tanh on the digits, mean squared error to the unit vectors of the classes, "
        f"{part['num_steps']:,} steps of gradient descent on all data, {len(part['descents'][0]['steps'])} checkpoints each. "
        "*Late*: median of the last third."
    )
    headings = (
        "learning rate η",
        "2/η",
        "λ max at the start",
        "highest",
        "late",
        "late by 2/η",
        "loss",
        "higher than one before",
    )
    return table(headings, rows, setting=setting)
