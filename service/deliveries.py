"""The log of deliveries, of a webhook and of a job, and once more on demand."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from saddlescope.contract import limits
from saddlescope.contract.strict import Closed
from saddlescope.contract.webhooks import Delivery
from service.access import Reader, Submitter
from service.jobs import job_or_404
from service.known import KnownWebhook
from service.parts import Parts, PartsOf
from service.problems import NotFound
from store.deliveries import DeliveryRow, Of, list_deliveries, redeliver

router = APIRouter(tags=["webhooks"])
_DELIVERY_ID = re.compile(r"dlv_[0-9a-f]{32}")
Limit = Annotated[int, Query(ge=1, le=limits.MAX_LIST_LIMIT)]
After = Annotated[str | None, Query(pattern=r"^dlv_[0-9a-f]{32}$", description="`next` of the page before.")]


class DeliveryList(Closed):
    object: Literal["list"] = "list"
    data: tuple[Delivery, ...]
    has_more: bool
    next: str | None


@router.get("/v1/webhooks/{webhook_id}/deliveries")
def get_webhook_deliveries(
    *,
    webhook: KnownWebhook,
    parts: PartsOf,
    limit: Limit = limits.DEFAULT_LIST_LIMIT,
    after: After = None,
) -> DeliveryList:
    """What a webhook was told, from the newest."""
    with parts.sessions() as session:
        return _page(session, Of(webhook.project, webhook_id=webhook.id), limit, after)


@router.get("/v1/jobs/{job_id}/deliveries")
def get_job_deliveries(
    *,
    job_id: str,
    parts: PartsOf,
    principal: Reader,
    limit: Limit = limits.DEFAULT_LIST_LIMIT,
    after: After = None,
) -> DeliveryList:
    """Who was told of a job's end: its `callback_url` and the project's webhooks."""
    job_or_404(parts, principal.project, job_id)
    with parts.sessions() as session:
        return _page(session, Of(principal.project, job_id=job_id), limit, after)


@router.post("/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", status_code=202)
def redeliver_to_webhook(webhook: KnownWebhook, delivery_id: str, parts: PartsOf) -> Delivery:
    """Send a message again, with all its tries and under the same `webhook-id`."""
    return _again(parts, Of(webhook.project, webhook_id=webhook.id), delivery_id)


@router.post("/v1/jobs/{job_id}/deliveries/{delivery_id}/redeliver", status_code=202)
def redeliver_of_job(job_id: str, delivery_id: str, parts: PartsOf, principal: Submitter) -> Delivery:
    """As above, for whoever submitted the job."""
    job_or_404(parts, principal.project, job_id)
    return _again(parts, Of(principal.project, job_id=job_id), delivery_id)


def delivery_view(row: DeliveryRow) -> Delivery:
    return Delivery(
        id=row.id,
        type=row.type,
        webhook=row.webhook_id,
        job=row.job_id,
        destination=row.origin,
        status=row.status,
        attempts=row.attempts,
        response_status=row.response_status,
        latency_ms=row.latency_ms,
        detail=row.detail,
        created_at=row.created_at,
        attempted_at=row.attempted_at,
        next_attempt_at=row.next_at,
    )


def _page(session: Session, of: Of, limit: int, after: str | None) -> DeliveryList:
    found = list_deliveries(session, of, limit=limit + 1, after_id=after)
    shown = tuple(delivery_view(row) for row in found[:limit])
    has_more = len(found) > limit
    return DeliveryList(data=shown, has_more=has_more, next=shown[-1].id if has_more else None)


def _again(parts: Parts, of: Of, delivery_id: str) -> Delivery:
    row = None
    if _DELIVERY_ID.fullmatch(delivery_id):
        with parts.sessions.begin() as session:
            row = redeliver(session, of, delivery_id)
    if row is None:
        raise NotFound("There is no such delivery.")
    return delivery_view(row)
