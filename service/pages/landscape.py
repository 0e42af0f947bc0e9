"""All checkpoints of a project in one picture: the loss against how much of the curvature is positive."""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from saddlescope.contract.vocabulary import JobStatus, Verdict
from service.access import Visitor
from service.charts import ratio_chart
from service.pages.figures import Figure, checkpoint_of
from service.pages.looking import PageFilters, filter_pairs
from service.parts import PartsOf
from service.rendering import page
from store.lists import count_measured, list_measured

router = APIRouter(include_in_schema=False)
MAX_POINTS = 2_000


class Against(StrEnum):
    """What stands along the picture."""

    RATIO = "ratio"
    INDEX = "index"
    TRIPLE = "triple"


@router.get("/landscape")
def landscape_page(
    request: Request, parts: PartsOf, visitor: Visitor, filters: PageFilters, against: Against = Against.RATIO
) -> HTMLResponse:
    """The newest checkpoints that the filters let through."""
    with parts.sessions() as session:
        listed = list_measured(session, project=visitor.project, filters=filters, limit=MAX_POINTS)
        total = len(listed)
        if total == MAX_POINTS:
            total = count_measured(session, project=visitor.project, filters=filters)
    points = [
        checkpoint_of(
            one.id, verdict=one.verdict, step=one.run_step, name=one.run_name or one.run_id, numbers=one.numbers
        )
        for one in listed
    ]
    picture = ratio_chart(points, against=against.value)
    narrowed = [*filter_pairs(filters)]
    links = {choice: "?" + urlencode([("against", choice.value), *narrowed]) for choice in Against}
    return page(
        request,
        "landscape.html",
        figure_shown=None if picture is None else Figure(picture.title, picture),
        listed=listed,
        total=total,
        filters=filters,
        against=against,
        links=links,
        list_query=f"?{urlencode(narrowed)}" if narrowed else "",
        statuses=list(JobStatus),
        verdicts=list(Verdict),
        project=visitor.project,
    )
