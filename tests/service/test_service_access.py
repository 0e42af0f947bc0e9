"""Who may do what, and that one project never learns of another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from saddlescope.contract.vocabulary import FailureCode
from service.addresses import is_loopback
from service.embedded import StartRefusedError, refuse_open_address
from service.parts import Parts
from service.settings import Auth, Settings
from store.keys import Scope, create_key, revoke_key
from store.queue import claim_job, finish_failed

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}
Act = Callable[[str], None]
Headers = dict[str, str]


@pytest.fixture
def guarded(with_settings: Callable[..., TestClient]) -> TestClient:
    return with_settings(auth=Auth.KEYS)


def key(parts: Parts, project: str, *scopes: Scope, expires_at: datetime | None = None) -> Headers:
    with parts.sessions.begin() as session:
        bearer, _ = create_key(session, project=project, scopes=scopes, expires_at=expires_at, pepper=parts.pepper)
    return {"Authorization": f"Bearer {bearer}"}


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer"}, {"Authorization": "Bearer sk_x_y"}, {"Authorization": "Basic eDp5"},
     {"Authorization": "Bearer " + "x" * 9000}],
)  # fmt: skip
def test_without_a_valid_key_nothing_is_told(guarded: TestClient, headers: Headers) -> None:
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("PUT", "/v1/artifacts/x"), ("GET", "/metrics")):
        answer = guarded.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_an_expired_or_revoked_key_is_no_key(guarded: TestClient, parts: Parts) -> None:
    past = datetime.now(UTC) - timedelta(seconds=5)
    assert guarded.get("/v1/jobs", headers=key(parts, "a", Scope.READ, expires_at=past)).status_code == 401
    good = key(parts, "a", Scope.READ)
    assert guarded.get("/v1/jobs", headers=good).status_code == 200
    with parts.sessions.begin() as session:
        assert revoke_key(session, project="a", key_id=good["Authorization"].split("_")[1])
    assert guarded.get("/v1/jobs", headers=good).status_code == 401


def test_each_scope_opens_its_own_calls(guarded: TestClient, parts: Parts) -> None:
    reader, submitter, admin = (key(parts, "a", scope) for scope in (Scope.READ, Scope.SUBMIT, Scope.ADMIN))
    expected = [
        ("POST", "/v1/jobs", {reader["Authorization"]: 403, submitter["Authorization"]: 202}),
        ("GET", "/v1/jobs", {reader["Authorization"]: 200, submitter["Authorization"]: 403}),
        ("GET", "/metrics", {reader["Authorization"]: 403, submitter["Authorization"]: 403}),
    ]
    for method, path, statuses in expected:
        for bearer, status in (statuses | {admin["Authorization"]: 202 if method == "POST" else 200}).items():
            answer = guarded.request(method, path, headers={"Authorization": bearer}, json=TOY)
            assert answer.status_code == status, (method, path)


def test_one_project_never_sees_anothers_objects(guarded: TestClient, parts: Parts, finish: Act) -> None:
    ours, theirs = key(parts, "ours", Scope.ADMIN), key(parts, "theirs", Scope.ADMIN)
    artifact = guarded.post("/v1/artifacts", content=b"weights", headers=ours).json()["id"]
    body = TOY | {"run": {"id": "secret-run", "step": 1}}
    job = guarded.post("/v1/jobs", json=body, headers=ours).json()["id"]
    finish(job)
    paths = [f"/v1/jobs/{job}{tail}" for tail in ("", "/events", "/attempts", "/report", "/spectrum", "/spectrum.svg", "/bundle",
                                                   "/landscape", "/escapes/0.safetensors",
                                                   "/contours.svg", "/surface.svg", "/escapes/0.svg")]  # fmt: skip
    paths += [f"/v1/artifacts/{artifact}", "/v1/runs/secret-run"]
    for path in paths:
        assert guarded.get(path, headers=ours).status_code == 200, path
        assert guarded.get(path, headers=theirs).status_code == 404, path
    for action in ("cancel", "retry"):
        assert guarded.post(f"/v1/jobs/{job}/{action}", headers=theirs).status_code == 404
    assert guarded.head(f"/v1/artifacts/{artifact}", headers=theirs).status_code == 404
    assert guarded.get("/v1/jobs", headers=theirs).json()["data"] == []
    assert guarded.get("/v1/runs", headers=theirs).json()["data"] == []
    assert guarded.get("/v1/jobs.csv", headers=theirs).text.count("\n") == 1
    # The vector of our report is an artifact of ours alone.
    vector = guarded.get(f"/v1/jobs/{job}/report", headers=ours).json()["escapes"][0]["vector"]
    assert guarded.get(f"/v1/artifacts/{vector}", headers=theirs).status_code == 404
    foreign = TOY | {"checkpoint": {"artifact": artifact}}
    refused = guarded.post("/v1/jobs", json=foreign, headers=theirs)
    assert (refused.status_code, refused.json()["code"]) == (422, "artifact_not_found")
    # Neither finished work nor idempotency keys cross the border.
    assert guarded.post("/v1/jobs", json=body, headers=theirs).json()["deduplicated"] is False
    assert guarded.put(f"/v1/artifacts/{artifact}", content=b"weights", headers=theirs).status_code == 201


def test_the_last_words_of_an_attempt_are_for_admins(guarded: TestClient, parts: Parts) -> None:
    reader, admin = key(parts, "a", Scope.READ), key(parts, "a", Scope.ADMIN)
    job = guarded.post("/v1/jobs", json=TOY, headers=admin).json()["id"]
    with parts.sessions.begin() as session:
        claim = claim_job(session, job_id=job, queues=["cpu"], worker="w")
        finish_failed(session, claim, code=FailureCode.CRASHED, detail="SIGSEGV", retryable=False, errors="/srv/secret")
    for headers, errors in ((reader, None), (admin, "/srv/secret")):
        (attempt,) = guarded.get(f"/v1/jobs/{job}/attempts", headers=headers).json()["data"]
        assert (attempt["detail"], attempt["errors"]) == ("SIGSEGV", errors)


def test_health_needs_no_key_and_pages_lead_to_the_form_where_a_browser_signs_in(
    guarded: TestClient, parts: Parts
) -> None:
    assert guarded.get("/healthz").status_code == 200
    assert guarded.get("/readyz").status_code == 200
    assert guarded.get("/docs").status_code == 200
    assert guarded.get("/").status_code == 401
    led = guarded.get("/?status=failed", headers={"Accept": "text/html"}, follow_redirects=False)
    assert (led.status_code, led.headers["location"]) == (303, "/login?next=%2F%3Fstatus%3Dfailed")
    assert guarded.get("/", headers=key(parts, "a", Scope.READ)).status_code == 200


def test_a_foreign_page_may_not_post_to_a_loopback_service(client: TestClient) -> None:
    answer = client.post("/v1/jobs", json=TOY, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert client.post("/v1/jobs", json=TOY, headers={"Sec-Fetch-Site": "none"}).status_code == 202


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_only_loopback_may_be_open(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
    refuse_open_address(Settings(auth=Auth.KEYS), host)
    if expected:
        refuse_open_address(Settings(), host)
    else:
        with pytest.raises(StartRefusedError, match="SADDLESCOPE_AUTH=keys"):
            refuse_open_address(Settings(), host)
