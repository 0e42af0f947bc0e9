"""The dashboard: what the API answers, for eyes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from saddlescope.contract.vocabulary import JobStatus
from service.access import Visitor
from service.charts import escape_chart, history_chart, landscape_chart, spectrum_chart
from service.jobs import job_or_404
from service.listing import After, Filters, next_url, page_of
from service.parts import PartsOf
from service.rendering import page
from service.results import read_landscape, read_spectrum
from service.runs import RunPoint, run_history
from service.svg import Picture
from service.views import base_of, job_view, report_view
from store.events import list_events
from store.jobs import Order
from store.reports import find_report

router = APIRouter(include_in_schema=False)
_ROWS = 50


@router.get("/")
def index(
    *,
    request: Request,
    parts: PartsOf,
    visitor: Visitor,
    filters: Filters,
    after: After,
    refresh: Annotated[int | None, Query(ge=1, le=3600)] = None,
) -> HTMLResponse:
    """The newest jobs."""
    found = page_of(parts, visitor.project, filters, limit=_ROWS, after=after, order=Order.NEWEST_FIRST)
    base = base_of(request)
    response = page(
        request,
        "index.html",
        jobs=[job_view(row, base) for row in found.items],
        filters=filters,
        project=visitor.project,
        statuses=list(JobStatus),
        next_url=None if found.next is None else next_url(request, found.next),
    )
    if refresh is not None:
        response.headers["refresh"] = str(refresh)
    return response


@router.get("/jobs/{job_id}")
def job_page(request: Request, job_id: str, parts: PartsOf, visitor: Visitor) -> HTMLResponse:
    """One job: its verdict, the numbers behind it, the pictures."""
    row = job_or_404(parts, visitor.project, job_id)
    with parts.sessions() as session:
        stored = find_report(session, project=visitor.project, job_id=job_id)
        events = list_events(session, job_id)
    job = job_view(row, base_of(request))
    if stored is None:
        response = page(request, "job.html", job=job, report=None, events=events, pictures=())
        if not job.done:
            response.headers["refresh"] = "2"
        return response
    report = report_view(stored.report, job_id)
    landscape = read_landscape(parts, stored, job_id)
    pictures: list[tuple[str, Picture]] = [("Spectrum", spectrum_chart(read_spectrum(parts, stored, job_id)))]
    for escape in report.escapes[:1]:
        if (curve := escape_chart(escape)) is not None:
            pictures.append(("Way out", curve))
    if landscape is not None:
        pictures.append(("Landscape", landscape_chart(landscape)))
    return page(request, "job.html", job=job, report=report, events=events, pictures=pictures)


@router.get("/runs/{run_id:path}")
def run_page(request: Request, run_id: str, parts: PartsOf, visitor: Visitor) -> HTMLResponse:
    """One training run over its steps."""
    run = run_history(parts, visitor.project, run_id, base_of(request))
    return page(request, "run.html", run=run, charts=_histories(run.jobs))


def _histories(points: Sequence[RunPoint]) -> list[Picture]:
    """A chart of each number that at least two steps of the run have."""
    placed = [point for point in points if point.step is not None]
    numbers = {
        "loss": [point.loss for point in placed],
        "gradient norm": [point.gradient_norm for point in placed],
        "λ_min": [point.lambda_min for point in placed],
        "minimum ratio": [point.minimum_ratio for point in placed],
    }
    charts = []
    for name, values in numbers.items():
        known = [(point.step, value) for point, value in zip(placed, values, strict=True) if value is not None]
        chart = history_chart([step or 0 for step, _ in known], [value for _, value in known], name=name)
        if chart is not None:
            charts.append(chart)
    return charts
