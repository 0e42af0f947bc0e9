"""Jobs and reports for people, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from saddlescope.client.comparison import Comparison
from saddlescope.client.progress import numbers
from saddlescope.contract.jobs import Job
from saddlescope.contract.numerals import number
from saddlescope.contract.reports import ExtremeEigenvalue, Report, Spectrum
from saddlescope.contract.vocabulary import JobStatus, Verdict

_COLOURS = {
    Verdict.LOCAL_MINIMUM: "green",
    Verdict.FLAT_MINIMUM: "green",
    Verdict.SADDLE: "red",
    Verdict.LOCAL_MAXIMUM: "red",
    Verdict.FLAT_MAXIMUM: "red",
    Verdict.PLATEAU: "yellow",
    Verdict.GRADIENT_FLAT: "yellow",
    Verdict.NOT_CRITICAL: "cyan",
    Verdict.UNDECIDED: "yellow",
}


def report_panel(report: Report) -> RenderableType:
    """Verdict, numbers, advice and escapes."""
    colour = _COLOURS[report.verdict]
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(report):
        facts.add_row(Text(name, style="dim"), Text(value))
    parts: list[RenderableType] = [Text(report.summary), Text(), facts]
    if report.escapes:
        parts += [Text(), _escapes(report)]
    parts += [Text(f"{warning.code.value}: {warning.detail}", style="yellow") for warning in report.warnings]
    return Panel(Group(*parts), title=Text(report.verdict.value, style=f"bold {colour}"), border_style=colour)


def _facts(report: Report) -> Iterable[tuple[str, str]]:
    inertia, ratio, critical = report.inertia, report.minimum_ratio, report.criticality
    about = "" if inertia.exact else "not counted, estimated "
    yield "parameters, examples", f"{report.num_parameters:,}, {report.num_examples:,}"
    yield "loss", number(report.loss, 6)
    yield "critical", f"{'yes' if critical.is_critical else 'no'}: {critical.rule}"
    yield "curvatures − 0 +", f"{about}{inertia.negative:,}  {inertia.zero:,}  {inertia.positive:,}"
    yield (
        "minimum ratio",
        number(ratio.estimate) + ("" if ratio.exact else f" in [{number(ratio.low)}, {number(ratio.high)}]"),
    )
    yield "λ min", _between(report.lambda_min)
    yield "λ max", _between(report.lambda_max)
    yield "evidence", f"{report.evidence.strength.value}, order {report.evidence.order}: {report.evidence.statement}"
    yield "advice", f"{report.advice.action.value}: {report.advice.because}"
    numerics = report.numerics
    yield (
        "how",
        f"{numerics.method.value}, {numerics.dtype.value}, {numerics.device}, "
        f"{numerics.num_matvecs:,} products, {numerics.seconds:.2f} s",
    )


def _between(value: ExtremeEigenvalue) -> str:
    low = "−∞" if value.low is None else number(value.low, 6)
    high = "∞" if value.high is None else number(value.high, 6)
    if low == high:
        return low
    return f"{number(value.estimate, 6)} in [{low}, {high}], confidence {value.confidence:g}"


def _escapes(report: Report) -> Table:
    table = Table(
        title="Ways out: the loss at θ + step·u", title_justify="left", box=None, header_style="dim", padding=(0, 1)
    )
    for name in ("#", "curvature", "step", "before", "after", "predicted", "measured"):
        table.add_column(name, justify="right")
    for escape in report.escapes:
        values = (
            escape.curvature,
            escape.step,
            escape.loss_before,
            escape.loss_after,
            escape.predicted_decrease,
            escape.decrease,
        )
        table.add_row(
            str(escape.index), *(number(value, 5) for value in values), style="" if escape.verified else "dim"
        )
    return table


def job_table(jobs: Iterable[Job]) -> Table:
    """One line a job."""
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for name in ("job", "status", "verdict", "run", "step", "created"):
        table.add_column(name, no_wrap=name == "job")
    for job in jobs:
        table.add_row(
            job.id,
            Text(job.status.value),
            Text("" if job.verdict is None else job.verdict.value),
            Text("" if job.run is None else job.run.id),
            "" if job.run is None or job.run.step is None else str(job.run.step),
            f"{job.created_at:%Y-%m-%d %H:%M:%S}",
        )
    return table


def job_line(job: Job) -> Text:
    """The state of a job in one line."""
    line = Text(f"{job.id}  {job.status.value}")
    if job.status is JobStatus.RUNNING and job.progress is not None:
        line.append(f"  {job.progress.stage.value} {job.progress.fraction:.0%}  {numbers(job)}")
    if job.error is not None:
        line.append(f"  {job.error.code}: {job.error.detail}", style="red")
    return line


def spectrum_table(spectrum: Spectrum, *, rows: int) -> RenderableType:
    """The lowest and highest values, with residual norms where they are Ritz values."""
    table = Table(box=None, header_style="dim", padding=(0, 2))
    table.add_column("λ", justify="right")
    values: list[tuple[str, ...]]
    if spectrum.eigenvalues is not None:
        heading = f"All {len(spectrum.eigenvalues):,} eigenvalues"
        values = [(number(value, 8),) for value in spectrum.eigenvalues]
    else:
        heading = f"{len(spectrum.ritz)} Ritz values of {spectrum.num_parameters:,} eigenvalues"
        table.add_column("residual norm", justify="right")
        values = [(number(pair.value, 8), number(pair.residual_norm, 2)) for pair in spectrum.ritz]
    if len(values) > rows:
        half = rows // 2
        values = [*values[:half], ("…",), *values[-(rows - half) :]]
        heading += f", the {half} lowest and {rows - half} highest"
    for row in values:
        table.add_row(*row)
    return Group(Text(f"{heading}; zero tolerance {number(spectrum.zero_tol, 3)}"), table)


def comparison_table(comparison: Comparison) -> Table:
    """One line a value; what differs stands out."""
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for name in ("", comparison.before or "before", comparison.after or "after"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for difference in comparison.differences:
        values = (difference.before, difference.after)
        shown = (
            number(value, 6) if isinstance(value, float) else f"{'' if value is None else value}" for value in values
        )
        table.add_row(difference.name.replace("_", " "), *shown, style="dim" if difference.is_equal else "bold")
    return table
