"""The signing secrets of webhooks, derived from the service's pepper: a copy of the database signs nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

from saddlescope.contract.webhooks import ID_HEADER, SECRET_PREFIX, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign


def webhook_secret(pepper: bytes, webhook_id: str, number: int) -> str:
    """The n-th secret of a webhook."""
    return _derive(pepper, "webhook", webhook_id, number)


def callback_secret(pepper: bytes, project: str, number: int) -> str:
    """The n-th secret that signs for every `callback_url` of a project."""
    return _derive(pepper, "callback", project, number)


def signed_headers(secrets: Iterable[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks, with a signature by each secret that is in force."""
    signatures = [sign(secret, message_id=message_id, timestamp=timestamp, body=body) for secret in secrets]
    return {ID_HEADER: message_id, TIMESTAMP_HEADER: str(timestamp), SIGNATURE_HEADER: " ".join(signatures)}


def _derive(pepper: bytes, purpose: str, owner: str, number: int) -> str:
    # API keys are hashed under the same pepper; they are hexadecimal and can never equal one of these texts.
    derived = hmac.new(pepper, f"saddlescope {purpose} secret\n{owner}\n{number}".encode(), hashlib.sha256).digest()
    return SECRET_PREFIX + base64.b64encode(derived).decode()
