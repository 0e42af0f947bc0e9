"""How numbers and rows stand in the tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Stored = Mapping
"""What a benchmark stored, as JSON has it."""


def head(*titles: str, num_left: int = 1) -> Sequence[str]:
    """The titles and the rule below them; the first columns stand to the left, all others to the right."""
    return row(*titles), f"|{'---|' * num_left}{'--:|' * (len(titles) - num_left)}"


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def short(value: float | None, times: float = 1.0) -> str:
    """This many times the value in two or three digits; nothing where nothing was measured."""
    if value is None:
        return ""
    scaled = value * times
    return f"{scaled:,.0f}" if abs(scaled) >= 10 else f"{scaled:.3g}"
