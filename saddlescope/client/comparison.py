"""Two reports side by side."""

from __future__ import annotations

from typing import Literal

from saddlescope.contract.reports import Report
from saddlescope.contract.strict import Closed


class Difference(Closed):
    """One value in both reports; equal values are listed too, since that they are equal is an answer."""

    name: str
    before: str | float | int | None
    after: str | float | int | None

    @property
    def is_equal(self) -> bool:
        return self.before == self.after


class Comparison(Closed):
    """What changed from one job to another."""

    object: Literal["comparison"] = "comparison"
    before: str | None
    after: str | None
    differences: tuple[Difference, ...]


def compare(before: Report, after: Report) -> Comparison:
    """The values that a run's history is read by."""
    pairs = zip(_values(before), _values(after), strict=True)
    return Comparison(
        before=before.job,
        after=after.job,
        differences=tuple(Difference(name=name, before=one, after=other) for (name, one), (_, other) in pairs),
    )


def _values(report: Report) -> tuple[tuple[str, str | float | int | None], ...]:
    best = next((escape for escape in report.escapes if escape.verified), None)
    return (
        ("verdict", report.verdict.value),
        ("strength", report.evidence.strength.value),
        ("advice", report.advice.action.value),
        ("num_parameters", report.num_parameters),
        ("num_examples", report.num_examples),
        ("loss", report.loss),
        ("gradient_norm", report.criticality.gradient_norm),
        ("negative", report.inertia.negative),
        ("zero", report.inertia.zero),
        ("positive", report.inertia.positive),
        ("minimum_ratio", report.minimum_ratio.estimate),
        ("lambda_min", report.lambda_min.estimate),
        ("lambda_max", report.lambda_max.estimate),
        ("escape_decrease", None if best is None else best.decrease),
        ("method", report.numerics.method.value),
        ("dtype", report.numerics.dtype.value),
    )
