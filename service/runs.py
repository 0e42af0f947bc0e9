"""`/v1/runs`: the jobs of a training run by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from saddlescope.contract.jobs import Timestamp
from saddlescope.contract.strict import Closed
from saddlescope.contract.vocabulary import JobStatus, Verdict
from service.access import Reader
from service.parts import Parts, PartsOf
from service.problems import NotFound
from service.views import base_of, validated_json
from store.runs import RunPoint as StoredPoint
from store.runs import list_runs, run_points

router = APIRouter(tags=["runs"])
MAX_RUNS = 500
MAX_RUN_POINTS = 5_000


class RunPoint(Closed):
    """One checkpoint of a run; the numbers are null until its job has succeeded."""

    job: str
    step: int | None
    status: JobStatus
    verdict: Verdict | None
    loss: float | None
    gradient_norm: float | None
    minimum_ratio: float | None
    lambda_min: float | None
    lambda_max: float | None
    created_at: Timestamp
    url: str


class Run(Closed):
    object: Literal["run"] = "run"
    id: str
    name: str | None
    num_jobs: int
    last_step: int | None
    first_created_at: Timestamp
    last_created_at: Timestamp
    url: str


class RunList(Closed):
    object: Literal["list"] = "list"
    data: tuple[Run, ...]
    has_more: bool = False
    next: str | None = None


class RunHistory(Closed):
    object: Literal["run"] = "run"
    id: str
    name: str | None
    jobs: tuple[RunPoint, ...]


@router.get("/v1/runs", response_model=RunList)
def get_runs(request: Request, parts: PartsOf, principal: Reader) -> Response:
    """Training runs, the one with the newest job first."""
    base = base_of(request)
    with parts.sessions() as session:
        rows = list_runs(session, project=principal.project, limit=MAX_RUNS)
    listed = RunList(
        data=tuple(
            Run(
                id=row.id,
                name=row.name,
                num_jobs=row.num_jobs,
                last_step=row.last_step,
                first_created_at=row.first_created_at,
                last_created_at=row.last_created_at,
                url=f"{base}/v1/runs/{quote(row.id, safe='')}",
            )
            for row in rows
        ),
        has_more=len(rows) == MAX_RUNS,
    )
    return validated_json(request, listed.model_dump_json())


# A run's id is the trainer's own and may hold slashes.
@router.get("/v1/runs/{run_id:path}", response_model=RunHistory)
def get_run(request: Request, run_id: str, parts: PartsOf, principal: Reader) -> Response:
    """One run: its jobs by step, with the numbers of their reports."""
    history = run_history(parts, principal.project, run_id, base_of(request))
    return validated_json(request, history.model_dump_json())


def run_history(parts: Parts, project: str, run_id: str, base: str) -> RunHistory:
    """Raises NotFound unless the project has a job of this run."""
    points = points_of(parts, project, run_id)
    return RunHistory(
        id=run_id,
        name=name_of(points),
        jobs=tuple(
            RunPoint(
                job=point.id,
                step=point.step,
                status=point.status,
                verdict=point.verdict,
                loss=None if point.numbers is None else point.numbers.loss,
                gradient_norm=None if point.numbers is None else point.numbers.gradient_norm,
                minimum_ratio=None if point.numbers is None else point.numbers.minimum_ratio,
                lambda_min=None if point.numbers is None else point.numbers.lambda_min,
                lambda_max=None if point.numbers is None else point.numbers.lambda_max,
                created_at=point.created_at,
                url=f"{base}/v1/jobs/{point.id}",
            )
            for point in points
        ),
    )


def points_of(parts: Parts, project: str, run_id: str) -> tuple[StoredPoint, ...]:
    """Raises NotFound unless the project has a job of this run."""
    points: tuple[StoredPoint, ...] = ()
    if "\0" not in run_id:
        with parts.sessions() as session:
            points = run_points(session, project=project, run=run_id, limit=MAX_RUN_POINTS)
    if not points:
        raise NotFound("This project has no such run.")
    return points


def name_of(points: Sequence[StoredPoint]) -> str | None:
    """The last name that the run was given."""
    return next((point.name for point in reversed(points) if point.name is not None), None)
