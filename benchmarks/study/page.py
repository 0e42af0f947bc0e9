"""Put the stored answers into docs/study.md, between its marks: `python -m benchmarks.study.page`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from benchmarks.peers.environment import REPOSITORY
from benchmarks.study import lecture_tables, theory_tables
from benchmarks.study.cells import Part, table
from docs.figures.study import DATA

PAGE = REPOSITORY / "docs" / "study.md"


def origin(results: Mapping[str, Part]) -> str:
    rows = []
    for name, part in results.items():
        machine, versions = part["machine"], part["versions"]
        workers = f"{machine['workers']} worker{'' if machine['workers'] == 1 else 's'}"
        where = f"{machine['processor']}, {workers} of {machine['threads']} thread"
        what = ", ".join(f"{package} {number}" for package, number in versions.items())
        rows.append((name.replace("_", " "), part["date"], f"{part['seconds']:.0f} s", where, what))
    total = sum(part["seconds"] for part in results.values())
    headings = ("<part", "<date", "took", "<where", "<versions")
    return table(headings, rows, setting=f"{total / 60:.0f} minutes together.")


TABLES: Mapping[str, tuple[str, Callable[[Part], str]]] = {
    "lecture": ("lecture", lecture_tables.lecture),
    "searches": ("lecture", lecture_tables.searches),
    "ladder": ("ladder", lecture_tables.ladder),
    "autoencoder": ("autoencoder", theory_tables.autoencoder),
    "pennington_bahri": ("pennington_bahri", theory_tables.pennington_bahri),
    "escape_time": ("escape_time", theory_tables.escape_time),
    "classes": ("classes", theory_tables.classes),
    "edge": ("edge", theory_tables.edge),
}
"""By mark on the page: the part of the results, and how it is told."""


def with_tables(page: str, results: Mapping[str, Part]) -> str:
    """The page with these results between its marks."""
    told = {mark: tell(results[part]) for mark, (part, tell) in TABLES.items()} | {"origin": origin(results)}
    for mark, table_of_results in told.items():
        begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}{table_of_results}{end}{after}"
    return page


def main() -> None:
    results = json.loads(DATA.read_text(encoding="utf-8"))
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
