"""Laws of deliveries, held on both databases: written with the end, claimed by one, tried as long as promised."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.webhooks import DeliveryStatus, WebhookEvent
from store import outbox, tables
from store.database import database_now
from store.deliveries import DeliveryRow, Of, find_delivery, list_deliveries, redeliver, send_test
from store.moments import seconds_from_now
from store.outbox import After, Attempted, DeliveryClaim, claim_delivery, finish_delivery
from store.queue import claim_job, finish_cancelled, request_cancel
from store.records import JobRow
from store.webhooks import (
    WebhookLimit,
    WebhookRow,
    create_webhook,
    delete_webhook,
    enable_webhook,
    find_webhook,
    list_webhooks,
    rotate_callback_secret,
    rotate_secret,
    secret_numbers,
)

Sessions = sessionmaker[Session]
Submit = Callable[..., JobRow]
OK, BROKEN, GONE = Attempted(204, 5), Attempted(500, 5), Attempted(410, 5)
EVERY_END = tuple(WebhookEvent)


def webhook(sessions: Sessions, url: str = "https://a.example/x", **changes: object) -> WebhookRow:
    arguments = {"project": "default", "url": url, "events": EVERY_END, "limit": 20} | changes
    with sessions.begin() as session:
        return create_webhook(session, **arguments)


def cancel(sessions: Sessions, job: JobRow) -> None:
    with sessions.begin() as session:
        request_cancel(session, project=job.project, job_id=job.id)


def claim(sessions: Sessions, *, lease_seconds: float = 60) -> DeliveryClaim | None:
    with sessions.begin() as session:
        return claim_delivery(session, lease_seconds=lease_seconds)


def claimed(sessions: Sessions, *, lease_seconds: float = 60) -> DeliveryClaim:
    taken = claim(sessions, lease_seconds=lease_seconds)
    assert taken is not None
    return taken


def finish(sessions: Sessions, held: DeliveryClaim, attempted: Attempted) -> After:
    with sessions.begin() as session:
        return finish_delivery(session, held, attempted)


def deliveries(sessions: Sessions, project: str = "default") -> tuple[DeliveryRow, ...]:
    with sessions() as session:
        return list_deliveries(session, Of(project), limit=500)


def rest(sessions: Sessions) -> None:
    """Let every backoff and every lease be over."""
    with sessions.begin() as session:
        pending = update(tables.Delivery).where(tables.Delivery.status == DeliveryStatus.PENDING)
        session.execute(pending.values(next_at=seconds_from_now(-1)))
        session.execute(
            pending.where(tables.Delivery.lease_until.is_not(None)).values(lease_until=seconds_from_now(-1))
        )


def test_an_end_writes_one_message_for_each_address_that_wants_it(sessions: Sessions, submit: Submit) -> None:
    wanted = webhook(sessions)
    webhook(sessions, events=(WebhookEvent.JOB_FAILED,))
    webhook(sessions, project="other")
    job = submit(of={"callback_url": "https://b.example:8443/y?token=secret"})
    assert deliveries(sessions) == ()
    cancel(sessions, job)
    cancel(sessions, job)
    told = deliveries(sessions)
    assert {(row.webhook_id, row.job_id, row.type, row.origin) for row in told} == {
        (wanted.id, job.id, "job.cancelled", "https://a.example"),
        (None, job.id, "job.cancelled", "https://b.example:8443"),
    }
    assert {row.status for row in told} == {DeliveryStatus.PENDING}
    assert len(told) == 2
    assert deliveries(sessions, "other") == ()


def test_an_end_that_is_rolled_back_tells_nobody(sessions: Sessions, submit: Submit) -> None:
    webhook(sessions)
    submit()
    with sessions.begin() as session:
        held = claim_job(session, job_id=None, queues=["cpu"], worker="w")
        assert held is not None
    with sessions() as session:
        assert finish_cancelled(session, held)
        session.rollback()
    assert deliveries(sessions) == ()


def test_deliverers_that_claim_at_once_never_get_the_same_message(sessions: Sessions, submit: Submit) -> None:
    for number in range(20):
        webhook(sessions, f"https://{number}.example/", project=f"p{number}")
        cancel(sessions, submit(project=f"p{number}"))
    start = threading.Barrier(2)

    def take(_: int) -> list[str]:
        start.wait()
        claims = [claim(sessions) for _ in range(10)]
        return [one.id for one in claims if one is not None]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(take, range(2))
    taken = Counter(first + second)
    assert (len(taken), max(taken.values())) == (20, 1)
    assert claim(sessions) is None


def test_a_slow_receiver_holds_up_two_deliverers_and_a_project_four(sessions: Sessions, submit: Submit) -> None:
    for name in ("slow", "slow", "slow", "b", "c", "d", "e"):
        cancel(sessions, submit(of={"callback_url": f"https://{name}.example/"}))
    other = submit(project="other", of={"callback_url": "https://slow.example/"})
    cancel(sessions, other)
    claims = [claimed(sessions) for _ in range(5)]
    assert [one.url.split("/")[2] for one in claims[:4]] == ["slow.example", "slow.example", "b.example", "c.example"]
    assert claims[4].job_id == other.id
    assert claim(sessions) is None
    finish(sessions, claims[2], OK)
    assert claimed(sessions).url == "https://d.example/"


def test_a_message_is_tried_after_each_recommended_pause_and_then_no_more(sessions: Sessions, submit: Submit) -> None:
    hook = webhook(sessions)
    cancel(sessions, submit())
    identities = set()
    for pause in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400):
        held = claimed(sessions)
        identities.add(held.id)
        assert finish(sessions, held, BROKEN) is After.RETRYING
        [row] = deliveries(sessions)
        with sessions() as session:
            left = row.next_at - database_now(session)
        assert timedelta(seconds=pause - 3) < left <= timedelta(seconds=pause)
        assert (row.status, row.response_status) == (DeliveryStatus.PENDING, 500)
        assert claim(sessions) is None
        rest(sessions)
    waiting = submit()
    cancel(sessions, waiting)
    held = claimed(sessions)
    assert finish(sessions, held, Attempted(None, None, "no answer")) is After.DISABLED
    assert identities == {held.id}
    statuses = {row.job_id: (row.status, row.attempts, row.detail) for row in deliveries(sessions)}
    assert statuses[held.job_id] == (DeliveryStatus.FAILED, 10, "no answer")
    assert statuses[waiting.id] == (DeliveryStatus.FAILED, 0, "the webhook was disabled")
    with sessions() as session:
        closed = find_webhook(session, project="default", webhook_id=hook.id)
    assert closed.disabled_at is not None
    assert "tried 10 times" in closed.disabled_reason
    cancel(sessions, submit())
    assert len(deliveries(sessions)) == 2  # a disabled webhook hears of nothing


def test_a_receiver_that_answers_others_well_stays_enabled(sessions: Sessions, submit: Submit) -> None:
    hook = webhook(sessions)
    cancel(sessions, submit())
    for _ in range(9):
        assert finish(sessions, claimed(sessions), BROKEN) is After.RETRYING
        rest(sessions)
    stubborn = claimed(sessions)
    cancel(sessions, submit())
    assert finish(sessions, claimed(sessions), OK) is After.SUCCEEDED
    assert finish(sessions, stubborn, BROKEN) is After.FAILED
    with sessions() as session:
        assert find_webhook(session, project="default", webhook_id=hook.id).disabled_at is None


def test_a_receiver_that_is_gone_is_told_nothing_more_until_it_is_enabled(sessions: Sessions, submit: Submit) -> None:
    hook = webhook(sessions)
    cancel(sessions, submit())
    held = claimed(sessions)
    assert finish(sessions, held, GONE) is After.DISABLED
    cancel(sessions, submit())
    assert claim(sessions) is None
    with sessions.begin() as session:
        assert "410" in find_webhook(session, project="default", webhook_id=hook.id).disabled_reason
        assert enable_webhook(session, hook.id).disabled_at is None
        assert redeliver(session, Of("default", webhook_id=hook.id), held.id).status is DeliveryStatus.PENDING
    again = claimed(sessions)
    assert (again.id, again.attempt) == (held.id, 2)


def test_a_callback_that_is_gone_fails_alone(sessions: Sessions, submit: Submit) -> None:
    cancel(sessions, submit(of={"callback_url": "https://a.example/"}))
    assert finish(sessions, claimed(sessions), GONE) is After.FAILED


def test_a_deliverer_that_died_is_replaced_and_its_late_word_counts_for_nothing(
    sessions: Sessions, submit: Submit
) -> None:
    cancel(sessions, submit(of={"callback_url": "https://a.example/"}))
    dead = claimed(sessions, lease_seconds=-1)
    heir = claimed(sessions)
    assert (heir.id, heir.attempt) == (dead.id, 2)
    assert finish(sessions, dead, BROKEN) is After.LOST
    assert finish(sessions, heir, OK) is After.SUCCEEDED
    assert finish(sessions, dead, GONE) is After.LOST
    assert deliveries(sessions)[0].status is DeliveryStatus.SUCCEEDED


def test_a_message_that_kills_every_deliverer_ends(sessions: Sessions, submit: Submit) -> None:
    cancel(sessions, submit(of={"callback_url": "https://a.example/"}))
    for _ in range(10):
        claimed(sessions, lease_seconds=-1)
    assert claim(sessions) is None
    with sessions.begin() as session:
        assert outbox.has_due(session)
        assert outbox.fail_abandoned(session) == 1
        assert not outbox.has_due(session)
    assert deliveries(sessions)[0].status is DeliveryStatus.FAILED


def test_redelivery_leaves_alone_what_is_under_way_and_what_is_anothers(sessions: Sessions, submit: Submit) -> None:
    hook = webhook(sessions)
    cancel(sessions, submit())
    held = claimed(sessions)
    with sessions.begin() as session:
        assert redeliver(session, Of("default"), held.id).attempts == 1
    assert claim(sessions) is None
    finish(sessions, held, OK)
    with sessions.begin() as session:
        assert redeliver(session, Of("other"), held.id) is None
        assert redeliver(session, Of("default", job_id="job_x"), held.id) is None
        assert find_delivery(session, Of("default"), held.id).status is DeliveryStatus.SUCCEEDED
        assert redeliver(session, Of("default", webhook_id=hook.id, job_id=held.job_id), held.id) is not None
    assert claimed(sessions).tries_left == 9


def test_a_test_message_is_tried_once_and_closes_nothing(sessions: Sessions) -> None:
    hook = webhook(sessions)
    with sessions.begin() as session:
        assert send_test(session, hook).job_id is None
    assert finish(sessions, claimed(sessions), BROKEN) is After.FAILED
    with sessions() as session:
        assert find_webhook(session, project="default", webhook_id=hook.id).disabled_at is None


def test_a_project_has_its_own_webhooks_and_not_too_many(sessions: Sessions) -> None:
    hook = webhook(sessions, limit=1)
    with pytest.raises(WebhookLimit):
        webhook(sessions, limit=1)
    webhook(sessions, project="other", limit=1)
    with sessions.begin() as session:
        assert list_webhooks(session, project="default") == (hook,)
        assert find_webhook(session, project="other", webhook_id=hook.id) is None
        delete_webhook(session, hook.id)
        assert list_webhooks(session, project="default") == ()


def test_deleting_a_webhook_takes_its_deliveries_along(sessions: Sessions, submit: Submit) -> None:
    hook = webhook(sessions)
    cancel(sessions, submit(of={"callback_url": "https://b.example/"}))
    with sessions.begin() as session:
        delete_webhook(session, hook.id)
    assert [row.webhook_id for row in deliveries(sessions)] == [None]


def test_a_rotated_secret_overlaps_with_the_one_before_for_a_day(sessions: Sessions) -> None:
    hook = webhook(sessions)

    def numbers(webhook_id: str | None) -> tuple[int, ...]:
        with sessions() as session:
            return secret_numbers(session, project="default", webhook_id=webhook_id).in_force()

    assert (numbers(hook.id), numbers(None)) == ((1,), (1,))
    for current in (2, 3):
        with sessions.begin() as session:
            rotate_secret(session, hook.id)
            rotate_callback_secret(session, project="default")
        assert (numbers(hook.id), numbers(None)) == ((current, current - 1),) * 2
    with sessions.begin() as session:
        for table in (tables.Webhook, tables.CallbackSecret):
            session.execute(update(table).values(rotated_at=seconds_from_now(-86_401)))
    assert (numbers(hook.id), numbers(None)) == ((3,), (3,))
    with sessions() as session:
        assert secret_numbers(session, project="default", webhook_id="whk_gone") is None
