"""`/v1/webhooks`: who hears of a project's jobs, and the secret of its callbacks."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from python_multipart.multipart import parse_options_header
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from saddlescope.contract import limits
from saddlescope.contract.strict import Closed
from saddlescope.contract.webhooks import Delivery, Webhook, WebhookRequest
from service.access import Admin
from service.bodies import read_document
from service.deliveries import delivery_view
from service.known import KnownWebhook
from service.parts import Parts, PartsOf
from service.problems import RequestInvalid, UnsupportedMediaType, WebhookLimit
from service.requests import parse_as, parse_body
from service.signing import callback_secret, webhook_secret
from service.validation import destination_problems
from store import webhooks
from store.deliveries import send_test
from store.webhooks import (
    WebhookRow,
    create_webhook,
    delete_webhook,
    enable_webhook,
    list_webhooks,
    rotate_callback_secret,
    rotate_secret,
    secret_numbers,
)

router = APIRouter(tags=["webhooks"])


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/WebhookRequest"}}},
    }
}


class WebhookList(Closed):
    object: Literal["list"] = "list"
    data: tuple[Webhook, ...]
    has_more: bool = False
    next: str | None = None


class CallbackSecret(Closed):
    """What signs the messages to every `callback_url` of the project."""

    object: Literal["callback_secret"] = "callback_secret"
    secret: str


@router.post("/v1/webhooks", status_code=201, response_model=Webhook, openapi_extra=_BODY)
async def post_webhook(request: Request, parts: PartsOf, principal: Admin) -> Response:
    """Tell an address of the ends of jobs. The answer holds the signing secret, this once."""
    if parse_options_header(request.headers.get("content-type", ""))[0] != b"application/json":
        raise UnsupportedMediaType("Send application/json.")
    body = await read_document(request)
    return await run_in_threadpool(_create, parts, principal.project, body)


@router.get("/v1/webhooks", response_model=WebhookList)
def get_webhooks(parts: PartsOf, principal: Admin) -> WebhookList:
    """The project's webhooks."""
    with parts.sessions() as session:
        rows = list_webhooks(session, project=principal.project)
    return WebhookList(data=tuple(_view(row) for row in rows))


@router.get("/v1/webhooks/{webhook_id}", response_model=Webhook)
def get_webhook(webhook: KnownWebhook) -> Webhook:
    """One webhook, and whether it is disabled."""
    return _view(webhook)


@router.delete("/v1/webhooks/{webhook_id}", status_code=204, response_class=Response)
def remove_webhook(webhook: KnownWebhook, parts: PartsOf) -> None:
    """Forget a webhook and its deliveries; what waited for another try is not sent."""
    with parts.sessions.begin() as session:
        delete_webhook(session, webhook.id)


@router.post("/v1/webhooks/{webhook_id}/enable", response_model=Webhook)
def post_enable(webhook: KnownWebhook, parts: PartsOf) -> Webhook:
    """Tell a disabled webhook of jobs again; what it missed can be redelivered."""
    with parts.sessions.begin() as session:
        return _view(enable_webhook(session, webhook.id) or webhook)


@router.post("/v1/webhooks/{webhook_id}/rotate", response_model=Webhook)
def post_rotate(webhook: KnownWebhook, parts: PartsOf) -> Webhook:
    """Make a new secret; for a day messages are signed with the old one as well."""
    with parts.sessions.begin() as session:
        row = rotate_secret(session, webhook.id) or webhook
    return _view(row, secret=webhook_secret(parts.pepper, row.id, row.secret_number))


@router.post("/v1/webhooks/{webhook_id}/test", status_code=202, response_model=Delivery)
def post_test(webhook: KnownWebhook, parts: PartsOf) -> Delivery:
    """Send a message of the type `webhook.test`, tried once; the log of deliveries tells how it went."""
    with parts.sessions.begin() as session:
        return delivery_view(send_test(session, webhook))


@router.get("/v1/callback-secret", response_model=CallbackSecret)
def get_callback_secret(parts: PartsOf, principal: Admin) -> CallbackSecret:
    """The secret that signs the messages to every `callback_url` of the project."""
    with parts.sessions() as session:
        return _callback_secret(parts, session, principal.project)


@router.post("/v1/callback-secret/rotate", response_model=CallbackSecret)
def post_rotate_callback_secret(parts: PartsOf, principal: Admin) -> CallbackSecret:
    """Make a new one; for a day messages are signed with the old one as well."""
    with parts.sessions.begin() as session:
        rotate_callback_secret(session, project=principal.project)
        return _callback_secret(parts, session, principal.project)


def _create(parts: Parts, project: str, body: bytes) -> Response:
    asked = parse_as(WebhookRequest, parse_body(body))
    wrong = list(destination_problems(asked.url, "/url", parts.settings.destinations()))
    if wrong:
        raise RequestInvalid(f"{wrong[0].pointer}: {wrong[0].detail}", errors=wrong)
    try:
        with parts.sessions.begin() as session:
            row = create_webhook(
                session, project=project, url=asked.url, events=asked.events, limit=limits.MAX_WEBHOOKS
            )
    except webhooks.WebhookLimit:
        raise WebhookLimit(f"A project has at most {limits.MAX_WEBHOOKS} webhooks.") from None
    made = _view(row, secret=webhook_secret(parts.pepper, row.id, row.secret_number))
    return Response(
        made.model_dump_json(),
        status_code=201,
        media_type="application/json",
        headers={"location": f"/v1/webhooks/{row.id}"},
    )


def _callback_secret(parts: Parts, session: Session, project: str) -> CallbackSecret:
    numbers = secret_numbers(session, project=project, webhook_id=None)
    number = 1 if numbers is None else numbers.current
    return CallbackSecret(secret=callback_secret(parts.pepper, project, number))


def _view(row: WebhookRow, *, secret: str | None = None) -> Webhook:
    return Webhook(
        id=row.id,
        url=row.url,
        events=row.events,
        created_at=row.created_at,
        succeeded_at=row.succeeded_at,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
        secret=secret,
    )
