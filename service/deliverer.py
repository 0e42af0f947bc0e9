"""Bring messages from the outbox to their receivers, in threads of their own: nobody who analyses waits for them."""

from __future__ import annotations

import threading
import time
from typing import final

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.orm import Session

from saddlescope.contract.webhooks import TEST_MESSAGE, WebhookMessage
from service.courier import Courier, NotDelivered
from service.destinations import DestinationRefused
from service.parts import Parts
from service.signing import callback_secret, signed_headers, webhook_secret
from service.views import job_view
from store.jobs import find_job
from store.outbox import After, Attempted, DeliveryClaim, claim_delivery, fail_abandoned, finish_delivery, has_due
from store.reports import find_report
from store.webhooks import secret_numbers

log = structlog.get_logger("service")

_POLL_SECONDS = 1.0
_AT_ONCE = 16
_STOP_SECONDS = 2.0
_DATABASE_DOWN = (OperationalError, InterfaceError, PoolExhausted)


@final
class Deliverer:
    """Every process of the service has one, and any number work on one outbox: each message is claimed by one.

    A process that dies leaves its claims to lapse; the messages are then sent once more.
    """

    def __init__(self, parts: Parts, courier: Courier) -> None:
        self._parts = parts
        self._courier = courier
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._slots = threading.Semaphore(_AT_ONCE)
        self._thread = threading.Thread(target=self._run, name="deliverer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more, and wait a little for what is under way; what takes longer is sent again later."""
        self._stopping.set()
        self._news.set()
        self._thread.join()
        ends = time.monotonic() + _STOP_SECONDS
        for _ in range(_AT_ONCE):
            self._slots.acquire(timeout=max(0.0, ends - time.monotonic()))

    def deliver_one(self) -> After | None:
        """Claim the message that is due longest, and try it once; None when none is due."""
        claim = self._claim()
        return None if claim is None else self._deliver(claim)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._slots.acquire(timeout=_POLL_SECONDS):
                continue
            claim = None
            try:
                claim = self._claim()
            except _DATABASE_DOWN as failure:
                log.warning("webhooks_wait_for_database", error=type(failure).__name__)
            if claim is None:
                self._slots.release()
                # An attempt that ends may let the next message to the same receiver go.
                self._news.wait(_POLL_SECONDS)
                self._news.clear()
            else:
                # Daemons: a name that takes a minute to resolve must not hold up the end of the process.
                threading.Thread(target=self._deliver_in_slot, args=(claim,), name=claim.id, daemon=True).start()

    def _deliver_in_slot(self, claim: DeliveryClaim) -> None:
        try:
            self._deliver(claim)
        except _DATABASE_DOWN as failure:
            log.warning("delivery_not_recorded", delivery_id=claim.id, error=type(failure).__name__)
        finally:
            self._slots.release()
            self._news.set()

    def _claim(self) -> DeliveryClaim | None:
        # The look first: a write transaction a second would be in the way of others on SQLite.
        with self._parts.sessions() as session:
            if not has_due(session):
                return None
        with self._parts.sessions.begin() as session:
            fail_abandoned(session)
            return claim_delivery(session)

    def _deliver(self, claim: DeliveryClaim) -> After:
        attempted = self._attempt(claim)
        with self._parts.sessions.begin() as session:
            after = finish_delivery(session, claim, attempted)
        self._parts.metrics.delivered.labels(after).inc()
        log.info(
            "webhook_attempt",
            delivery_id=claim.id,
            webhook_id=claim.webhook_id,
            job_id=claim.job_id,
            attempt=claim.attempt,
            outcome=after,
            status=attempted.response_status,
            milliseconds=attempted.latency_ms,
        )
        if after is After.DISABLED:
            log.warning("webhook_disabled", webhook_id=claim.webhook_id)
        return after

    def _attempt(self, claim: DeliveryClaim) -> Attempted:
        with self._parts.sessions() as session:
            message = self._message(session, claim)
            secrets = self._secrets(session, claim)
        if message is None or not secrets:
            return Attempted(None, None, "the job or the webhook was deleted")
        body = message.model_dump_json().encode()
        headers = signed_headers(secrets, message_id=claim.id, timestamp=int(time.time()), body=body)
        try:
            answer = self._courier.post(claim.url, headers=headers, body=body)
        except DestinationRefused as refused:
            return Attempted(None, None, f"not sent: {refused}")
        except NotDelivered as failure:
            return Attempted(None, None, str(failure))
        return Attempted(answer.status, answer.milliseconds, _remark(answer.status))

    def _message(self, session: Session, claim: DeliveryClaim) -> WebhookMessage | None:
        """The same at every attempt: a job that has ended does not change."""
        if claim.type == TEST_MESSAGE:
            return WebhookMessage(type=claim.type, timestamp=claim.created_at, data={"webhook": claim.webhook_id})
        job = find_job(session, project=claim.project, job_id=claim.job_id or "")
        if job is None:
            return None
        stored = find_report(session, project=claim.project, job_id=job.id)
        data = job_view(job, (self._parts.settings.public_url or "").rstrip("/")).model_dump(mode="json")
        data["summary"] = None if stored is None else stored.report.summary
        return WebhookMessage(type=claim.type, timestamp=claim.created_at, data=data)

    def _secrets(self, session: Session, claim: DeliveryClaim) -> list[str]:
        numbers = secret_numbers(session, project=claim.project, webhook_id=claim.webhook_id)
        if numbers is None:
            return []
        pepper = self._parts.pepper
        if claim.webhook_id is None:
            return [callback_secret(pepper, claim.project, number) for number in numbers.in_force()]
        return [webhook_secret(pepper, claim.webhook_id, number) for number in numbers.in_force()]


def _remark(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    return "redirects are not followed" if 300 <= status < 400 else f"the receiver answered {status}"
