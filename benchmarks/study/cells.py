"""How the numbers of the study stand in its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

Part = Mapping[str, object]
INERTIA = ("negative", "zero", "positive")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, setting: str = "") -> str:
    """Columns whose heading begins with `<` stand to the left, all others to the right."""
    titles = [heading.removeprefix("<") for heading in headings]
    rules = ["---" if heading.startswith("<") else "--:" for heading in headings]
    lines = [f"| {' | '.join(titles)} |", f"|{'|'.join(rules)}|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([*lines, "", *([setting, ""] if setting else [])])


def between(values: Sequence[float]) -> str:
    """Median, lowest and highest."""
    return f"{median(values):.2g} ({min(values):.2g} to {max(values):.2g})"


def extent(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def extent_of_steps(values: Sequence[int], most: int) -> str:
    """`most` is where counting stopped."""
    shown = [f"{value:,.0f}" if value < most else f"≥ {most:,}" for value in (median(values), min(values), max(values))]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def triple(counts: Sequence[int]) -> str:
    return f"({', '.join(f'{count:,}' for count in counts)})"


def mean_triple(reports: Sequence[Part]) -> str:
    shares = [fmean(report[part] / sum(report[each] for each in INERTIA) for report in reports) for part in INERTIA]
    return f"({', '.join(f'{share:.2f}' for share in shares)})"


def several(values: Iterable[object]) -> str:
    """Each that occurs, once."""
    return ", ".join(str(value) for value in dict.fromkeys(values))


def tally(words: Iterable[str]) -> str:
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common())


def tally_of_sentences(sentences: Iterable[str]) -> str:
    return "; ".join(f"{count} × {sentence}" for sentence, count in Counter(sentences).most_common())
