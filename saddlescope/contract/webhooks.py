"""Webhooks: what is told, to whom, and how it is signed (Standard Webhooks, https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from saddlescope.contract import limits
from saddlescope.contract.jobs import Timestamp
from saddlescope.contract.strict import Closed

SECRET_PREFIX = "whsec_"  # noqa: S105 - the standard's prefix, no secret
ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"


class WebhookEvent(StrEnum):
    """What a webhook can hear of: each end of a job."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"


TEST_MESSAGE = "webhook.test"


class DeliveryStatus(StrEnum):
    """The state of a delivery; a failed one is not tried again unless it is asked for."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class WebhookRequest(Closed):
    """The body of `POST /v1/webhooks`."""

    # The pattern is described only; what is wrong with an address is told in words.
    url: str = Field(max_length=limits.MAX_URL_CHARS, json_schema_extra={"pattern": "^https?://[!-~]+$"})
    events: Annotated[tuple[WebhookEvent, ...], Field(min_length=1, max_length=len(WebhookEvent))] = tuple(WebhookEvent)


class Webhook(Closed):
    object: Literal["webhook"] = "webhook"
    id: str
    url: str
    events: tuple[WebhookEvent, ...]
    created_at: Timestamp
    succeeded_at: Timestamp | None
    """When an answer last was a success."""
    disabled_at: Timestamp | None
    disabled_reason: str | None
    secret: str | None = None
    """The signing secret: in the answers that make it, null in all others."""


class Delivery(Closed):
    """One message to one address, with its last attempt."""

    object: Literal["delivery"] = "delivery"
    id: str
    """Also the `webhook-id` header of every attempt."""
    type: str
    webhook: str | None
    job: str | None
    destination: str
    """Scheme, host and port: the rest of an address may be a secret."""
    status: DeliveryStatus
    attempts: int
    response_status: int | None
    latency_ms: int | None
    detail: str | None
    """What went wrong at the last attempt."""
    created_at: Timestamp
    attempted_at: Timestamp | None
    next_attempt_at: Timestamp | None


class WebhookMessage(Closed):
    """The body of a delivery. `data` is the job as `GET /v1/jobs/{id}` answers it, with the report's `summary`."""

    type: str
    timestamp: Timestamp
    data: dict[str, JsonValue]


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """One entry of the `webhook-signature` header: `v1,` and the base64 of HMAC-SHA256(key, id.timestamp.body).

    Raises:
        ValueError: unless the secret is base64, with or without `whsec_`.
    """
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
