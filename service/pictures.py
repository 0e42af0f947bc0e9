"""Single pictures of a finished job, for sharing, printing and messages."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from saddlescope.contract.reports import Landscape
from service.access import Reader
from service.charts import contour_chart, escape_chart, surface_chart
from service.parts import Parts, PartsOf
from service.problems import NotFound
from service.results import EscapeNumber, picture_response, read_landscape, stored_report

router = APIRouter(tags=["results"])


@router.get("/v1/jobs/{job_id}/escapes/{number}.svg", response_class=Response)
def get_escape_picture(job_id: str, number: EscapeNumber, parts: PartsOf, principal: Reader) -> Response:
    """The loss along a way out, measured, beside its quadratic model."""
    escapes = stored_report(parts, principal.project, job_id).report.escapes
    if number >= len(escapes):
        raise NotFound(f"The job has {len(escapes)} escape directions, counted from 0.")
    return picture_response(escape_chart(escapes[number]), job_id)


@router.get("/v1/jobs/{job_id}/contours.svg", response_class=Response)
def get_contours(job_id: str, parts: PartsOf, principal: Reader, *, model: bool = False) -> Response:
    """Iso-lines of the loss on the plane of `landscape`, or of its quadratic model."""
    return picture_response(contour_chart(_landscape(parts, principal.project, job_id), model=model), job_id)


@router.get("/v1/jobs/{job_id}/surface.svg", response_class=Response)
def get_surface(job_id: str, parts: PartsOf, principal: Reader, *, model: bool = False) -> Response:
    """The same plane as a surface."""
    return picture_response(surface_chart(_landscape(parts, principal.project, job_id), model=model), job_id)


def _landscape(parts: Parts, project: str, job_id: str) -> Landscape:
    landscape = read_landscape(parts, stored_report(parts, project, job_id), job_id)
    if landscape is None:
        raise NotFound("The job was asked for no landscape, or there is none for this verdict.")
    return landscape
