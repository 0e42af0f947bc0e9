"""The lecture's figure and the ladder in tables."""

from __future__ import annotations

from benchmarks.study.cells import Part, between, extent, mean_triple, several, table, tally, tally_of_sentences

FLAT = 0.01
"""‖Hg‖/(‖H‖‖g‖) below which nearly all of g lies in the flat directions of H."""


def lecture(part: Part) -> str:
    rows = []
    for group in part["groups"]:
        networks = group["networks"]
        reports = [network["report"] for network in networks]
        rows.append(
            (
                group["activation"],
                between([network["flattest"]["loss"] for network in networks]),
                between([network["trained"]["gradient_norm"] for network in networks]),
                between([network["flattest"]["gradient_norm"] for network in networks]),
                between([network["strict_ratio"] for network in networks]),
                mean_triple(reports),
                f"{sum(report['is_critical'] for report in reports)} of {len(reports)}",
                tally(report["verdict"] for report in reports),
            )
        )
    headings = ("loss", "‖g‖ trained", "‖g‖ at its least", "λ > 0 in float32", "(n₋, n₀, n₊)/n", "critical")
    setting = (
        f"{'-'.join(map(str, part['widths']))} networks on {part['num_points']} points, {part['num_steps']:,} steps of Adam at "
        f"{part['learning_rate']:g} on the loss, then as many on ‖g‖ from {part['norm_learning_rate']:g} down. "
        "Median, lowest to highest; the triple is a mean."
    )
    return table(("<network", *headings, "<verdicts"), rows, setting=setting)


def searches(part: Part) -> str:
    rows = []
    for group in part["groups"]:
        images = {
            stage: [network[stage]["image"] for network in group["networks"]] for stage in ("trained", "flattest")
        }
        rows.append(
            (
                group["activation"],
                between(images["trained"]),
                between(images["flattest"]),
                f"{sum(image <= FLAT for image in images['flattest'])} of {len(images['flattest'])}",
                tally_of_sentences(_ending(search) for search in group["searches"]),
            )
        )
    headings = ("‖Hg‖/(‖H‖‖g‖) trained", "where ‖g‖ is least", f"there below {FLAT:g}", "<searches from there")
    return table(("<network", *headings), rows)


def _ending(search: Part) -> str:
    """In the service's words, but for the beginning that all share."""
    if not search["is_found"]:
        return search["ending"].rpartition("was not found: ")[2].rpartition("was not searched: ")[2]
    where = "critical point found" if search["ending"].startswith("at the critical point found") else "critical already"
    return f"{where} ({search['verdict']})"


def ladder(part: Part) -> str:
    units, decay, rows = part["num_units"], part["weight_decay"], []
    kinds = dict.fromkeys((point["num_trained"], point["pull"] > decay) for point in part["points"])
    for num_trained, is_drawn in sorted(kinds):
        points = [
            point
            for point in part["points"]
            if (point["num_trained"], point["pull"] > decay) == (num_trained, is_drawn)
        ]
        reports = [point["report"] for point in points]
        rows.append(
            (
                str(num_trained),
                extent([report["loss"] for report in reports]),
                f"≤ {max(report['gradient_norm'] for report in reports):.1g}",
                extent([decay - point["pull"] for point in points]) if num_trained < units else "",
                extent([report["lambda_min"] for report in reports]),
                str(units - num_trained if is_drawn else 0),
                several(report["negative"] for report in reports),
                several(report["zero"] for report in reports),
                several(f"{report['minimum_ratio']:.2f}" for report in reports),
                several(report["verdict"] for report in reports),
            )
        )
    counts = ("n₋ by theory", "n₋", "n₀", "minimum ratio")
    headings = ("trained units", "loss", "‖g‖", "wd − ‖c‖", "λ min", *counts, "<verdict")
    setting = (
        f"1-{units}-1 tanh, weight decay wd = {decay:g}, {part['num_points']} points, {part['num_starts']} starts for each number "
        "of units; starts that end at the same loss or at no strict minimum are left out."
    )
    return table(headings, rows, setting=setting)
