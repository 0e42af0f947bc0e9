"""The webhook that an address names, for those who may see it."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends

from service.access import Admin
from service.parts import PartsOf
from service.problems import NotFound
from store.webhooks import WebhookRow, find_webhook

_WEBHOOK_ID = re.compile(r"whk_[0-9a-f]{32}")


def _known_webhook(webhook_id: str, parts: PartsOf, principal: Admin) -> WebhookRow:
    """Raises NotFound for an unknown webhook and for another project's alike."""
    row = None
    if _WEBHOOK_ID.fullmatch(webhook_id):
        with parts.sessions() as session:
            row = find_webhook(session, project=principal.project, webhook_id=webhook_id)
    if row is None:
        raise NotFound("This project has no such webhook.")
    return row


KnownWebhook = Annotated[WebhookRow, Depends(_known_webhook)]
