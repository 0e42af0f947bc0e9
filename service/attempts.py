"""`/v1/jobs/{id}/attempts`: who tried, when, and how it ended."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from saddlescope.contract.jobs import Timestamp
from saddlescope.contract.strict import Closed
from service.access import Reader
from service.jobs import job_or_404
from service.parts import PartsOf
from service.views import validated_json
from store.attempts import list_attempts
from store.keys import Scope

router = APIRouter(tags=["jobs"])


class Attempt(Closed):
    """One claim of the job by a worker. One that was given back, because its worker had to stop, is not among them."""

    object: Literal["attempt"] = "attempt"
    number: int
    worker: str
    started_at: Timestamp
    finished_at: Timestamp | None
    outcome: str | None
    """`succeeded`, `cancelled` or the code of what went wrong; null while it runs."""
    detail: str | None
    errors: str | None
    """The last words on standard error of the process that ran the job; only for keys with the scope `admin`."""


class AttemptList(Closed):
    object: Literal["list"] = "list"
    data: tuple[Attempt, ...]
    has_more: bool = False
    next: str | None = None


@router.get("/v1/jobs/{job_id}/attempts", response_model=AttemptList)
def get_attempts(request: Request, job_id: str, parts: PartsOf, principal: Reader) -> Response:
    """How often the job was tried, and how each attempt ended."""
    job_or_404(parts, principal.project, job_id)
    with parts.sessions() as session:
        rows = list_attempts(session, job_id)
    sees_errors = Scope.ADMIN in principal.scopes
    listed = AttemptList(
        data=tuple(
            Attempt(
                number=row.number,
                worker=row.worker,
                started_at=row.started_at,
                finished_at=row.finished_at,
                outcome=row.outcome,
                detail=row.detail,
                errors=row.errors if sees_errors else None,
            )
            for row in rows
        )
    )
    return validated_json(request, listed.model_dump_json())
