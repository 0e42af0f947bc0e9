"""What every answer has: an id, strict headers, a problem for every error; health and counts."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from saddlescope.contract.problems import Problem
from saddlescope.contract.vocabulary import FailureCode
from service.failures import FAILURES
from service.parts import Parts
from service.problems import ServiceProblem, catalogue

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}
Act = Callable[[str], None]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("GET", "/static/../app.py", 404, "not_found"),
        ("GET", "/static/none.css", 404, "not_found"),
        ("GET", "/problems/none", 404, "not_found"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("PATCH", "/v1/artifacts/x", 405, "method_not_allowed"),
    ],
)
def test_errors_outside_the_routes_are_problems_too(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    problem = Problem.model_validate(answer.json())
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem.status, problem.code) == (status, status, code)
    assert problem.type == f"/problems/{code}"
    assert problem.request_id == answer.headers["x-request-id"]


def test_405_names_every_method_of_the_address(client: TestClient) -> None:
    assert client.delete("/v1/jobs").headers["allow"] == "GET, POST"
    assert client.post("/v1/artifacts/x").headers["allow"] == "GET, HEAD, PUT"


def test_a_fault_of_ours_is_a_problem_without_its_cause(client: TestClient, parts: Parts) -> None:
    with parts.engine.begin() as connection:
        connection.execute(text("DROP TABLE job_labels"))
    answer = client.get("/v1/jobs?label=a:b", headers={"X-Request-Id": "abc"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "abc"
    assert "job_labels" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_request_id_is_returned_if_it_is_fit_to_be(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "a-1_b.c:d"}).headers["x-request-id"] == "a-1_b.c:d"
    for unfit in ("", "a b", "x" * 129, "<script>", "a\tb"):
        made = client.get("/healthz", headers={"X-Request-Id": unfit}).headers["x-request-id"]
        assert re.fullmatch(r"req_[0-9a-f]{32}", made)


def test_every_answer_forbids_what_a_page_does_not_need(client: TestClient) -> None:
    for path in ("/", "/docs", "/v1/jobs", "/nowhere", "/healthz", "/v1/openapi.json"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'"), path
        is_page = headers["content-type"].startswith("text/html")
        scripts = re.findall("script-src [^;]*", headers["content-security-policy"])
        assert scripts == (["script-src 'self'"] if is_page else []), path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert path == "/" or "set-cookie" not in headers  # a page with a form


def test_every_code_has_a_page(client: TestClient) -> None:
    codes = {*catalogue(), *FailureCode, *(kind.code for kind in ServiceProblem.__subclasses__())}
    assert set(FAILURES) == set(FailureCode)
    index = client.get("/problems").text
    for code in codes:
        assert client.get(f"/problems/{code}").status_code == 200
        assert f'href="/problems/{code}"' in index


def test_readiness_names_each_part(client: TestClient) -> None:
    answer = client.get("/readyz")
    told = answer.json()
    assert (answer.status_code, told["status"], told["workers"]["status"]) == (200, "degraded", "none_seen")
    assert {told[part]["status"] for part in ("database", "broker", "blobs")} == {"ok"}


@pytest.mark.parametrize("parts", ["embedded"], indirect=True)
def test_readiness_tells_a_blob_store_that_cannot_be_written(client: TestClient, parts: Parts) -> None:
    temporary = parts.blobs.folder / "tmp"
    temporary.rmdir()
    temporary.write_text("no folder")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["blobs"]["status"]) == (503, "down")


def test_metrics_count_routes_and_states_never_jobs(client: TestClient, finish: Act) -> None:
    job = client.post("/v1/jobs", json=TOY).json()["id"]
    client.post("/v1/jobs", json=TOY | {"force": True, "run": {"id": "run-of-mine"}})
    finish(job)
    client.get(f"/v1/jobs/{job}")
    told = client.get("/metrics").text
    assert 'saddlescope_http_requests_total{method="POST",route="/v1/jobs",status="202"} 2.0' in told
    assert 'route="/v1/jobs/{job_id}"' in told
    assert 'saddlescope_jobs{status="succeeded"} 1.0' in told
    assert 'saddlescope_jobs{status="queued"} 1.0' in told
    assert 'saddlescope_jobs_submitted_total{kind="expression"} 2.0' in told
    assert job not in told
    assert "run-of-mine" not in told
    client.get("/a-path-nobody-knows")
    assert "a-path-nobody-knows" not in client.get("/metrics").text


def test_the_description_covers_the_contract(client: TestClient) -> None:
    document = client.get("/v1/openapi.json").json()
    assert set(document["paths"]) >= {
        "/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/cancel", "/v1/jobs/{job_id}/retry",
        "/v1/jobs/{job_id}/events", "/v1/jobs/{job_id}/report", "/v1/jobs/{job_id}/bundle", "/v1/artifacts",
        "/v1/artifacts/{artifact_id}", "/v1/runs", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    assert {"JobRequest", "Job", "Report", "Spectrum", "Landscape", "Problem"} <= set(document["components"]["schemas"])
    references = set(re.findall(r"#/components/schemas/([A-Za-z0-9_]+)", client.get("/v1/openapi.json").text))
    assert references <= set(document["components"]["schemas"])


def test_no_page_names_another_host(client: TestClient) -> None:
    for path in (*PAGES, "/static/style.css", "/static/chart.css", "/static/live.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        loaded = re.findall(r"""(?:src|href)="(?:https?:)?//[^"]+|url\(|@import""", answer.text)
        assert loaded == []
        assert inline(answer.text) == []


PAGES = ("/", "/?group=run", "/landscape", "/submit", "/health", "/compare", "/docs", "/problems")


def inline(page: str) -> list[str]:
    """Scripts, handlers and styles that are no file of ours."""
    scripts = [tag for tag in re.findall(r"<script[^>]*>", page) if ' src="/static/' not in tag]
    return scripts + re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page)


def test_every_word_of_a_user_is_escaped_on_every_page(client: TestClient, finish: Act, fail: Act) -> None:
    evil = "<script>alert(1)</script>"
    body = TOY | {"force": True, "run": {"id": evil, "step": 1, "name": evil}, "labels": {evil: evil}}
    done, failed, queued = (client.post("/v1/jobs", json=body).json()["id"] for _ in range(3))
    finish(done)
    fail(failed)
    for path in (
        "/",
        "/?group=run",
        "/?column=labels&column=run&column=name",
        f"/?q={evil}&run={evil}&label={evil}:{evil}",
        f"/jobs/{done}",
        f"/jobs/{failed}",
        f"/jobs/{queued}",
        f"/compare?job={done}&job={failed}&all=true",
        f"/landscape?run={evil}",
        "/runs/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ):
        page = client.get(path)
        assert page.status_code == 200, path
        assert inline(page.text) == []
        assert "<script>" not in page.text
        assert "&lt;script&gt;" in page.text
        assert "<b>NaN" not in page.text


def test_a_page_shows_what_the_report_says(client: TestClient, finish: Act) -> None:
    job = client.post("/v1/jobs", json=TOY).json()["id"]
    reloading = '<noscript><meta http-equiv="refresh" content="2"></noscript>'
    assert reloading in client.get(f"/jobs/{job}").text
    finish(job)
    page = client.get(f"/jobs/{job}")
    assert reloading not in page.text
    for words in ("saddle", "1 of 2 curvatures is negative", "1, 0, 1", "−2", "0.safetensors", "verified"):
        assert words in page.text
    assert re.findall(r"<figcaption><span>([^<]+)", page.text) == [
        "Spectrum",
        "Error surface",
        "Its quadratic model",
        "Error surface in space",
        "Its quadratic model in space",
        "Loss along direction 0",
    ]
    assert client.get("/jobs/job_" + "0" * 32).status_code == 404
