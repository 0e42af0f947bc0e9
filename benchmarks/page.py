"""Put the stored results into docs/performance.md, between its markers: `python -m benchmarks.page`.

A table stays as it is while nothing is stored for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks import engine_tables, service_tables
from benchmarks.cells import Stored, head, row
from benchmarks.markers import with_table
from benchmarks.peers.environment import REPOSITORY, RESULTS

PAGE = REPOSITORY / "docs" / "performance.md"
TABLES: Mapping[str, Callable[[Stored], Iterable[str]]] = {
    "extreme_pairs": engine_tables.extreme_pairs,
    "peers_fail": engine_tables.peers_fail,
    "dense_verdict": engine_tables.dense_verdict,
    "products": engine_tables.products,
    "callback": engine_tables.callback,
    "toy_latency": service_tables.toy_latency,
    "load": service_tables.load,
    "pages": service_tables.pages,
    "scrape": service_tables.scrape,
    "uploads": service_tables.uploads,
    "start_up": service_tables.start_up,
}
"""By benchmark: the lines of its table. Where it was measured stands below each."""


def write(page: Path = PAGE) -> None:
    page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")


def rendered(text: str, folder: Path = RESULTS) -> str:
    """The page with every table made anew from the results stored in the folder."""
    for name, lines in TABLES.items():
        if (results := _stored(folder, name)) is not None:
            text = with_table(text, name, "\n".join([*lines(results), "", origin(results), ""]))
    if (results := _stored(folder, "promises")) is not None:
        text = with_table(text, "promises", "\n".join([*broken(results), ""]))
    return text


def origin(results: Stored) -> str:
    """Date, machine and versions in one sentence."""
    machine, versions = results["machine"], dict(results["versions"])
    peers = versions.pop("peers", {})
    threads = {None: "", 1: "1 thread of "}.get(machine["threads"], f"{machine['threads']} threads of ")
    where = f"{results['date'][:10]}, {machine['processor']}, {threads}{machine['cores']} cores, load {machine['load_before']}"
    told = [f"Python {versions.pop('python')}", *(f"{package} {version}" for package, version in versions.items())]
    beside = f"; peers: {', '.join(f'{package} {version}' for package, version in peers.items())}" if peers else ""
    return f"{where}; {', '.join(told)}{beside}."


def broken(results: Stored) -> Iterable[str]:
    """How many promises the last runs kept, and those that they did not."""
    told = [promise | {"date": part["date"][:10]} for part in results.values() for promise in part["promises"]]
    missed = [promise for promise in told if not promise["is_kept"]]
    yield f"{len(told) - len(missed)} of {len(told)} promises were kept by the last runs{', but:' if missed else '.'}"
    if missed:
        yield from ("", *head("broken promise", "measured", "at most", "date"))
    for promise in missed:
        measured = "none" if promise["measured"] is None else f"{promise['measured']:.2f}"
        yield row(promise["what"], measured, f"{promise['most']:.2f}", promise["date"])


def _stored(folder: Path, name: str) -> Stored | None:
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    write()
