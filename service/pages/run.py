"""One training run over its steps, and a second one laid over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BeforeValidator

from service.access import Visitor
from service.charts import history_chart
from service.listing import Text
from service.pages.figures import Figure
from service.parts import PartsOf
from service.rendering import page
from service.runs import MAX_RUNS, name_of, points_of
from store.numbers import ReportNumbers
from store.runs import RunPoint, list_runs

router = APIRouter(include_in_schema=False)


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
        runs = list_runs(session, project=visitor.project, limit=MAX_RUNS)
    return page(
        request,
        "run.html",
        run_id=run_id,
        other=other,
        name=name_of(shown[0][1]) or run_id,
        shown=shown,
        others=[run for run in runs if run.id != run_id],
        figures=_figures(shown[0][1]),
    )


_HISTORIES: tuple[tuple[str, Callable[[ReportNumbers], float]], ...] = (
    ("loss", lambda numbers: numbers.loss),
    ("gradient norm", lambda numbers: numbers.gradient_norm),
    ("λ_min", lambda numbers: numbers.lambda_min),
    ("λ_max", lambda numbers: numbers.lambda_max),
    ("index n₋/n", lambda numbers: numbers.index),
    ("minimum ratio", lambda numbers: numbers.minimum_ratio),
)


def _figures(points: Sequence[RunPoint]) -> list[Figure]:
    figures = []
    for name, read in _HISTORIES:
        known = [
            (point.job.run.step, read(point.numbers))
            for point in points
            if point.numbers is not None and point.job.run is not None and point.job.run.step is not None
        ]
        picture = history_chart([step for step, _ in known], [value for _, value in known], name=name)
        if picture is not None:
            figures.append(Figure(name, picture))
    return figures
