"""Put the stored results into docs/performance.md, between its markers: `python -m benchmarks.peers.page`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from benchmarks.markers import with_table
from benchmarks.peers.environment import REPOSITORY, RESULTS

PAGE = REPOSITORY / "docs" / "performance.md"


def main() -> None:
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def rendered(text: str) -> str:
    """The page with every table made anew from the stored results."""
    for name, render in (
        ("extreme_pairs", extreme_pairs),
        ("dense_verdict", dense_verdict),
        ("peers_fail", peers_fail),
    ):
        path = RESULTS / f"{name}.json"
        if path.exists():
            text = with_table(text, name, render(json.loads(path.read_text())))
    return text


def extreme_pairs(results: Mapping) -> str:
    lines = ["| workload | contestant | seconds | products | times ours |", "|---|---|--:|--:|--:|"]
    for workload in results["workloads"]:
        ours = workload["contestants"][0]["median_seconds"]
        title = f"{workload['workload']}, n = {workload['num_parameters']:,}"
        for contestant in workload["contestants"]:
            seconds, failure = contestant["median_seconds"], contestant["failure"]
            if seconds is None or ours is None or failure is not None:
                lines.append(f"| {title} | {contestant['contestant']} | no: {failure} | | |")
            else:
                products = sorted(contestant["num_products"])[len(contestant["num_products"]) // 2]
                lines.append(
                    f"| {title} | {contestant['contestant']} | {seconds:.2f} | {products} | {seconds / ours:.2f} |"
                )
            title = ""
    return "\n".join([*lines, "", _origin(results), ""])


def dense_verdict(results: Mapping) -> str:
    lines = [f"| {results['workload']}, n = {results['num_parameters']:,} | seconds |", "|---|--:|"]
    lines += [f"| {entry['contestant']} | {entry['median_seconds']:.2f} |" for entry in results["contestants"]]
    return "\n".join([*lines, f"| ratio | {results['ratio']:.2f} |", "", _origin(results), ""])


def peers_fail(results: Mapping) -> str:
    lines = ["| case | library | its documented default | the best documented setting |", "|---|---|---|---|"]
    for case in results["cases"]:
        title = f"{case['title']}: {case['num_eigenvalues']} eigenvalues"
        attempts = [attempt for attempt in results["attempts"] if attempt["case"] == case["name"]]
        for library in dict.fromkeys(attempt["library"] for attempt in attempts):
            ways = sorted((a for a in attempts if a["library"] == library), key=lambda a: not a["is_default"])
            cells = [f"`{way['call']}`: {way['words']}" for way in ways]
            lines.append(f"| {title} | {library} | {' | '.join(cells)} |")
            title = ""
    return "\n".join([*lines, "", _origin(results), ""])


def _origin(results: Mapping) -> str:
    machine, versions = results["machine"], results["versions"]
    peers = ", ".join(f"{name} {version}" for name, version in versions["peers"].items())
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return (
        f"{results['date'][:10]}, {machine['processor']}, {threads} of {machine['cores']} cores, load "
        f"{machine['load_before']} before; Python {versions['python']}, torch {versions['torch']}, {peers}."
    )


if __name__ == "__main__":
    main()
