"""Browsers sign in with a key, are known by a cookie, and change nothing without a token of our own page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from test_service_access import TOY, Act, key

from service.parts import Parts
from service.sessions import SESSION_SECONDS
from service.settings import Auth
from store.keys import Scope, revoke_key

Build = Callable[..., TestClient]
LOOPBACK, TLS = "http://127.0.0.1", "https://saddlescope.example"


def token_of(page: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def sign_in(http: TestClient, bearer: str, there: str = "/") -> object:
    page = http.get("/login", params={"next": there}).text
    form = {"token": token_of(page), "next": there, "key": bearer.removeprefix("Bearer ")}
    return http.post("/login", data=form, follow_redirects=False)


@pytest.fixture
def browser(with_settings: Build) -> TestClient:
    http = with_settings(auth=Auth.KEYS)
    http.base_url = LOOPBACK
    http.headers["accept"] = "text/html"
    return http


def test_signing_in_opens_the_pages_of_the_keys_project_until_signing_out(
    browser: TestClient, parts: Parts, finish: Act
) -> None:
    ours, theirs = key(parts, "ours", Scope.READ, Scope.SUBMIT), key(parts, "theirs", Scope.ADMIN)
    job = browser.post("/v1/jobs", json=TOY, headers=ours).json()["id"]
    foreign = browser.post("/v1/jobs", json=TOY, headers=theirs).json()["id"]
    finish(job)
    assert browser.get(f"/jobs/{job}", follow_redirects=False).headers["location"] == f"/login?next=%2Fjobs%2F{job}"
    answer = sign_in(browser, ours["Authorization"], f"/jobs/{job}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job}")
    page = browser.get(f"/jobs/{job}")
    assert page.status_code == 200
    assert browser.get(f"/jobs/{foreign}").status_code == 404
    # The downloads of the page are open too, to read; nothing else of the API is.
    assert browser.get(f"/v1/jobs/{job}/report").status_code == 200
    assert browser.post("/v1/jobs", json=TOY).status_code == 401
    assert browser.delete("/v1/webhooks/whk_0").status_code == 401
    out = browser.post("/logout", data={"token": token_of(page.text)}, follow_redirects=False)
    assert (out.status_code, out.headers["location"]) == (303, "/login")
    assert browser.get("/", follow_redirects=False).status_code == 303


def test_a_wrong_key_opens_nothing(browser: TestClient, parts: Parts) -> None:
    good = key(parts, "ours", Scope.READ)["Authorization"]
    for wrong in ("", "x", good[:-1] + ("0" if good[-1] != "0" else "1")):
        answer = sign_in(browser, wrong)
        assert answer.status_code == 401
        assert good[-64:] not in answer.text
    assert browser.get("/", follow_redirects=False).status_code == 303


def test_a_revoked_key_ends_its_sessions(browser: TestClient, parts: Parts) -> None:
    bearer = key(parts, "ours", Scope.READ)["Authorization"]
    sign_in(browser, bearer)
    assert browser.get("/").status_code == 200
    with parts.sessions.begin() as session:
        assert revoke_key(session, project="ours", key_id=bearer.split("_")[1])
    assert browser.get("/", follow_redirects=False).status_code == 303


def test_a_cookie_that_is_forged_or_over_is_none(
    browser: TestClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(browser, key(parts, "ours", Scope.READ)["Authorization"])
    good = browser.cookies["saddlescope"]
    key_id, ends, nonce, seal = good.split(".")
    later = f"{key_id}.{int(ends) + 1}.{nonce}.{seal}"
    for forged in ("", "x", later, f"{key_id}.{ends}.{nonce}.{'0' * 64}", good.replace(key_id, "0" * 32), good + "x"):
        browser.cookies.set("saddlescope", forged, domain="127.0.0.1", path="/")
        assert browser.get("/", follow_redirects=False).status_code == 303, forged
    browser.cookies.clear()
    browser.cookies.set("saddlescope", good)
    assert browser.get("/", follow_redirects=False).status_code == 200
    now = time.time() + SESSION_SECONDS
    monkeypatch.setattr(time, "time", lambda: now)
    assert browser.get("/", follow_redirects=False).status_code == 303


def test_the_cookie_is_bound_to_the_host_under_tls_and_never_leaves_a_plain_connection(
    browser: TestClient, parts: Parts
) -> None:
    bearer = key(parts, "ours", Scope.READ)["Authorization"]
    said = browser.get("/login").headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=lax" in said
    assert "secure" not in said
    browser.base_url = TLS
    said = sign_in(browser, bearer).headers["set-cookie"]
    assert said.startswith("__Host-saddlescope=")
    assert {"httponly", "secure", "path=/", "samesite=lax"} <= set(said.lower().split("; "))
    assert "domain" not in said.lower()
    assert browser.get("/", follow_redirects=False).status_code == 200
    browser.cookies.clear()
    browser.base_url = "http://saddlescope.example"
    page = browser.get("/login")
    assert "set-cookie" not in page.headers
    assert "not encrypted" in page.text
    assert 'name="key"' not in page.text


def test_a_planted_cookie_does_not_become_a_session(browser: TestClient, parts: Parts) -> None:
    browser.get("/login")
    planted = browser.cookies["saddlescope"]
    sign_in(browser, key(parts, "ours", Scope.READ)["Authorization"])
    assert browser.cookies["saddlescope"] != planted
    browser.cookies.clear()
    browser.cookies.set("saddlescope", planted)
    assert browser.get("/", follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "there", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\nb", "javascript:x", ""]
)
def test_signing_in_leads_to_no_other_host(browser: TestClient, parts: Parts, there: str) -> None:
    answer = sign_in(browser, key(parts, "ours", Scope.READ)["Authorization"], there)
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize("auth", list(Auth))
def test_every_form_wants_the_token_of_the_browsers_own_page(with_settings: Build, parts: Parts, auth: Auth) -> None:
    http = with_settings(auth=auth)
    http.base_url = LOOPBACK
    ours = key(parts, "default", Scope.ADMIN)
    job = http.post("/v1/jobs", json=TOY, headers=ours).json()["id"]
    if auth is Auth.KEYS:
        sign_in(http, ours["Authorization"])
    page = http.get(f"/jobs/{job}").text
    stranger = TestClient(http.app, base_url=LOOPBACK)
    of_another_visit = token_of(stranger.get("/login").text if auth is Auth.KEYS else stranger.get(f"/jobs/{job}").text)
    actions = [f"/jobs/{job}/cancel", f"/jobs/{job}/retry", "/login", "/logout"]
    for action in actions:
        for form in ({}, {"token": ""}, {"token": "é"}, {"token": of_another_visit}):
            assert http.post(action, data=form | {"x": "y"}).status_code == 403, action
        assert http.post(action, json={"token": token_of(page)}).status_code == 415
        assert http.post(action, content=b"token=%ff", headers={"content-type": "application/x-www-form-urlencoded"}
                         ).status_code in (400, 403)  # fmt: skip
    assert http.get(f"/v1/jobs/{job}", headers=ours).json()["status"] == "queued"
    done = http.post(f"/jobs/{job}/cancel", data={"token": token_of(page)}, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, f"/jobs/{job}")
    assert http.get(f"/v1/jobs/{job}", headers=ours).json()["status"] == "cancelled"
    again = http.post(f"/jobs/{job}/retry", data={"token": token_of(page)}, follow_redirects=False)
    assert again.headers["location"].startswith("/jobs/job_")
    assert again.headers["location"] != f"/jobs/{job}"


def test_a_session_that_may_only_read_changes_nothing(browser: TestClient, parts: Parts) -> None:
    job = browser.post("/v1/jobs", json=TOY, headers=key(parts, "ours", Scope.SUBMIT)).json()["id"]
    sign_in(browser, key(parts, "ours", Scope.READ)["Authorization"])
    token = token_of(browser.get(f"/jobs/{job}").text)
    assert browser.post(f"/jobs/{job}/cancel", data={"token": token}).status_code == 403
