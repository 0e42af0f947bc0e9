"""Which parameter tensors an escape direction moves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from service.charts.scales import finite
from service.svg import WIDTH, Picture, clipped, element, text, text_width

_MAX_ROWS = 12
_ROW = 24.0
_MAX_NAME = 260.0


def shares_chart(shares: Sequence[tuple[str, float]]) -> Picture | None:
    """The share of ‖u‖² that each tensor holds, largest first, the rest together; None without a share."""
    ordered = sorted(((name, share) for name, share in shares if finite([share])), key=lambda entry: -entry[1])
    if not ordered:
        return None
    kept = len(ordered) if len(ordered) <= _MAX_ROWS else _MAX_ROWS - 1
    rows = [(name, share, "share") for name, share in ordered[:kept]]
    if rest := ordered[kept:]:
        rows.append((f"{len(rest):,} other tensors", sum(share for _, share in rest), "share rest"))
    names = [*_short([name for name, _ in ordered[:kept]]), *(name for name, _, _ in rows[kept:])]
    left = 16 + max(text_width(name) for name in names)
    right = WIDTH - 16 - text_width("100.0 %")
    largest = max(*(share for _, share, _ in rows), 0.0) or 1.0
    elements = []
    for row, (shown, (name, share, class_)) in enumerate(zip(names, rows, strict=True)):
        top = 10 + row * _ROW
        width = max(share, 0.0) / largest * (right - left)
        elements.append(text(left - 8, top + 14, shown, class_="name end"))
        elements.append(
            element("rect", x=left, y=top + 3, width=max(width, 1.0), height=_ROW - 8, class_=class_,
                    tip=f"{name}: {percent(share)}")
        )  # fmt: skip
        elements.append(text(WIDTH - 8, top + 14, percent(share), class_="tick end"))
    bottom = 10 + len(rows) * _ROW
    elements.append(element("line", x1=left, x2=left, y1=8, y2=bottom, class_="axis"))
    largest_words = ", ".join(f"{name} {percent(share)}" for name, share, _ in rows[:3])
    return Picture(
        "Share of the escape direction by parameter tensor",
        tuple(elements),
        height=bottom + 4,
        description=f"{len(ordered)} tensors; largest first: {largest_words}.",
        caption="The part of ‖u‖² that lies in each tensor; all parts make 100 %.",
    )


def _short(names: Sequence[str]) -> list[str]:
    """Names that fit; where what is left of them is alike, without the parts that all tensors have in common."""
    short = [clipped(name, _MAX_NAME) for name in names]
    parts = [name.split(".") for name in names]
    if len(set(short)) == len(names) or len(parts) < 2:
        return short
    # One common part stays on either side: blocks.3.attention says more than 3.
    lead, tail = max(_alike(parts) - 1, 0), max(_alike([part[::-1] for part in parts]) - 1, 0)
    told = ["…" * (lead > 0) + ".".join(part[lead : len(part) - tail]) + "…" * (tail > 0) for part in parts]
    return [clipped(name, _MAX_NAME) for name in told]


def _alike(parts: Sequence[Sequence[str]]) -> int:
    """How many parts all names begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))


def percent(share: float) -> str:
    """With one decimal; what is small but not nothing says so."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"
