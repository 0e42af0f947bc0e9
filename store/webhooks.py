"""The webhooks of a project, and the numbers of their secrets. The secrets themselves are nowhere in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.orm import Session

from saddlescope.contract.webhooks import WebhookEvent
from store.identifiers import new_id
from store.moments import now, seconds_from_now
from store.projects import ensure_project
from store.tables import CallbackSecret, Project, Webhook
from store.upserts import insert_or

# For so long messages are signed with the secret before the last rotation as well.
OVERLAP_SECONDS = 86_400


class WebhookLimit(Exception):
    """The project has as many webhooks as it may have."""


@dataclass(frozen=True)
class WebhookRow:
    id: str
    project: str
    url: str
    events: tuple[WebhookEvent, ...]
    secret_number: int
    created_at: datetime
    succeeded_at: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None


@dataclass(frozen=True)
class SecretNumbers:
    """Which secret signs now, and whether the one before it still does."""

    current: int
    is_overlapping: bool

    def in_force(self) -> tuple[int, ...]:
        return (self.current, self.current - 1) if self.is_overlapping else (self.current,)


def create_webhook(
    session: Session, *, project: str, url: str, events: Sequence[WebhookEvent], limit: int
) -> WebhookRow:
    """Raises WebhookLimit."""
    ensure_project(session, project)
    # Two that are made at once count each other.
    session.execute(select(Project.name).where(Project.name == project).with_for_update())
    num_webhooks = session.scalar(select(func.count()).select_from(Webhook).where(Webhook.project == project)) or 0
    if num_webhooks >= limit:
        raise WebhookLimit
    webhook = Webhook(id=new_id("whk"), project=project, url=url, events=sorted(set(events)), secret_number=1)
    session.add(webhook)
    session.flush()
    return _row(webhook)


def list_webhooks(session: Session, *, project: str) -> tuple[WebhookRow, ...]:
    return tuple(
        _row(webhook)
        for webhook in session.scalars(select(Webhook).where(Webhook.project == project).order_by(Webhook.id))
    )


def find_webhook(session: Session, *, project: str, webhook_id: str) -> WebhookRow | None:
    webhook = session.scalars(
        select(Webhook).where(Webhook.project == project, Webhook.id == webhook_id),
        execution_options={"populate_existing": True},
    ).one_or_none()
    return None if webhook is None else _row(webhook)


def delete_webhook(session: Session, webhook_id: str) -> None:
    """Forget a webhook with its deliveries."""
    session.execute(delete(Webhook).where(Webhook.id == webhook_id))


def enable_webhook(session: Session, webhook_id: str) -> WebhookRow | None:
    """Tell it of jobs again; what was missed in between can be redelivered. None if it is gone."""
    return _changed(session, webhook_id, disabled_at=None, disabled_reason=None)


def rotate_secret(session: Session, webhook_id: str) -> WebhookRow | None:
    """Sign with the next secret from now on, and with the one before it for a day. None if it is gone."""
    return _changed(session, webhook_id, secret_number=Webhook.secret_number + 1, rotated_at=now())


def rotate_callback_secret(session: Session, *, project: str) -> None:
    """As `rotate_secret`, for the secret that signs for every `callback_url` of the project."""
    ensure_project(session, project)
    insert = insert_or(session, CallbackSecret).values(project=project, secret_number=2, rotated_at=now())
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["project"],
            set_={"secret_number": CallbackSecret.secret_number + 1, "rotated_at": insert.excluded.rotated_at},
        )
    )


def secret_numbers(session: Session, *, project: str, webhook_id: str | None) -> SecretNumbers | None:
    """Of a webhook, or without one of the project's callbacks; None for a webhook that is gone."""
    table = CallbackSecret if webhook_id is None else Webhook
    key = CallbackSecret.project == project if webhook_id is None else Webhook.id == webhook_id
    is_overlapping = case((table.rotated_at > seconds_from_now(-OVERLAP_SECONDS), True), else_=False)
    found = session.execute(select(table.secret_number, is_overlapping).where(key)).one_or_none()
    if found is None:
        return SecretNumbers(1, is_overlapping=False) if webhook_id is None else None
    return SecretNumbers(found[0], is_overlapping=found[1])


def _changed(session: Session, webhook_id: str, **values: object) -> WebhookRow | None:
    changed = session.scalars(
        update(Webhook).where(Webhook.id == webhook_id).values(**values).returning(Webhook),
        execution_options={"populate_existing": True},
    ).one_or_none()
    return None if changed is None else _row(changed)


def _row(webhook: Webhook) -> WebhookRow:
    return WebhookRow(
        id=webhook.id,
        project=webhook.project,
        url=webhook.url,
        events=tuple(WebhookEvent(event) for event in webhook.events),
        secret_number=webhook.secret_number,
        created_at=webhook.created_at,
        succeeded_at=webhook.succeeded_at,
        disabled_at=webhook.disabled_at,
        disabled_reason=webhook.disabled_reason,
    )
