"""Who asks too fast is told to wait; the others, and those whom nobody can count, are served."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from test_service_access import Act, key

from service.access import STRANGER_RATE
from service.addresses import neighbourhood
from service.app import create_app
from service.parts import Parts
from service.rates import Rates, parsed_rate
from service.settings import Auth, Settings
from store.identifiers import new_id
from store.keys import Scope

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}
Build = Callable[..., TestClient]


def test_a_project_has_one_budget_for_all_its_keys_and_no_other_pays_for_it(with_settings: Build, parts: Parts) -> None:
    http = with_settings(auth=Auth.KEYS, request_rate="5 per 10 minutes")
    ours, theirs = new_id("ours"), new_id("theirs")
    first, second, foreign = (key(parts, project, Scope.READ) for project in (ours, ours, theirs))
    told = [http.get("/v1/jobs", headers=(first, second)[number % 2]) for number in range(5)]
    assert [answer.status_code for answer in told] == [200] * 5
    assert [answer.headers["ratelimit"].split(";")[1] for answer in told] == [f"r={left}" for left in (4, 3, 2, 1, 0)]
    assert told[0].headers["ratelimit-policy"] == '"project";q=5;w=600'
    refused = http.get("/v1/jobs", headers=second)
    assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (429, "rate_limited", True)
    assert 1 <= int(refused.headers["retry-after"]) <= 600
    assert refused.headers["ratelimit"] == f'"project";r=0;t={refused.headers["retry-after"]}'
    assert http.get("/v1/jobs", headers=foreign).status_code == 200


def test_two_processes_count_together(with_settings: Build, parts: Parts) -> None:
    ours = key(parts, new_id("ours"), Scope.READ)
    other = replace(parts, rates=Rates(str(parts.settings.broker_url)))
    other = replace(other, settings=parts.settings.model_copy(update={"auth": Auth.KEYS, "request_rate": "4/hour"}))
    first, second = with_settings(auth=Auth.KEYS, request_rate="4/hour"), TestClient(create_app(other))
    told = [(first, second)[number % 2].get("/v1/jobs", headers=ours).status_code for number in range(6)]
    assert told == [200, 200, 200, 200, 429, 429]


def test_who_guesses_keys_is_stopped_while_a_good_key_of_the_same_address_goes_on(
    with_settings: Build, parts: Parts
) -> None:
    http = with_settings(auth=Auth.KEYS)
    good = key(parts, new_id("ours"), Scope.READ)
    wrong = {"Authorization": good["Authorization"][:-4] + "0000"}
    most = parsed_rate(STRANGER_RATE).amount
    street = f"2001:db8:{secrets.randbelow(2**16):x}"  # the broker's counts outlive this test
    with TestClient(http.app, client=(f"{street}::1", 1)) as guesser:
        told = [guesser.get("/v1/jobs", headers=wrong).status_code for _ in range(most + 5)]
        assert (told[:most], set(told[most:])) == ([401] * most, {429})
        assert guesser.get("/v1/jobs").status_code == 429
        assert guesser.get("/v1/jobs", headers=good).status_code == 200
    with TestClient(http.app, client=(f"{street}:1::1", 1)) as neighbour:
        assert neighbour.get("/v1/jobs", headers=wrong).status_code == 401


def test_hundreds_of_posts_at_once_of_one_user_without_keys_all_pass(client: TestClient) -> None:
    def post(_: int) -> int:
        return client.post("/v1/jobs", json=TOY).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(post, range(300))) == {202}
    assert "ratelimit" not in client.get("/v1/jobs").headers


def test_without_a_broker_nobody_is_limited(with_settings: Build, parts: Parts) -> None:
    settings = parts.settings.model_copy(update={"auth": Auth.KEYS, "request_rate": "1/hour"})
    for nowhere in ("redis+socket:///nowhere/valkey.sock", "sentinel://nowhere"):
        http = TestClient(create_app(replace(parts, settings=settings, rates=Rates(nowhere))))
        ours = key(parts, new_id("ours"), Scope.READ)
        assert [http.get("/v1/jobs", headers=ours).status_code for _ in range(3)] == [200] * 3


def test_a_project_with_too_many_jobs_waiting_is_told_to_wait(with_settings: Build, parts: Parts, finish: Act) -> None:
    http = with_settings(auth=Auth.KEYS, max_queued_jobs=3)
    ours, theirs = (key(parts, new_id(name), Scope.ADMIN) for name in ("ours", "theirs"))
    jobs = [http.post("/v1/jobs", json=TOY, headers=ours).json()["id"] for _ in range(3)]
    refused = http.post("/v1/jobs", json=TOY, headers=ours)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert refused.json()["retryable"]
    assert int(refused.headers["retry-after"]) > 0
    assert http.get("/v1/jobs", headers=ours).json()["data"][0]["id"] == jobs[-1]
    assert http.post("/v1/jobs", json=TOY, headers=theirs).status_code == 202
    finish(jobs[0])
    assert http.post("/v1/jobs", json=TOY, headers=ours).status_code == 202


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::"), ("2001:db8::ffff:1", "2001:db8::"),
     ("2001:db8:0:1::1", "2001:db8:0:1::"), ("::ffff:10.0.0.1", "10.0.0.1"), ("testclient", "unknown"),
     (None, "unknown")],
)  # fmt: skip
def test_a_neighbourhood_is_what_one_caller_owns(host: str | None, expected: str) -> None:
    assert neighbourhood(host) == expected


def test_a_rate_that_cannot_be_read_is_told_at_the_start() -> None:
    with pytest.raises(ValidationError, match="request_rate"):
        Settings(request_rate="many")
