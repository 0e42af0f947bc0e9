"""One job: the verdict in a sentence, the numbers and the pictures behind it, its history, and what can be done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from saddlescope.contract.reports import Escape, Landscape, Report
from service.access import Visitor
from service.charts import contour_chart, escape_chart, shares_chart, spectrum_chart, surface_chart
from service.directions import TooLarge, check_size, tensor_shares
from service.failures import FAILURES
from service.jobs import job_or_404
from service.pages.figures import Figure, figures
from service.parts import Parts, PartsOf
from service.rendering import page
from service.results import read_landscape, read_spectrum
from service.snippets import as_curl, as_python
from service.svg import Picture
from service.views import base_of, job_view, report_view
from store.attempts import list_attempts
from store.events import list_events
from store.jobs import find_request
from store.reports import StoredReport, find_report

router = APIRouter(include_in_schema=False)
_SHOWN = 4


class PlaneChart(Protocol):
    __name__: str

    def __call__(self, landscape: Landscape, *, model: bool = False) -> Picture | None: ...


# Each picture of the plane: its name, the file where it stands alone, how it is drawn, and whether it is of the model.
_OF_PLANE: tuple[tuple[str, str | None, PlaneChart, bool], ...] = (
    ("Error surface", "contours.svg", contour_chart, False),
    ("Its quadratic model", None, contour_chart, True),
    ("Error surface in space", "surface.svg", surface_chart, False),
    ("Its quadratic model in space", None, surface_chart, True),
)


@dataclass(frozen=True)
class ShownEscape:
    """One way out: its curve, and in which tensors it lies, or why that is not told."""

    escape: Escape
    pictures: list[Figure]
    no_shares: str | None


@router.get("/jobs/{job_id}")
def job_page(request: Request, job_id: str, parts: PartsOf, visitor: Visitor) -> HTMLResponse:
    """The job now. While it is not done, the page follows it."""
    row = job_or_404(parts, visitor.project, job_id)
    base = base_of(request)
    with parts.sessions() as session:
        stored = find_report(session, project=visitor.project, job_id=job_id)
        asked = find_request(session, project=visitor.project, job_id=job_id)
        events, attempts = list_events(session, job_id), list_attempts(session, job_id)
    report = None if stored is None else report_view(stored.report, job_id)
    return page(
        request,
        "job.html",
        job=job_view(row, base),
        mend=None if row.error is None else FAILURES[row.error.code].mend,
        report=report,
        figures=[] if stored is None else _figures(parts, stored, job_id),
        escapes=[] if stored is None or report is None else _escapes(parts, stored, report),
        events=events,
        attempts=attempts,
        curl=None if asked is None else as_curl(asked, base, parts.settings.auth),
        python=None if asked is None else as_python(asked, base, parts.settings.auth),
        retried_from=row.retry_of or row.deduplicated_from,
    )


def _figures(parts: Parts, stored: StoredReport, job_id: str) -> list[Figure]:
    at, blob = f"/v1/jobs/{job_id}", stored.landscape_blob
    spectrum = parts.drawn.pictures("spectrum", stored.spectrum_blob, draw=partial(_spectrum, parts, stored, job_id))
    shown = figures("Spectrum", spectrum, f"{at}/spectrum.svg")
    if blob is None:
        return shown
    # Read once, for the first of its pictures that is not kept.
    landscape = cache(partial(read_landscape, parts, stored, job_id))
    for name, file, chart, model in _OF_PLANE:
        draw = partial(_on_plane, landscape, chart, model=model)
        pictures = parts.drawn.pictures(chart.__name__, str(model), blob, draw=draw)
        shown += figures(name, pictures, None if file is None else f"{at}/{file}")
    return shown


def _spectrum(parts: Parts, stored: StoredReport, job_id: str) -> list[Picture]:
    return [spectrum_chart(read_spectrum(parts, stored, job_id))]


def _on_plane(read: Callable[[], Landscape | None], chart: PlaneChart, *, model: bool) -> list[Picture | None]:
    landscape = read()
    return [] if landscape is None else [chart(landscape, model=model)]


def _escapes(parts: Parts, stored: StoredReport, report: Report) -> list[ShownEscape]:
    refused = _no_shares(parts, stored)
    shown = []
    for escape, blob in zip(report.escapes, stored.escape_blobs, strict=True):
        pictures: list[Figure] = []
        if escape.index < _SHOWN:
            name, url = f"direction {escape.index}", _picture_url(report, escape)
            curve = parts.drawn.pictures("escape", str(report.job), str(escape.index), draw=partial(_curve, escape))
            pictures += figures(f"Loss along {name}", curve, url)
            if refused is None:
                lies = parts.drawn.pictures("shares", blob, draw=partial(_shares, parts, blob))
                pictures += figures(f"Where {name} lies", lies)
        shown.append(ShownEscape(escape, pictures, refused))
    return shown


def _curve(escape: Escape) -> list[Picture | None]:
    return [escape_chart(escape)]


def _shares(parts: Parts, blob: str) -> list[Picture | None]:
    with parts.blobs.open(blob) as file:
        return [shares_chart(tensor_shares(file))]


def _picture_url(report: Report, escape: Escape) -> str:
    return f"/v1/jobs/{report.job}/escapes/{escape.index}.svg"


def _no_shares(parts: Parts, stored: StoredReport) -> str | None:
    """Why the directions are not read."""
    try:
        check_size(parts, stored.escape_blobs)
    except TooLarge as told:
        return f"the directions are too large to read for a page: {told}"
    except FileNotFoundError:
        return "the vectors are gone from the blob store; run the job again"
    return None
