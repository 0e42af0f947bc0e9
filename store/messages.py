"""Messages to webhooks and callbacks, written with what they tell of. They leave through `outbox`."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from saddlescope.contract.webhooks import TEST_MESSAGE, DeliveryStatus, WebhookEvent
from store.identifiers import new_id
from store.tables import Delivery, Job, Webhook

# What Standard Webhooks recommends; together about three days.
BACKOFF_SECONDS: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
TRIES: Final = len(BACKOFF_SECONDS) + 1


def enqueue_deliveries(session: Session, job_id: str, event: WebhookEvent) -> None:
    """Write a message for each address that wants to hear of this end of a job, in the transaction of the end."""
    job = session.execute(select(Job.project, Job.callback_url).where(Job.id == job_id)).one()
    webhooks = session.scalars(select(Webhook).where(Webhook.project == job.project, Webhook.disabled_at.is_(None)))
    for webhook in webhooks:
        if event in webhook.events:
            _enqueue(session, job.project, webhook.url, event, job_id=job_id, webhook_id=webhook.id)
    if job.callback_url is not None:
        _enqueue(session, job.project, job.callback_url, event, job_id=job_id)
    session.flush()


def enqueue_test(session: Session, *, project: str, webhook_id: str, url: str) -> Delivery:
    """A message without a job that is tried once."""
    test = _enqueue(session, project, url, TEST_MESSAGE, webhook_id=webhook_id, tries_left=1)
    session.flush()
    return test


def _enqueue(
    session: Session,
    project: str,
    url: str,
    type: str,  # noqa: A002 - the contract's word
    *,
    job_id: str | None = None,
    webhook_id: str | None = None,
    tries_left: int = TRIES,
) -> Delivery:
    address = urlsplit(url)
    message = Delivery(
        id=new_id("dlv"),
        project=project,
        webhook_id=webhook_id,
        job_id=job_id,
        type=type,
        url=url,
        origin=f"{address.scheme}://{address.netloc}",
        status=DeliveryStatus.PENDING,
        attempts=0,
        tries_left=tries_left,
    )
    session.add(message)
    return message
