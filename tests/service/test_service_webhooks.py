"""Webhooks from their registration to the receiver, over real HTTP: signed, told once a job ends, told again if need be."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from receivers import Received, Receiver, receiver, socket_receiver
from sqlalchemy import text, update
from test_service_access import key

from saddlescope.client import WebhookInvalid
from saddlescope.client.webhooks import verify
from saddlescope.contract.webhooks import WebhookMessage
from service.app import create_app
from service.courier import Courier
from service.deliverer import Deliverer
from service.parts import Parts
from service.settings import Auth
from store import tables
from store.keys import Scope
from store.moments import seconds_from_now
from store.outbox import After, claim_delivery

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}
Act = Callable[[str], None]


@pytest.fixture
def told() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


@pytest.fixture
def lenient_parts(parts: Parts) -> Parts:
    """The same parts for operators who allow the loopback address."""
    changes = {"webhook_allow": "127.0.0.1", "public_url": "https://scope.example"}
    return replace(parts, settings=parts.settings.model_copy(update=changes))


@pytest.fixture
def http(lenient_parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(lenient_parts), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def deliverer(lenient_parts: Parts) -> Deliverer:
    return Deliverer(lenient_parts, Courier(lenient_parts.settings.destinations()))


def url_of(told: Receiver) -> str:
    return f"http://127.0.0.1:{told.port}/hook?token=t0ken"


def register(http: TestClient, told: Receiver, **changes: object) -> dict[str, str]:
    answer = http.post("/v1/webhooks", json={"url": url_of(told)} | changes)
    assert answer.status_code == 201, answer.text
    return answer.json()


def submit(http: TestClient, **changes: object) -> str:
    return str(http.post("/v1/jobs", json=TOY | changes).json()["id"])


def read(one: Received, secret: str | list[str]) -> WebhookMessage:
    return verify(one.headers, one.body, secret)


def rest(parts: Parts) -> None:
    """Let every backoff be over."""
    with parts.sessions.begin() as session:
        pending = update(tables.Delivery).where(tables.Delivery.status == "pending")
        session.execute(pending.values(next_at=seconds_from_now(-1)))


def test_a_webhook_hears_of_the_end_of_a_job_with_its_verdict(
    http: TestClient, deliverer: Deliverer, told: Receiver, finish: Act
) -> None:
    hook = register(http, told)
    job_id = submit(http, labels={"team": "vision"})
    assert deliverer.deliver_one() is None
    finish(job_id)
    assert deliverer.deliver_one() is After.SUCCEEDED
    assert deliverer.deliver_one() is None
    [one] = told.received
    message = read(one, hook["secret"])
    assert (one.path, message.type) == ("/hook?token=t0ken", "job.succeeded")
    job = http.get(f"/v1/jobs/{job_id}").json()
    assert message.data | {"urls": None} == job | {"urls": None, "summary": message.data["summary"]}
    assert message.data["verdict"] == "saddle"
    assert message.data["summary"] == http.get(f"/v1/jobs/{job_id}/report").json()["summary"]
    assert message.data["urls"]["report"] == f"https://scope.example/v1/jobs/{job_id}/report"

    [logged] = http.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["data"]
    assert logged["id"] == one.headers["webhook-id"]
    assert (logged["status"], logged["attempts"], logged["response_status"]) == ("succeeded", 1, 204)
    assert (logged["job"], logged["next_attempt_at"]) == (job_id, None)
    assert logged["latency_ms"] >= 0
    assert http.get(f"/v1/webhooks/{hook['id']}").json()["succeeded_at"] is not None


def test_each_webhook_hears_of_what_it_asked_for(
    http: TestClient, deliverer: Deliverer, told: Receiver, finish: Act, fail: Act
) -> None:
    register(http, told, events=["job.failed", "job.cancelled"])
    for end in (finish, fail, lambda job_id: http.post(f"/v1/jobs/{job_id}/cancel")):
        end(submit(http))
    while deliverer.deliver_one() is not None:
        pass
    messages = [json.loads(one.body) for one in told.received]
    assert [message["type"] for message in messages] == ["job.failed", "job.cancelled"]
    assert messages[0]["data"]["error"]["code"] == "non_finite_loss"
    assert messages[0]["data"]["summary"] is None


def test_a_callback_is_signed_by_the_projects_secret(
    http: TestClient, deliverer: Deliverer, told: Receiver, finish: Act
) -> None:
    job_id = submit(http, callback_url=url_of(told))
    finish(job_id)
    assert deliverer.deliver_one() is After.SUCCEEDED
    secret = http.get("/v1/callback-secret").json()["secret"]
    assert read(told.received[0], secret).data["id"] == job_id
    [logged] = http.get(f"/v1/jobs/{job_id}/deliveries").json()["data"]
    # The rest of the address may be a secret.
    assert (logged["webhook"], logged["destination"]) == (None, f"http://127.0.0.1:{told.port}")
    again = http.post(f"/v1/jobs/{job_id}/deliveries/{logged['id']}/redeliver")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    assert deliverer.deliver_one() is After.SUCCEEDED
    assert told.received[0].headers["webhook-id"] == told.received[1].headers["webhook-id"]


def test_a_question_that_was_answered_before_calls_back_at_once(
    http: TestClient, deliverer: Deliverer, told: Receiver, finish: Act
) -> None:
    first = submit(http)
    finish(first)
    headers = {"Idempotency-Key": "once"}
    for _ in range(2):  # the replay of an idempotent submission tells nothing twice
        body = TOY | {"force": False, "callback_url": url_of(told)}
        answered = http.post("/v1/jobs", json=body, headers=headers).json()
        assert answered["deduplicated"] is True
    assert answered["id"] != first
    assert deliverer.deliver_one() is After.SUCCEEDED
    assert deliverer.deliver_one() is None
    assert json.loads(told.received[0].body)["data"]["id"] == answered["id"]


def test_a_retried_job_calls_back_as_well(http: TestClient, deliverer: Deliverer, told: Receiver, fail: Act) -> None:
    job_id = submit(http, callback_url=url_of(told))
    fail(job_id)
    retried = http.post(f"/v1/jobs/{job_id}/retry").json()["id"]
    fail(retried)
    assert [deliverer.deliver_one() for _ in range(3)] == [After.SUCCEEDED, After.SUCCEEDED, None]
    assert {json.loads(one.body)["data"]["id"] for one in told.received} == {job_id, retried}


def test_an_error_is_followed_by_another_try_under_the_same_id(
    http: TestClient, lenient_parts: Parts, deliverer: Deliverer, told: Receiver, finish: Act
) -> None:
    told.statuses = [500, 200]
    hook = register(http, told)
    finish(submit(http))
    assert deliverer.deliver_one() is After.RETRYING
    [logged] = http.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["data"]
    assert (logged["status"], logged["response_status"]) == ("pending", 500)
    assert logged["detail"] == "the receiver answered 500"
    assert logged["next_attempt_at"] > logged["attempted_at"]
    assert deliverer.deliver_one() is None
    rest(lenient_parts)
    assert deliverer.deliver_one() is After.SUCCEEDED
    first, second = told.received
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert read(second, hook["secret"]).type == "job.succeeded"


def test_a_deliverer_that_dies_in_between_is_replaced(
    http: TestClient, lenient_parts: Parts, deliverer: Deliverer, told: Receiver, finish: Act
) -> None:
    register(http, told)
    finish(submit(http))
    with lenient_parts.sessions.begin() as session:
        assert claim_delivery(session, lease_seconds=2) is not None
    assert deliverer.deliver_one() is None
    deliverer.start()  # the process that came after
    wait_until(lambda: told.received)
    deliverer.stop()
    assert len(told.received) == 1


def test_a_redirect_is_logged_and_not_followed(
    http: TestClient, deliverer: Deliverer, told: Receiver, finish: Act
) -> None:
    hook = register(http, told)
    told.statuses, told.headers = [302], {"Location": "http://169.254.169.254/latest/meta-data/"}
    finish(submit(http))
    assert deliverer.deliver_one() is After.RETRYING
    [logged] = http.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["data"]
    assert (logged["response_status"], logged["detail"]) == (302, "redirects are not followed")


def test_a_name_that_leads_inside_is_refused_when_the_message_leaves(
    client: TestClient, parts: Parts, finish: Act
) -> None:
    """As the service is without anything allowed: the URL looks public, its address is not."""
    told: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        told.append(host)
        return ["93.184.215.14", "169.254.169.254"]

    job_id = submit(client, callback_url="https://metadata.example/hook")
    finish(job_id)
    deliverer = Deliverer(parts, Courier(parts.settings.destinations(), resolver=resolver))
    assert deliverer.deliver_one() is After.RETRYING
    [logged] = client.get(f"/v1/jobs/{job_id}/deliveries").json()["data"]
    assert logged["detail"] == "not sent: 169.254.169.254 is not a public address"
    assert (logged["response_status"], told) == (None, ["metadata.example"])


def test_a_webhook_whose_receiver_is_gone_is_disabled_until_it_is_enabled(
    http: TestClient, deliverer: Deliverer, told: Receiver, finish: Act
) -> None:
    hook = register(http, told)
    told.statuses = [410, 204]
    finish(submit(http))
    assert deliverer.deliver_one() is After.DISABLED
    closed = http.get(f"/v1/webhooks/{hook['id']}").json()
    assert closed["disabled_at"] is not None
    assert "410" in closed["disabled_reason"]
    finish(submit(http))
    assert deliverer.deliver_one() is None
    assert http.post(f"/v1/webhooks/{hook['id']}/enable").json()["disabled_at"] is None
    [logged] = http.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["data"]
    path = f"/v1/webhooks/{hook['id']}/deliveries/{logged['id']}/redeliver"
    assert http.post(path).json()["status"] == "pending"
    assert deliverer.deliver_one() is After.SUCCEEDED


def test_a_test_message_tells_whether_the_receiver_is_well(
    http: TestClient, deliverer: Deliverer, told: Receiver
) -> None:
    hook = register(http, told)
    told.statuses = [204, 404]
    sent = http.post(f"/v1/webhooks/{hook['id']}/test")
    assert (sent.status_code, sent.json()["status"]) == (202, "pending")
    assert deliverer.deliver_one() is After.SUCCEEDED
    message = read(told.received[0], hook["secret"])
    assert (message.type, message.data) == ("webhook.test", {"webhook": hook["id"]})
    http.post(f"/v1/webhooks/{hook['id']}/test")
    assert deliverer.deliver_one() is After.FAILED


def test_a_secret_is_shown_once_and_both_sign_for_a_day_after_a_rotation(
    http: TestClient, lenient_parts: Parts, deliverer: Deliverer, told: Receiver
) -> None:
    hook = register(http, told)
    assert hook["secret"].startswith("whsec_")
    assert http.get(f"/v1/webhooks/{hook['id']}").json()["secret"] is None
    assert http.get("/v1/webhooks").json()["data"][0]["secret"] is None
    rotated = http.post(f"/v1/webhooks/{hook['id']}/rotate").json()["secret"]
    callback = http.get("/v1/callback-secret").json()["secret"]
    other = http.post("/v1/callback-secret/rotate").json()["secret"]
    assert len({hook["secret"], rotated, callback, other}) == 4
    assert http.get("/v1/callback-secret").json()["secret"] == other
    http.post(f"/v1/webhooks/{hook['id']}/test")
    deliverer.deliver_one()
    for secret in (hook["secret"], rotated):
        assert read(told.received[0], secret)
    with pytest.raises(WebhookInvalid):
        read(told.received[0], other)
    # A copy of the database signs nothing.
    with lenient_parts.engine.connect() as connection:
        rows = [connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables.Table.metadata.tables]
    for secret in (hook["secret"], rotated, callback, other):
        assert secret.removeprefix("whsec_") not in str(rows)


def test_one_receiver_that_hangs_does_not_hold_up_another(
    http: TestClient, lenient_parts: Parts, told: Receiver, finish: Act
) -> None:
    def hang(connection: socket.socket, over: threading.Event) -> None:
        over.wait()

    with socket_receiver(hang) as port:
        for _ in range(5):
            finish(submit(http, callback_url=f"http://127.0.0.1:{port}/"))
        for _ in range(5):
            finish(submit(http, callback_url=url_of(told)))
        deliverer = Deliverer(lenient_parts, Courier(lenient_parts.settings.destinations(), limit_seconds=30))
        deliverer.start()
        wait_until(lambda: len(told.received) == 5)
        deliverer.stop()


def wait_until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/url", "missing"),
        ({"url": "https://example.org/", "event": []}, "/event", "extra_forbidden"),
        ({"url": "https://example.org/", "events": []}, "/events", "too_short"),
        ({"url": "https://example.org/", "events": ["job.exploded"]}, "/events/0", "enum"),
        ({"url": "http://example.org/"}, "/url", "destination_refused"),
        ({"url": "https://10.0.0.1/"}, "/url", "destination_refused"),
        ({"url": "https://" + "a" * 3000}, "/url", "string_too_long"),
        ([], "", "model_type"),
    ],
)
def test_a_webhook_that_could_not_work_is_refused(client: TestClient, body: object, pointer: str, code: str) -> None:
    answer = client.post("/v1/webhooks", json=body)
    assert answer.status_code == 422
    assert (pointer, code) in [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


def test_a_webhook_comes_as_json_and_not_without_end(client: TestClient) -> None:
    form = client.post("/v1/webhooks", content="url=x", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert form.status_code == 415
    for number in range(20):
        assert client.post("/v1/webhooks", json={"url": f"https://example.org/{number}"}).status_code == 201
    full = client.post("/v1/webhooks", json={"url": "https://example.org/"})
    assert (full.status_code, full.json()["code"]) == (409, "webhook_limit")
    hook = client.get("/v1/webhooks").json()["data"][0]
    assert client.delete(f"/v1/webhooks/{hook['id']}").status_code == 204
    assert client.delete(f"/v1/webhooks/{hook['id']}").status_code == 404
    assert client.post("/v1/webhooks", json={"url": "https://example.org/"}).status_code == 201


def test_webhooks_are_their_projects_and_their_admins(
    with_settings: Callable[..., TestClient], parts: Parts, told: Receiver, finish: Act
) -> None:
    guarded = with_settings(auth=Auth.KEYS, webhook_allow="127.0.0.1")
    ours, theirs = key(parts, "ours", Scope.ADMIN), key(parts, "theirs", Scope.ADMIN)
    submitter = key(parts, "ours", Scope.SUBMIT, Scope.READ)
    hook = guarded.post("/v1/webhooks", json={"url": url_of(told)}, headers=ours).json()
    body = TOY | {"callback_url": url_of(told)}
    job = guarded.post("/v1/jobs", json=body, headers=submitter).json()["id"]
    finish(job)
    of_hook, of_job = f"/v1/webhooks/{hook['id']}/deliveries", f"/v1/jobs/{job}/deliveries"
    [told_hook] = guarded.get(of_hook, headers=ours).json()["data"]
    logged = guarded.get(of_job, headers=submitter).json()
    assert len(logged["data"]) == 2
    at = f"/v1/webhooks/{hook['id']}"
    calls = [
        ("GET", at), ("DELETE", at), ("POST", f"{at}/enable"), ("POST", f"{at}/rotate"), ("POST", f"{at}/test"),
        ("GET", of_hook), ("POST", f"{of_hook}/{told_hook['id']}/redeliver"),
    ]  # fmt: skip
    for method, path in calls:
        assert guarded.request(method, path, headers=theirs).status_code == 404, path
        assert guarded.request(method, path, headers=submitter).status_code == 403, path
    for method, path in [("GET", of_job), ("POST", f"{of_job}/{told_hook['id']}/redeliver")]:
        assert guarded.request(method, path, headers=theirs).status_code == 404, path
        assert guarded.request(method, path, headers=submitter).status_code in (200, 202), path
    for method, path in [("POST", "/v1/webhooks"), ("GET", "/v1/webhooks"), ("GET", "/v1/callback-secret"),
                         ("POST", "/v1/callback-secret/rotate")]:  # fmt: skip
        assert guarded.request(method, path, headers=submitter, json={}).status_code == 403, path
    assert guarded.get("/v1/webhooks", headers=theirs).json()["data"] == []
    secrets = {guarded.get("/v1/callback-secret", headers=who).json()["secret"] for who in (ours, theirs)}
    assert len(secrets) == 2
    assert guarded.get("/v1/webhooks/whk_%00", headers=ours).status_code == 404
    assert guarded.post(f"{of_hook}/dlv_%00/redeliver", headers=ours).status_code == 404


def test_the_log_of_deliveries_has_pages(http: TestClient, told: Receiver) -> None:
    hook = register(http, told)
    sent = [http.post(f"/v1/webhooks/{hook['id']}/test").json()["id"] for _ in range(5)]
    found, after = [], {}
    while True:
        page = http.get(f"/v1/webhooks/{hook['id']}/deliveries", params={"limit": 2} | after).json()
        found += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["next"]}
    assert found == sent[::-1]
