"""Whether jobs move: the parts of the service, the queues and the workers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.access import Visitor
from service.health import HealthOf
from service.parts import PartsOf
from service.rendering import page
from store.census import QueueCensus, count_by_status, take_census
from store.database import database_now
from store.keys import Scope
from store.presence import present_workers

router = APIRouter(include_in_schema=False)


@router.get("/health")
def health_page(request: Request, parts: PartsOf, visitor: Visitor, health: HealthOf) -> HTMLResponse:
    """The project's own jobs; those of all projects together only to an admin, as in /metrics."""
    is_admin = Scope.ADMIN in visitor.scopes
    if health["database"].status == "down":
        return page(request, "health.html", status_code=503, health=health, counts=None, census=None, workers=None,
                    here=None, is_admin=is_admin)  # fmt: skip
    with parts.sessions() as session:
        counts = count_by_status(session, project=visitor.project)
        census: tuple[QueueCensus, ...] | None = take_census(session) if is_admin else None
        workers, here = present_workers(session), database_now(session)
    return page(request, "health.html", health=health, counts=counts, census=census, workers=workers, here=here,
                is_admin=is_admin)  # fmt: skip
