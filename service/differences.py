"""What can be said of a job in one line each, for jobs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from saddlescope.contract.jobs import JobRequest, Options
from saddlescope.contract.losses import ExpressionLoss, NetworkLoss
from saddlescope.contract.reports import Report
from saddlescope.contract.sources import ArtifactSource, InlineSource
from store.records import JobRow

Value = str | int | float | bool | datetime | None
Told = tuple[JobRow, Report | None, JobRequest | None]


@dataclass(frozen=True)
class Row:
    """One field of every job; None where a job has none."""

    name: str
    values: tuple[Value, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def compared(jobs: Sequence[Told]) -> list[Row]:
    """Every field that at least one of the jobs has."""
    fields = [dict(_fields(*told)) for told in jobs]
    names = dict.fromkeys(name for each in fields for name in each)
    rows = [Row(name, tuple(each.get(name) for each in fields)) for name in names]
    return [row for row in rows if any(value is not None for value in row.values)]


def _fields(job: JobRow, report: Report | None, asked: JobRequest | None) -> Iterator[tuple[str, Value]]:
    yield "status", job.status.value
    yield "verdict", None if job.verdict is None else job.verdict.value.replace("_", " ")
    if report is not None:
        yield from _of_report(report)
    yield "error", None if job.error is None else job.error.code.value
    if job.run is not None:
        yield from (("run", job.run.id), ("step", job.run.step), ("run name", job.run.name))
    yield from ((f"label {key}", value) for key, value in job.labels.items())
    if asked is not None:
        yield from _of_request(asked)
    if report is not None:
        yield from _of_numerics(report)
    yield "queue", job.queue
    yield "created (UTC)", job.created_at


def _of_report(report: Report) -> Iterator[tuple[str, Value]]:
    inertia, ratio = report.inertia, report.minimum_ratio
    yield "strength", report.evidence.strength.value
    yield "advice", report.advice.action.value
    yield "loss", report.loss
    yield "gradient norm", report.criticality.gradient_norm
    yield "critical", report.criticality.is_critical
    yield from (("n₋", inertia.negative), ("n₀", inertia.zero), ("n₊", inertia.positive))
    yield "zero tolerance τ", inertia.zero_tol
    yield from (("minimum ratio", ratio.estimate), ("… at least", ratio.low), ("… at most", ratio.high))
    yield from (("λ min", report.lambda_min.estimate), ("λ max", report.lambda_max.estimate))
    yield "ways out", len(report.escapes)
    yield "largest decrease", max((escape.decrease for escape in report.escapes if escape.verified), default=None)


def _of_request(asked: JobRequest) -> Iterator[tuple[str, Value]]:
    loss = asked.loss
    yield "loss given as", loss.kind
    if isinstance(loss, ExpressionLoss):
        yield "expression", loss.expression
    if isinstance(loss, NetworkLoss):
        yield "layers", ", ".join(layer.type for layer in loss.layers)
        yield "criterion", loss.criterion.type
    yield "weight decay", loss.weight_decay
    for name, source in (("checkpoint", asked.checkpoint), ("data", asked.data)):
        if isinstance(source, ArtifactSource):
            yield name, source.artifact
        elif isinstance(source, InlineSource):
            yield name, "in the request"
    for name in Options.model_fields:
        value = getattr(asked.options, name)
        yield f"option {name}", value if value is None or isinstance(value, bool | int | float) else str(value)


def _of_numerics(report: Report) -> Iterator[tuple[str, Value]]:
    numerics = report.numerics
    yield from (("parameters", report.num_parameters), ("examples", report.num_examples))
    yield from (("method", numerics.method.value), ("precision", numerics.dtype.value), ("device", numerics.device))
    yield from (("products", numerics.num_matvecs), ("seconds", numerics.seconds))
    yield from ((f"version of {name}", version) for name, version in report.versions.items())
