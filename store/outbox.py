"""The outbox of webhooks: what `messages` has written leaves from here, at least once each.

      enqueue ──▶ pending ──▶ succeeded
                  ▲  │  │
    (redeliver)   │  │  └──▶ failed     after the last try, or at once when the receiver answers 410
                  └──┴─ claim, finish   after each try but the last, with a backoff

A claim is one UPDATE with a lease on the database's clock, and it takes one of the tries with it: no message is under
way twice at once, and one whose deliverer dies every time comes to an end as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from saddlescope.contract.webhooks import TEST_MESSAGE, DeliveryStatus
from store.messages import BACKOFF_SECONDS, TRIES
from store.moments import now, seconds_from_now
from store.tables import Delivery, Webhook

LEASE_SECONDS = 60
# A receiver that never answers holds up two deliverers, and a project four.
MAX_AT_ONCE_PER_ORIGIN = 2
MAX_AT_ONCE_PER_PROJECT = 4
_GONE = 410


@dataclass(frozen=True)
class DeliveryClaim:
    """A deliverer's right to one attempt; `attempt` is its fence."""

    id: str
    project: str
    webhook_id: str | None
    job_id: str | None
    type: str
    url: str
    attempt: int
    tries_left: int
    created_at: datetime


@dataclass(frozen=True)
class Attempted:
    """How an attempt went: the status that was answered, and in `detail` what was wrong."""

    response_status: int | None
    latency_ms: int | None
    detail: str | None = None

    @property
    def is_success(self) -> bool:
        return self.response_status is not None and 200 <= self.response_status < 300


class After(StrEnum):
    """What became of a message after an attempt."""

    SUCCEEDED = "succeeded"
    RETRYING = "retrying"
    FAILED = "failed"
    DISABLED = "disabled"
    """It failed, and its webhook hears of nothing more."""
    LOST = "lost"
    """The lease lapsed and another deliverer has it."""


def has_due(session: Session) -> bool:
    """Whether a claim may find something; takes no lock."""
    return session.scalar(select(Delivery.id).where(*_due()).limit(1)) is not None


def claim_delivery(session: Session, *, lease_seconds: float = LEASE_SECONDS) -> DeliveryClaim | None:
    """Take the message that is due longest, unless too many to its receiver or of its project are under way."""
    under_way = Delivery.lease_until > now()
    busy_origins = (
        select(Delivery.project, Delivery.origin)
        .where(under_way)
        .group_by(Delivery.project, Delivery.origin)
        .having(func.count() >= MAX_AT_ONCE_PER_ORIGIN)
    )
    busy_projects = (
        select(Delivery.project)
        .where(under_way)
        .group_by(Delivery.project)
        .having(func.count() >= MAX_AT_ONCE_PER_PROJECT)
    )
    first = (
        select(Delivery.id)
        .where(
            *_due(),
            Delivery.tries_left > 0,
            tuple_(Delivery.project, Delivery.origin).not_in(busy_origins),
            Delivery.project.not_in(busy_projects),
        )
        .order_by(Delivery.next_at, Delivery.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = session.execute(
        update(Delivery)
        .where(Delivery.id == first, *_due())
        .values(
            attempts=Delivery.attempts + 1,
            tries_left=Delivery.tries_left - 1,
            lease_until=seconds_from_now(lease_seconds),
            attempted_at=now(),
        )
        .returning(
            Delivery.id,
            Delivery.project,
            Delivery.webhook_id,
            Delivery.job_id,
            Delivery.type,
            Delivery.url,
            Delivery.attempts,
            Delivery.tries_left,
            Delivery.created_at,
        )
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if taken is None else DeliveryClaim(*taken)


def finish_delivery(session: Session, claim: DeliveryClaim, attempted: Attempted) -> After:
    """Write down how an attempt went, and what follows from it."""
    if attempted.is_success:
        if not _settle(session, claim, attempted, status=DeliveryStatus.SUCCEEDED):
            return After.LOST
        if claim.webhook_id is not None:
            session.execute(update(Webhook).where(Webhook.id == claim.webhook_id).values(succeeded_at=now()))
        return After.SUCCEEDED
    is_gone = attempted.response_status == _GONE
    if claim.tries_left > 0 and not is_gone:
        rest = seconds_from_now(BACKOFF_SECONDS[TRIES - 1 - claim.tries_left])
        is_ours = _settle(session, claim, attempted, status=DeliveryStatus.PENDING, next_at=rest)
        return After.RETRYING if is_ours else After.LOST
    if not _settle(session, claim, attempted, status=DeliveryStatus.FAILED):
        return After.LOST
    return After.DISABLED if _disable(session, claim, is_gone=is_gone) else After.FAILED


def fail_abandoned(session: Session) -> int:
    """End messages whose deliverer died during their last try; returns how many."""
    ended = session.execute(
        update(Delivery)
        .where(*_due(), Delivery.tries_left == 0)
        .values(status=DeliveryStatus.FAILED, next_at=None, lease_until=None, detail="the last attempt was cut short")
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    )
    return len(ended.all())


def _due() -> tuple[ColumnElement[bool], ...]:
    is_free = or_(Delivery.lease_until.is_(None), Delivery.lease_until <= now())
    return (Delivery.status == DeliveryStatus.PENDING, Delivery.next_at <= now(), is_free)


def _settle(
    session: Session,
    claim: DeliveryClaim,
    attempted: Attempted,
    *,
    status: DeliveryStatus,
    next_at: ColumnElement[datetime] | None = None,
) -> bool:
    settled = session.execute(
        update(Delivery)
        .where(Delivery.id == claim.id, Delivery.attempts == claim.attempt, Delivery.lease_until.is_not(None))
        .values(
            status=status,
            next_at=next_at,
            lease_until=None,
            response_status=attempted.response_status,
            latency_ms=attempted.latency_ms,
            detail=attempted.detail,
        )
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    )
    return settled.one_or_none() is not None


def _disable(session: Session, claim: DeliveryClaim, *, is_gone: bool) -> bool:
    """Close a webhook that is gone, or that has answered nothing well since the message that now failed for good."""
    if claim.webhook_id is None:
        return False
    still = [Webhook.id == claim.webhook_id, Webhook.disabled_at.is_(None)]
    if is_gone:
        reason = "the receiver answered 410 Gone"
    elif claim.type == TEST_MESSAGE:
        return False
    else:
        reason = f"no success since a message of {claim.created_at:%Y-%m-%d %H:%M} UTC, which was tried {TRIES} times"
        still.append(or_(Webhook.succeeded_at.is_(None), Webhook.succeeded_at < claim.created_at))
    disabled = session.execute(
        update(Webhook)
        .where(*still)
        .values(disabled_at=now(), disabled_reason=reason)
        .returning(Webhook.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if disabled is None:
        return False
    session.execute(
        update(Delivery)
        .where(Delivery.webhook_id == claim.webhook_id, Delivery.status == DeliveryStatus.PENDING)
        .where(or_(Delivery.lease_until.is_(None), Delivery.lease_until <= now()))
        .values(status=DeliveryStatus.FAILED, next_at=None, lease_until=None, detail="the webhook was disabled")
        .execution_options(synchronize_session=False)
    )
    return True
