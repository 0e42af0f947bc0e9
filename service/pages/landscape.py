"""All checkpoints of a project in one picture: the loss against how much of the curvature is positive."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from saddlescope.contract.vocabulary import JobStatus, Verdict
from service.access import Visitor
from service.charts import ratio_chart
from service.pages.figures import Figure, checkpoint_of
from service.pages.looking import PageFilters, filter_pairs
from service.parts import Parts, PartsOf
from service.rendering import page
from service.svg import Picture
from store.lists import count_measured, find_measured, list_measured

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
        ids = list_measured(session, project=visitor.project, filters=filters, limit=MAX_POINTS)
        total = len(ids)
        if total == MAX_POINTS:
            total = count_measured(session, project=visitor.project, filters=filters)
    # All that is drawn of a job stays as it is once there is a report.
    draw = partial(_drawn, parts, visitor.project, ids, against)
    pictures = parts.drawn.pictures("landscape", against.value, *ids, draw=draw)
    narrowed = [*filter_pairs(filters)]
    links = {choice: "?" + urlencode([("against", choice.value), *narrowed]) for choice in Against}
    return page(
        request,
        "landscape.html",
        figures=[Figure(picture.title, picture) for picture in pictures],
        num_listed=len(ids),
        total=total,
        filters=filters,
        against=against,
        links=links,
        list_query=f"?{urlencode(narrowed)}" if narrowed else "",
        statuses=list(JobStatus),
        verdicts=list(Verdict),
        project=visitor.project,
    )


def _drawn(parts: Parts, project: str, ids: Sequence[str], against: Against) -> list[Picture | None]:
    with parts.sessions() as session:
        found = find_measured(session, project=project, ids=ids)
    points = [
        checkpoint_of(
            one.id, verdict=one.verdict, step=one.run_step, name=one.run_name or one.run_id, numbers=one.numbers
        )
        for one in found
    ]
    return [ratio_chart(points, against=against.value)]
