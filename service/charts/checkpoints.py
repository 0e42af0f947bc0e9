"""What the pictures of runs and projects need to know of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from urllib.parse import quote

from saddlescope.contract.numerals import number
from saddlescope.contract.vocabulary import Verdict
from service.charts.marks import in_words, kind_of, shape_at
from service.svg import Point, group, link


@dataclass(frozen=True)
class Bracket:
    """An estimate between two bounds; equal to both where it is exact."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Checkpoint:
    """One analysed checkpoint; a number that is not known is None.

    `index` is n₋/n; `inertia` is (n₋, n₀, n₊), as shares or as counts. `is_critical` is None where nobody has decided.
    """

    job: str
    step: int | None = None
    verdict: Verdict | None = None
    is_critical: bool | None = None
    loss: float | None = None
    gradient_norm: float | None = None
    lambda_min: float | None = None
    lambda_max: float | None = None
    index: float | None = None
    minimum_ratio: Bracket | None = None
    inertia: tuple[float, float, float] | None = None
    name: str = ""

    @property
    def kind(self) -> str:
        return kind_of(self.verdict)

    @property
    def href(self) -> str:
        return f"/jobs/{quote(self.job, safe='')}"

    @property
    def is_hollow(self) -> bool:
        """Whether its mark is empty inside: it is no critical point."""
        return self.verdict is Verdict.NOT_CRITICAL if self.is_critical is None else not self.is_critical

    @property
    def look(self) -> str:
        """The classes of its mark."""
        return f"v {self.kind}{' hollow' if self.is_hollow else ''}"

    def mark(self, at: Point, what: str, *, beside: str = "") -> str:
        """Its shape at a point, which leads to the job; its look is that of the group around it."""
        return link(self.href, f'{beside}<path d="{shape_at(at, self.kind)}"/>', label=self.says(what))

    def says(self, what: str) -> str:
        """For a tooltip: who, when, what."""
        who = [self.name] if self.name else []
        when = [] if self.step is None else [f"step {self.step:,}"]
        return ", ".join([*who, *when, what, in_words(self.kind)])


@dataclass(frozen=True)
class Series:
    """A run: its checkpoints in any order."""

    name: str
    checkpoints: Sequence[Checkpoint]


def named(name: str, value: float) -> str:
    return f"{name} {number(value)}"


def gathered(marks: Iterable[tuple[str, str]], class_: str = "") -> Iterator[str]:
    """(look, mark): in their order, neighbours that look alike in one group, so that a thousand say it once."""
    for look, members in groupby(marks, key=itemgetter(0)):
        yield group((mark for _, mark in members), class_=f"{class_} {look}".strip())
