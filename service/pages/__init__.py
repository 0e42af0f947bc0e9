"""The dashboard: what the API answers, for eyes. One module a page."""

from __future__ import annotations

from fastapi import APIRouter

from service.pages import asking, compare, health, job, jobs, landscape, run

router = APIRouter(include_in_schema=False)
for part in (jobs, job, run, landscape, compare, asking, health):
    router.include_router(part.router)
