"""Every route, asked with another project's objects, answers as for objects that nobody has."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from test_service_access import TOY, Act, Headers, key

from service.parts import Parts
from service.settings import Auth
from store.identifiers import new_id
from store.keys import Scope

Ids = dict[str, str]
TUS = {"Tus-Resumable": "1.0.0"}
# Addresses in which an id stands, with the methods that only the body would make meaningful.
OPEN = {"/problems/{code}"}
EXTRAS: dict[str, dict[str, str]] = {
    "/v1/uploads/{upload_id}": TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
}


def of_ours(http: TestClient, ours: Headers, finish: Act) -> Ids:
    """One object of every kind that an address can name."""
    artifact = http.post("/v1/artifacts", content=b"weights", headers=ours).json()["id"]
    upload = (
        http.post("/v1/uploads", headers=ours | TUS | {"Upload-Length": "9"}).headers["location"].rpartition("/")[2]
    )
    hook = http.post("/v1/webhooks", json={"url": "https://hooks.example/x"}, headers=ours).json()["id"]
    body = TOY | {"run": {"id": "secret-run", "step": 1}, "callback_url": "https://hooks.example/y"}
    job = http.post("/v1/jobs", json=body, headers=ours).json()["id"]
    finish(job)
    delivery = http.get(f"/v1/jobs/{job}/deliveries", headers=ours).json()["data"][0]["id"]
    return {
        "artifact_id": artifact, "upload_id": upload, "webhook_id": hook, "job_id": job, "run_id": "secret-run",
        "delivery_id": delivery, "number": "0", "form": "json",
    }  # fmt: skip


UNKNOWN = {
    "artifact_id": "sha256:" + "0" * 64, "upload_id": "upl_" + "0" * 32, "webhook_id": "whk_" + "0" * 32,
    "job_id": "job_" + "0" * 32, "run_id": "nobodys-run", "delivery_id": "msg_" + "0" * 32, "number": "0", "form": "json",
}  # fmt: skip


def routes(http: TestClient) -> list[tuple[str, str]]:
    """Method and path of every route whose address holds an id."""
    found = [
        (method, route.path_format)
        for route in _all_routes(http.app)
        for method in sorted(route.methods - {"OPTIONS"})
        if "{" in route.path_format and route.path_format not in OPEN
    ]
    assert len(found) > 25
    return found


def _all_routes(app: object) -> list[APIRoute]:
    found: list[APIRoute] = []
    waiting = list(app.routes)
    while waiting:
        route = waiting.pop()
        if isinstance(route, APIRoute):
            found.append(route)
        elif hasattr(route, "original_router"):
            waiting.extend(route.original_router.routes)
    return found


def told(http: TestClient, method: str, path: str, ids: Ids, headers: Headers) -> tuple[int, str, dict[str, str]]:
    """The answer with the ids and what differs between any two answers taken out."""
    content = b"weights" if (method, path) == ("PUT", "/v1/artifacts/{artifact_id}") else b""
    answer = http.request(method, path.format(**ids), headers=headers | EXTRAS.get(path, {}), content=content)
    text = answer.text
    for value in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(value, "ID") if len(value) > 4 else text
    text = re.sub(r"req_[0-9a-f]{32}", "REQ", text)
    varying = {"x-request-id", "ratelimit", "content-length", "set-cookie", "date", "retry-after"}
    return answer.status_code, text, {name: text for name, text in answer.headers.items() if name not in varying}


def test_a_foreign_object_is_answered_as_an_unknown_one_on_every_route(
    with_settings: Callable[..., TestClient], parts: Parts, finish: Act
) -> None:
    http = with_settings(auth=Auth.KEYS)
    ours, theirs = (key(parts, new_id(name), Scope.ADMIN) for name in ("ours", "theirs"))
    ids = of_ours(http, ours, finish)
    for method, path in routes(http):
        if path.startswith("/jobs/") and method == "POST":
            continue  # forms want a token first, whoever's the job is
        status, text, headers = told(http, method, path, ids, theirs)
        if (method, path) == ("PUT", "/v1/artifacts/{artifact_id}"):
            assert status == 201  # what is made by its name: the same bytes are theirs to bring, and new
            continue
        assert (status, text, headers) == told(http, method, path, UNKNOWN, theirs), (method, path)
        # 405 is the method override of tus, before anything is looked up.
        assert status == (405 if (method, path) == ("POST", "/v1/uploads/{upload_id}") else 404), (method, path)


def test_no_list_of_one_project_names_anything_of_another(
    with_settings: Callable[..., TestClient], parts: Parts, finish: Act
) -> None:
    http = with_settings(auth=Auth.KEYS)
    ours, theirs = (key(parts, new_id(name), Scope.ADMIN) for name in ("ours", "theirs"))
    ids = of_ours(http, ours, finish)
    lists = {
        route.path_format for route in _all_routes(http.app) if "{" not in route.path_format and "GET" in route.methods
    }
    assert {"/v1/jobs", "/v1/jobs.csv", "/v1/runs", "/v1/events", "/v1/webhooks", "/"} <= lists
    secrets = [value for value in ids.values() if len(value) > 4] + ["hooks.example"]
    seen = ""
    for path in sorted(lists):
        seen += http.get(path, headers=ours).text
        answer = http.get(path, headers=theirs).text
        assert not [secret for secret in secrets if secret in answer], path
    assert all(secret in seen for secret in (ids["job_id"], ids["webhook_id"], "secret-run"))


def test_the_same_bytes_in_two_projects_are_two_artifacts(
    with_settings: Callable[..., TestClient], parts: Parts
) -> None:
    http = with_settings(auth=Auth.KEYS)
    ours, theirs = (key(parts, new_id(name), Scope.ADMIN) for name in ("ours", "theirs"))
    first = http.post("/v1/artifacts", content=b"the same", headers=ours)
    assert http.head(f"/v1/artifacts/{first.json()['id']}", headers=theirs).status_code == 404
    second = http.post("/v1/artifacts", content=b"the same", headers=theirs)
    assert (first.status_code, second.status_code) == (201, 201)
    assert {k: v for k, v in first.json().items() if "at" not in k} == {
        k: v for k, v in second.json().items() if "at" not in k
    }
