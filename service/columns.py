"""The columns of a list of jobs: the same on a page, in CSV and in NDJSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from store.lists import ListedJob, SortKey
from store.numbers import ReportNumbers

Cell = str | int | float | bool | datetime | Mapping[str, str] | None


class Kind(StrEnum):
    """How a cell is shown."""

    TEXT = "text"
    NUMBER = "number"
    COUNT = "count"
    MOMENT = "moment"
    SECONDS = "seconds"
    STATUS = "status"
    VERDICT = "verdict"
    RUN = "run"
    LABELS = "labels"


@dataclass(frozen=True)
class Column:
    key: str
    title: str
    kind: Kind
    value: Callable[[ListedJob], Cell]
    sort: SortKey | None = None

    @property
    def is_number(self) -> bool:
        return self.kind in (Kind.NUMBER, Kind.COUNT, Kind.SECONDS)


def _number(read: Callable[[ReportNumbers], float | int]) -> Callable[[ListedJob], Cell]:
    return lambda listed: None if listed.numbers is None else read(listed.numbers)


def _inertia(listed: ListedJob) -> Cell:
    numbers = listed.numbers
    return None if numbers is None else f"{numbers.num_negative}, {numbers.num_zero}, {numbers.num_positive}"


COLUMNS: tuple[Column, ...] = (
    Column("status", "Status", Kind.STATUS, lambda listed: listed.job.status),
    Column("verdict", "Verdict", Kind.VERDICT, lambda listed: listed.job.verdict),
    Column("run", "Run", Kind.RUN, lambda listed: None if listed.job.run is None else listed.job.run.id),
    Column("name", "Run name", Kind.TEXT, lambda listed: None if listed.job.run is None else listed.job.run.name),
    Column("step", "Step", Kind.COUNT, lambda listed: None if listed.job.run is None else listed.job.run.step),
    Column("loss", "Loss", Kind.NUMBER, _number(lambda numbers: numbers.loss), SortKey.LOSS),
    Column("gradient_norm", "‖g‖", Kind.NUMBER, _number(lambda numbers: numbers.gradient_norm), SortKey.GRADIENT_NORM),
    Column("index", "n₋/n", Kind.NUMBER, _number(lambda numbers: numbers.index)),
    Column("inertia", "n₋, n₀, n₊", Kind.TEXT, _inertia),
    Column(
        "minimum_ratio",
        "Minimum ratio",
        Kind.NUMBER,
        _number(lambda numbers: numbers.minimum_ratio),
        SortKey.MINIMUM_RATIO,
    ),
    Column("lambda_min", "λ min", Kind.NUMBER, _number(lambda numbers: numbers.lambda_min), SortKey.LAMBDA_MIN),
    Column("lambda_max", "λ max", Kind.NUMBER, _number(lambda numbers: numbers.lambda_max), SortKey.LAMBDA_MAX),
    Column("labels", "Labels", Kind.LABELS, lambda listed: listed.job.labels),
    Column("error", "Error", Kind.TEXT, lambda listed: None if listed.job.error is None else listed.job.error.code),
    Column(
        "seconds", "Time", Kind.SECONDS, lambda listed: None if listed.job.usage is None else listed.job.usage.seconds
    ),
    Column(
        "matvecs",
        "Products",
        Kind.COUNT,
        lambda listed: None if listed.job.usage is None else listed.job.usage.matvecs,
    ),
    Column("device", "Device", Kind.TEXT, lambda listed: None if listed.job.usage is None else listed.job.usage.device),
    Column("queue", "Queue", Kind.TEXT, lambda listed: listed.job.queue),
    Column("attempt", "Attempts", Kind.COUNT, lambda listed: listed.job.attempt),
    Column("created", "Created (UTC)", Kind.MOMENT, lambda listed: listed.job.created_at, SortKey.CREATED),
    Column("finished", "Finished (UTC)", Kind.MOMENT, lambda listed: listed.job.finished_at),
)
BY_KEY: Mapping[str, Column] = {column.key: column for column in COLUMNS}
DEFAULT_KEYS = ("status", "verdict", "run", "step", "loss", "gradient_norm", "minimum_ratio", "lambda_min", "created")
