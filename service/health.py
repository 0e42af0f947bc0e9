"""`/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from saddlescope.contract.strict import Closed
from service.access import Admin
from service.gauges import count, measure_disk, set_gauges
from service.parts import Parts, PartsOf
from service.probes import PartHealth, Probe, look
from store.presence import present_workers

router = APIRouter(tags=["operations"])


class WorkerHealth(Closed):
    queues: tuple[str, ...]
    device: str
    sandbox: str


class WorkersHealth(Closed):
    """Workers seen within the last minute, with the isolation that each gives its jobs."""

    status: Literal["ok", "none_seen", "unknown"]
    detail: str | None = None
    count: int
    sandbox: dict[str, int]
    """How many workers give which level of isolation."""
    present: tuple[WorkerHealth, ...]


class Readiness(Closed):
    """Ready while jobs can be accepted and stored: `degraded` says that they would wait, and for what."""

    status: Literal["ready", "degraded", "not_ready"]
    database: PartHealth
    broker: PartHealth
    blobs: PartHealth
    workers: WorkersHealth


class Health(Closed):
    status: Literal["ok"] = "ok"


def _parts_health(request: Request) -> dict[str, PartHealth]:
    probes: dict[str, Probe] = request.app.state.probes
    return look(probes)


HealthOf = Annotated[dict[str, PartHealth], Depends(_parts_health)]


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers; nothing else is asked."""
    return Health()


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
def readyz(parts: PartsOf, health: HealthOf) -> Response:
    """Database, broker, blob store and workers, each by name.

    503 when no job can be accepted: without the database or the blob store. Without the broker or a worker jobs are
    accepted and wait, so the answer is 200 and `degraded`; taking the API away as well would help nobody.
    """
    database, broker, blobs = health["database"], health["broker"], health["blobs"]
    workers = _workers(parts, database)
    status: Literal["ready", "degraded", "not_ready"] = "ready"
    if broker.status == "down" or workers.status != "ok":
        status = "degraded"
    if "down" in (database.status, blobs.status):
        status = "not_ready"
    readiness = Readiness(status=status, database=database, broker=broker, blobs=blobs, workers=workers)
    return JSONResponse(readiness.model_dump(mode="json"), status_code=503 if status == "not_ready" else 200)


@router.get("/metrics", response_class=Response)
def metrics(parts: PartsOf, _: Admin, health: HealthOf) -> Response:
    """Prometheus text. Without the database the gauges that are counted there are absent."""
    counted = count(parts) if health["database"].status == "ok" else None
    # Two scrapes at once must not see each other's gauges half set.
    with parts.metrics.scrape:
        for name, part in health.items():
            parts.metrics.up.labels(name).set(part.status == "ok")
        measure_disk(parts)
        set_gauges(parts.metrics, counted)
        return Response(generate_latest(parts.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _workers(parts: Parts, database: PartHealth) -> WorkersHealth:
    if database.status == "down":
        return WorkersHealth(status="unknown", detail="the database is down", count=0, sandbox={}, present=())
    with parts.sessions() as session:
        rows = present_workers(session)
    return WorkersHealth(
        status="ok" if rows else "none_seen",
        detail=None if rows else "no worker was seen within the last minute; jobs are accepted and wait",
        count=len(rows),
        sandbox=dict(Counter(row.sandbox for row in rows)),
        present=tuple(WorkerHealth(queues=row.queues, device=row.device, sandbox=row.sandbox) for row in rows),
    )
