"""The log of deliveries: what was told to whom, how it went, and once more on demand. They leave through `outbox`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from saddlescope.contract.webhooks import DeliveryStatus
from store.messages import TRIES, enqueue_test
from store.moments import now
from store.tables import Delivery
from store.webhooks import WebhookRow


@dataclass(frozen=True)
class DeliveryRow:
    id: str
    project: str
    webhook_id: str | None
    job_id: str | None
    type: str
    origin: str
    status: DeliveryStatus
    attempts: int
    created_at: datetime
    next_at: datetime | None
    attempted_at: datetime | None
    response_status: int | None
    latency_ms: int | None
    detail: str | None


@dataclass(frozen=True)
class Of:
    """Whose deliveries: those of one webhook or of one job of a project."""

    project: str
    webhook_id: str | None = None
    job_id: str | None = None

    def holds(self) -> ColumnElement[bool]:
        own = Delivery.project == self.project
        if self.webhook_id is not None:
            own = and_(own, Delivery.webhook_id == self.webhook_id)
        return own if self.job_id is None else and_(own, Delivery.job_id == self.job_id)


def find_delivery(session: Session, of: Of, delivery_id: str) -> DeliveryRow | None:
    query = select(Delivery).where(of.holds(), Delivery.id == delivery_id)
    found = session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
    return None if found is None else _row(found)


def list_deliveries(session: Session, of: Of, *, limit: int, after_id: str | None = None) -> tuple[DeliveryRow, ...]:
    """From the newest, beyond one of them."""
    query = select(Delivery).where(of.holds()).order_by(Delivery.id.desc()).limit(limit)
    if after_id is not None:
        query = query.where(Delivery.id < after_id)
    return tuple(_row(found) for found in session.scalars(query, execution_options={"populate_existing": True}))


def redeliver(session: Session, of: Of, delivery_id: str) -> DeliveryRow | None:
    """Try again from now on, with all tries; one that is under way is left alone. None if there is no such delivery."""
    session.execute(
        update(Delivery)
        .where(of.holds(), Delivery.id == delivery_id)
        .where(or_(Delivery.lease_until.is_(None), Delivery.lease_until <= now()))
        .values(status=DeliveryStatus.PENDING, next_at=now(), lease_until=None, tries_left=TRIES)
        .execution_options(synchronize_session=False)
    )
    return find_delivery(session, of, delivery_id)


def send_test(session: Session, webhook: WebhookRow) -> DeliveryRow:
    """Put a message without a job into the outbox, for one try."""
    return _row(enqueue_test(session, project=webhook.project, webhook_id=webhook.id, url=webhook.url))


def _row(found: Delivery) -> DeliveryRow:
    return DeliveryRow(
        id=found.id,
        project=found.project,
        webhook_id=found.webhook_id,
        job_id=found.job_id,
        type=found.type,
        origin=found.origin,
        status=DeliveryStatus(found.status),
        attempts=found.attempts,
        created_at=found.created_at,
        next_at=found.next_at,
        attempted_at=found.attempted_at,
        response_status=found.response_status,
        latency_ms=found.latency_ms,
        detail=found.detail,
    )
