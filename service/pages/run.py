"""One training run over its steps, and a second one laid over it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BeforeValidator

from service.access import Visitor
from service.charts import Checkpoint, Series, history_charts
from service.listing import Text
from service.pages.figures import Figure, checkpoint_of
from service.parts import Parts, PartsOf
from service.rendering import page
from service.runs import MAX_RUNS, name_of, points_of
from service.svg import Picture
from store.runs import RunPoint, name_runs

router = APIRouter(include_in_schema=False)
_DRAWN, _LISTED = 400, 100


@router.get("/runs/{run_id:path}")
def run_page(
    request: Request,
    run_id: str,
    parts: PartsOf,
    visitor: Visitor,
    other: Annotated[Text | None, Query(alias="with"), BeforeValidator(lambda value: value or None)] = None,
) -> HTMLResponse:
    """The run; `with` names another one of the project."""
    shown = [(run_id, points_of(parts, visitor.project, run_id))]
    if other is not None and other != run_id:
        shown.append((other, points_of(parts, visitor.project, other)))
    with parts.sessions() as session:
        runs = name_runs(session, project=visitor.project, limit=MAX_RUNS)
    return page(
        request,
        "run.html",
        run_id=run_id,
        other=other,
        name=name_of(shown[0][1]) or run_id,
        shown=shown,
        most_drawn=_DRAWN,
        most_listed=_LISTED,
        others=[run for run in runs if run.id != run_id],
        figures=_figures(parts, [(name_of(points) or run, _spread(points, _DRAWN)) for run, points in shown]),
    )


def _figures(parts: Parts, runs: Sequence[tuple[str, Sequence[RunPoint]]]) -> list[Figure]:
    # All that is drawn of a job stays as it is once there is a verdict.
    key = [part for name, points in runs for part in (name, *(f"{point.id} {point.verdict}" for point in points), "")]
    pictures = parts.drawn.pictures("histories", *key, draw=partial(_drawn, runs))
    return [Figure(picture.title, picture) for picture in pictures]


def _drawn(runs: Sequence[tuple[str, Sequence[RunPoint]]]) -> Sequence[Picture]:
    return history_charts([Series(name, [_checkpoint(point, name) for point in points]) for name, points in runs])


def _checkpoint(point: RunPoint, name: str) -> Checkpoint:
    return checkpoint_of(point.id, verdict=point.verdict, step=point.step, name=name, numbers=point.numbers)


def _spread(points: Sequence[RunPoint], most: int) -> Sequence[RunPoint]:
    """At most so many of the points, evenly from the first to the last."""
    if len(points) <= most:
        return points
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]
