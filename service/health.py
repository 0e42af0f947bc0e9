"""`/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from kombu.exceptions import OperationalError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from saddlescope.contract.strict import Closed
from saddlescope.contract.vocabulary import JobStatus
from service.access import Admin
from service.parts import Parts, PartsOf
from store.blobs import BlobError
from store.database import database_now
from store.presence import present_workers
from store.tables import Job

router = APIRouter(tags=["operations"])
_COUNT = select(Job.status, func.count().label("num_jobs")).group_by(Job.status)


class PartHealth(Closed):
    status: Literal["ok", "down"]
    detail: str | None = None


class WorkerHealth(Closed):
    queues: tuple[str, ...]
    device: str
    sandbox: str


class Readiness(Closed):
    """Ready when every part is: jobs can be accepted, stored and sent."""

    status: Literal["ready", "not_ready"]
    database: PartHealth
    broker: PartHealth
    blobs: PartHealth
    workers: tuple[WorkerHealth, ...]
    """Workers seen within the last minute, with the isolation that each gives its jobs."""


class Health(Closed):
    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
def readyz(parts: PartsOf) -> Response:
    """Database, broker and blob store, each by name."""
    database, broker, blobs = _database(parts), _broker(parts), _blobs(parts)
    is_ready = all(part.status == "ok" for part in (database, broker, blobs))
    workers: tuple[WorkerHealth, ...] = ()
    if database.status == "ok":
        with parts.sessions() as session:
            workers = tuple(
                WorkerHealth(queues=row.queues, device=row.device, sandbox=row.sandbox)
                for row in present_workers(session)
            )
    readiness = Readiness(
        status="ready" if is_ready else "not_ready", database=database, broker=broker, blobs=blobs, workers=workers
    )
    return JSONResponse(readiness.model_dump(mode="json"), status_code=200 if is_ready else 503)


@router.get("/metrics", response_class=Response)
def metrics(parts: PartsOf, _: Admin) -> Response:
    """Prometheus text."""
    with parts.sessions() as session:
        counted = {row.status: row.num_jobs for row in session.execute(_COUNT)}
        parts.metrics.workers.set(len(present_workers(session)))
    for status in JobStatus:
        parts.metrics.jobs.labels(status).set(counted.get(status, 0))
    return Response(generate_latest(parts.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _database(parts: Parts) -> PartHealth:
    try:
        with parts.sessions() as session:
            database_now(session)
    except SQLAlchemyError:
        return PartHealth(status="down", detail="no query succeeds")
    return PartHealth(status="ok")


def _broker(parts: Parts) -> PartHealth:
    try:
        with parts.doorbell.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
    except (OperationalError, OSError):
        return PartHealth(status="down", detail="no connection; jobs are accepted and wait")
    return PartHealth(status="ok")


def _blobs(parts: Parts) -> PartHealth:
    try:
        parts.blobs.probe()
    except (OSError, BlobError):
        return PartHealth(status="down", detail="nothing can be written")
    return PartHealth(status="ok")
