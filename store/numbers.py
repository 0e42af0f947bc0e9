"""What lists and charts say of a report, read without the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypedDict

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from saddlescope.contract.reports import Report
from store.tables import StoredReport, Table

REPORTS = Table.metadata.tables["reports"]
_BATCH = 500  # of the variables of a statement


class NumberColumns(TypedDict):
    """The columns of `reports` that repeat the JSON."""

    loss: float
    gradient_norm: float
    minimum_ratio: float
    lambda_min: float
    lambda_max: float
    is_critical: bool
    num_negative: int
    num_zero: int
    num_positive: int
    ratio_low: float
    ratio_high: float


_told = attrgetter(*NumberColumns.__annotations__)
NUMBER_COLUMNS = tuple(REPORTS.c[name] for name in NumberColumns.__annotations__)


@dataclass(frozen=True)
class ReportNumbers:
    """The numbers of one report: (n₋, n₀, n₊) and the minimum ratio with its bounds."""

    loss: float
    gradient_norm: float
    minimum_ratio: float
    lambda_min: float
    lambda_max: float
    is_critical: bool
    num_negative: int
    num_zero: int
    num_positive: int
    ratio_low: float
    ratio_high: float

    @property
    def index(self) -> float:
        """n₋/n."""
        return self.num_negative / max(1, self.num_negative + self.num_zero + self.num_positive)


def number_columns(report: Report) -> NumberColumns:
    """The values of a report's columns."""
    return NumberColumns(
        loss=report.loss,
        gradient_norm=report.criticality.gradient_norm,
        minimum_ratio=report.minimum_ratio.estimate,
        lambda_min=report.lambda_min.estimate,
        lambda_max=report.lambda_max.estimate,
        is_critical=report.criticality.is_critical,
        num_negative=report.inertia.negative,
        num_zero=report.inertia.zero,
        num_positive=report.inertia.positive,
        ratio_low=report.minimum_ratio.low,
        ratio_high=report.minimum_ratio.high,
    )


def find_numbers(session: Session, job_ids: Sequence[str]) -> Mapping[str, ReportNumbers]:
    """The numbers of those of the jobs that have a report."""
    found: dict[str, ReportNumbers] = {}
    for start in range(0, len(job_ids), _BATCH):
        batch = job_ids[start : start + _BATCH]
        rows = session.execute(select(REPORTS.c.job_id, *NUMBER_COLUMNS).where(REPORTS.c.job_id.in_(batch)))
        found |= complete(session, {row.job_id: row for row in rows})
    return found


def complete(session: Session, rows: Mapping[str, Row[tuple[object, ...]]]) -> Mapping[str, ReportNumbers]:
    """Rows of NUMBER_COLUMNS by job; of a row that lacks some, the report itself is read."""
    lacking = [job_id for job_id, row in rows.items() if row.is_critical is None]
    found = {job_id: ReportNumbers(*_told(row)) for job_id, row in rows.items() if row.is_critical is not None}
    for start in range(0, len(lacking), _BATCH):
        reports = session.execute(
            select(StoredReport.job_id, StoredReport.report).where(
                StoredReport.job_id.in_(lacking[start : start + _BATCH])
            )
        )
        found |= {job_id: ReportNumbers(**number_columns(report)) for job_id, report in reports}
    return found
