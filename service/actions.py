"""What a person can do to a job from its page: stop it, ask again."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from service.access import Actor
from service.forms import FilledForm
from service.jobs import cancelled, retried
from service.parts import PartsOf

router = APIRouter(include_in_schema=False)


@router.post("/jobs/{job_id}/cancel")
async def cancel(job_id: str, parts: PartsOf, actor: Actor, form: FilledForm) -> Response:
    await run_in_threadpool(cancelled, parts, actor.project, job_id)
    return RedirectResponse(f"/jobs/{job_id}", status_code=303)


@router.post("/jobs/{job_id}/retry")
async def retry(request: Request, job_id: str, parts: PartsOf, actor: Actor, form: FilledForm) -> Response:
    """The new job's page."""
    accepted = await retried(request, parts, actor.project, job_id)
    return RedirectResponse(f"/jobs/{accepted.job.id}", status_code=303)
