"""Pages hold what their address says: lists, files, comparisons, forms; and a project sees its own alone."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from html import escape

import numpy as np
import pytest
from fastapi.testclient import TestClient
from test_service_access import TOY, Act, key
from test_service_directions import file_of
from test_service_sessions import LOOPBACK, sign_in, token_of

from service import directions
from service.parts import Parts
from service.settings import Auth
from store.keys import Scope
from store.tables import StoredReport

Build = Callable[..., TestClient]
HTML = {"Accept": "text/html"}


def submit(client: TestClient, **changes: object) -> str:
    return str(client.post("/v1/jobs", json=TOY | {"force": True} | changes).json()["id"])


def shown(page: str) -> list[str]:
    return re.findall(r'<tr data-id="([^"]+)"', page)


def following(page: str) -> str | None:
    link = re.search(r'<a rel="next" href="([^"]+)"', page)
    return None if link is None else link[1].replace("&amp;", "&")


def test_pages_tile_the_list_and_keep_its_filters_and_columns(client: TestClient) -> None:
    made = [submit(client, labels={"n": str(number % 2)}) for number in range(104)]
    seen: list[str] = []
    address: str | None = "/?label=n:0&column=labels&column=created"
    while address is not None:
        page = client.get(address).text
        assert re.findall(r'<th scope="col"[^>]*>(?:<a[^>]*>)?([^<]+)', page) == ["Job", "Labels", "Created (UTC)"]
        seen += shown(page)
        address = following(page)
    assert seen == made[::-1][1::2]


def test_a_form_with_empty_fields_is_the_plain_list(client: TestClient) -> None:
    job = submit(client)
    for address in ("/", "/?q=&status=&verdict=&run=&label=&created_after=&group=", "/?created_after=2020-01-01"):
        assert shown(client.get(address).text) == [job]
    assert shown(client.get("/?created_after=2999-01-01").text) == []


@pytest.mark.parametrize(
    "query", ["sort=size", "order=up", "column=secret", "group=project", "after=x", "status=done", "label=x", "q=%00",
              "created_after=2020-13-01"],
)  # fmt: skip
def test_a_wrong_address_is_refused_in_words(client: TestClient, query: str) -> None:
    for path in ("/", "/jobs.csv", "/jobs.ndjson"):
        assert client.get(f"{path}?{query}").status_code == 422
        page = client.get(f"{path}?{query}", headers=HTML)
        assert (page.status_code, page.headers["content-type"]) == (422, "text/html; charset=utf-8")
        assert "The request is invalid" in page.text


def test_the_cursor_of_a_job_without_numbers_is_none_of_a_list_by_numbers(client: TestClient) -> None:
    for path in ("/", "/jobs.csv", "/jobs.ndjson"):
        assert client.get(f"{path}?sort=loss&after={submit(client)}").status_code == 422


def test_files_hold_the_rows_and_columns_of_the_list_in_its_order(client: TestClient, finish: Act) -> None:
    made = [submit(client, labels={"=a": "b"}, run={"id": "r", "step": step}) for step in range(3)]
    for job in made[1:]:
        finish(job)
    for query, expected in (("order=asc", made), ("sort=loss&order=asc", made[1:]), ("verdict=saddle", made[:0:-1])):
        address = f"{query}&column=step&column=labels&column=loss"
        assert shown(client.get(f"/?{address}").text) == expected
        rows = list(csv.DictReader(io.StringIO(client.get(f"/jobs.csv?{address}").text)))
        lines = [json.loads(line) for line in client.get(f"/jobs.ndjson?{address}").text.splitlines()]
        assert [row["id"] for row in rows] == [line["id"] for line in lines] == expected
        assert list(rows[0]) == list(lines[0]) == ["id", "step", "labels", "loss"]
        assert lines[-1]["labels"] == {"=a": "b"}
        assert rows[-1]["labels"] == "'=a:b"  # no spreadsheet runs it
        assert {line["loss"] for line in lines[1:]} == {1.0}


def test_only_fields_that_differ_are_compared_unless_all_are_asked_for(client: TestClient, finish: Act) -> None:
    one, other = submit(client, run={"id": "r", "step": 1}), submit(client, run={"id": "r", "step": 2})
    waits = submit(client)
    finish(one)
    finish(other)
    fields = r'<tr[^>]*><th scope="row">([^<]+)</th>'
    page = client.get(f"/compare?job={one}&job={other}")
    differing = re.findall(fields, page.text)
    assert "step" in differing
    assert not {"loss", "verdict", "run", "queue"} & set(differing)
    everything = re.findall(fields, client.get(f"/compare?job={one}&job={other}&all=true").text)
    assert {"step", "loss", "run", "λ min", "option seed"} <= set(everything)
    assert "succeeded" in client.get(f"/compare?job={one}&job={waits}").text
    for ids in ([], [one], [one, one], [submit(client) for _ in range(9)]):
        page = client.get("/compare", params={"job": ids})
        assert page.status_code == 200
        assert "2 to 8" in page.text
    assert client.get(f"/compare?job={one}&job=job_{'0' * 32}").status_code == 404


def test_directions_that_are_too_large_for_a_page_are_said_to_be(
    client: TestClient, finish: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = submit(client), submit(client)
    finish(one)
    finish(other)
    monkeypatch.setattr(directions, "MAX_BYTES", 10)
    assert "too large to read for a page" in client.get(f"/jobs/{one}").text
    assert "too large to compare on a page" in client.get(f"/compare?job={one}&job={other}").text


def test_a_landscape_holds_the_checkpoints_that_its_filters_let_through(client: TestClient, finish: Act) -> None:
    ours, theirs = submit(client, run={"id": "ours"}), submit(client, run={"id": "theirs"})
    assert "No checkpoint here" in client.get("/landscape").text
    finish(ours)
    finish(theirs)
    for against in ("ratio", "index", "triple"):
        page = client.get(f"/landscape?against={against}&run=ours").text
        assert f'href="/jobs/{ours}"' in page
        assert f'href="/jobs/{theirs}"' not in page
    assert "2 of 2 checkpoints" in client.get("/landscape").text


def test_two_runs_are_laid_over_each_other(client: TestClient, finish: Act) -> None:
    jobs = {run: [submit(client, run={"id": run, "step": step}) for step in (1, 2)] for run in ("a/1", "b")}
    for job in (*jobs["a/1"], *jobs["b"]):
        finish(job)
    alone, both = client.get("/runs/a%2F1").text, client.get("/runs/a%2F1?with=b").text
    assert all(f'href="/jobs/{job}"' in alone for job in jobs["a/1"])
    assert not any(f'href="/jobs/{job}"' in alone for job in jobs["b"])
    assert all(f'href="/jobs/{job}"' in both for job in (*jobs["a/1"], *jobs["b"]))
    assert client.get("/runs/a%2F1?with=none").status_code == 404


@pytest.fixture
def browser(client: TestClient) -> TestClient:
    client.base_url = LOOPBACK
    client.headers["accept"] = "text/html"
    return client


def filled(browser: TestClient, files: dict[str, tuple[str, bytes]] | None = None, **fields: str) -> object:
    form = {"token": token_of(browser.get("/submit").text)} | fields
    parts = {name: (None, text) for name, text in form.items()} | (files or {})
    return browser.post("/submit", files=parts, follow_redirects=False)


def test_a_filled_form_is_the_request_that_the_api_takes(browser: TestClient) -> None:
    none_chosen = {"checkpoint": ("", b""), "data": ("", b"")}
    answer = filled(browser, none_chosen, expression="(1 - w1*w2)**2", numbers="w1 = 0.0\n\n w2=0.0", run="r", step="7",
                    labels="team: vision, seed:1")  # fmt: skip
    assert answer.status_code == 303
    job = browser.get(f"/v1{answer.headers['location']}").json()
    assert (job["run"], job["labels"]) == ({"id": "r", "step": 7, "name": None}, {"team": "vision", "seed": "1"})
    again = browser.post("/v1/jobs", json=TOY | {"run": {"id": "other"}}).json()
    asked = [browser.get(f"/compare?job={job['id']}&job={again['id']}").text]
    assert "expression" not in re.findall(r'<th scope="row">([^<]+)</th>', asked[0])


def test_files_of_a_form_become_artifacts_of_the_job(
    browser: TestClient, bytes_on_disk: Callable[[], list[str]]
) -> None:
    checkpoint = file_of({"w": np.zeros(3)}).getvalue()
    answer = filled(browser, {"checkpoint": ("w.safetensors", checkpoint)}, expression="sum(w)", numbers="w1 = 0")
    assert answer.status_code == 303
    (stored,) = bytes_on_disk()
    assert browser.get(f"/v1/artifacts/{stored}").content == checkpoint


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"numbers": "w = 1"}, "write the loss"),
        ({"expression": "w"}, "choose a checkpoint file"),
        ({"expression": "w", "numbers": "w: 1"}, "one tensor a line"),
        ({"expression": "w", "numbers": "w = one"}, "neither a number nor a list"),
        ({"expression": "w", "numbers": "w = 1\nw = 2"}, "twice"),
        ({"expression": "w", "numbers": "w = [[1], [1, 2]]"}, "rectangular"),
        ({"expression": "w(", "numbers": "w = 1"}, "/loss/expression"),
        ({"loss": "{", "numbers": "w = 1"}, "no JSON"),
        ({"loss": '{"kind": "network"}', "numbers": "w = 1"}, "this field is required"),
        ({"expression": "w", "numbers": "w = 1", "step": "3"}, "needs the run"),
        ({"expression": "w", "numbers": "w = 1", "run": "r", "step": "-3"}, "whole number"),
        ({"expression": "w", "numbers": "w = 1", "labels": "vision"}, "key:value"),
    ],
)
def test_a_form_that_is_refused_comes_back_with_what_was_written(
    browser: TestClient, fields: dict[str, str], said: str, bytes_on_disk: Callable[[], list[str]]
) -> None:
    answer = filled(browser, {"data": ("x.npz", b"bytes")}, **fields)
    assert answer.status_code == 422
    assert said in answer.text
    assert browser.get("/v1/jobs").json()["data"] == []
    assert bytes_on_disk() == []
    for name in fields:
        assert f'name="{name}"' in answer.text
    if "expression" in fields:
        assert f">{fields['expression']}</textarea>" in answer.text


def test_a_form_without_our_token_submits_nothing(browser: TestClient, bytes_on_disk: Callable[[], list[str]]) -> None:
    browser.get("/submit")
    fields = {"expression": (None, "w"), "numbers": (None, "w = 1"), "checkpoint": ("w", b"bytes")}
    for token in ({}, {"token": (None, "")}, {"token": (None, "0" * 64)}, {"token": (None, b"\xff")}):
        assert browser.post("/submit", files=token | fields).status_code == 403
    assert browser.post("/submit", data={"expression": "w"}).status_code == 415
    assert browser.get("/v1/jobs").json()["data"] == []
    assert bytes_on_disk() == []


def test_a_key_that_may_only_read_is_shown_the_form_and_submits_nothing(with_settings: Build, parts: Parts) -> None:
    http = with_settings(auth=Auth.KEYS)
    http.base_url = LOOPBACK
    http.headers["accept"] = "text/html"
    sign_in(http, key(parts, "ours", Scope.READ)["Authorization"])
    assert "may read and not submit" in http.get("/submit").text
    assert filled(http, expression="w", numbers="w = 1").status_code == 403


def test_no_two_pages_hold_the_same_token_and_every_one_is_taken(browser: TestClient) -> None:
    tokens = [token_of(browser.get("/submit").text) for _ in range(3)]
    assert len(set(tokens)) == 3
    assert not set.intersection(*({token[at : at + 8] for at in range(57)} for token in tokens))
    for token in tokens:
        form = {"token": (None, token), "expression": (None, "w"), "numbers": (None, "w = 1")}
        assert browser.post("/submit", files=form, follow_redirects=False).status_code == 303


def test_pages_and_styles_are_compressed_and_nothing_that_is_sent_as_it_arises(client: TestClient) -> None:
    for path in ("/", "/docs", "/static/style.css", "/static/live.js"):
        with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
            raw = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
        assert "accept-encoding" in answer.headers["vary"].lower()
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        texts = (gzip.decompress(raw).decode(), plain.text)
        assert len({re.sub(r'value="[0-9a-f]{64}"', "", text) for text in texts}) == 1
    for path in ("/v1/jobs", "/jobs.csv", "/v1/openapi.json"):
        assert "content-encoding" not in client.get(path, headers={"Accept-Encoding": "gzip"}).headers


def test_styles_are_asked_for_again_and_not_sent_again(client: TestClient) -> None:
    first = client.get("/static/style.css")
    assert first.headers["cache-control"] == "no-cache"
    assert client.get("/static/style.css", headers={"If-None-Match": first.headers["etag"]}).status_code == 304


def test_what_is_not_there_is_said_in_words_on_a_page_and_as_a_problem_by_the_api(client: TestClient) -> None:
    page = client.get("/jobs/none", headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "This project has no such job." in page.text
    assert page.headers["cache-control"] == "no-store"
    assert client.get("/v1/jobs/none", headers=HTML).headers["content-type"] == "application/problem+json"


def test_a_page_says_no_sentence_twice(client: TestClient, finish: Act, parts: Parts) -> None:
    job, said = submit(client), "the gradient can buy 0.4 > 0.005"
    finish(job)
    with parts.sessions.begin() as session:
        stored = session.get_one(StoredReport, job)
        report = stored.report
        stored.report = report.model_copy(
            update={
                "summary": "Undecided: rounding decides.",
                "advice": report.advice.model_copy(update={"because": "rounding decides"}),
                "evidence": report.evidence.model_copy(update={"statement": said}),
                "criticality": report.criticality.model_copy(update={"rule": said}),
            }
        )
    page = client.get(f"/jobs/{job}").text
    assert page.count(escape(said)) == page.count("rounding decides") == 1


def test_a_failed_job_tells_how_to_mend_it_and_a_request_can_be_copied(client: TestClient, fail: Act) -> None:
    job = submit(client, options={"seed": 3})
    fail(job)
    page = client.get(f"/jobs/{job}").text
    assert "To mend it" in page
    assert "/checkpoint" in page
    assert "curl -s" in page
    assert "seed=3" in page
    long = submit(
        client, checkpoint={"inline": {"w": [0.25] * 9000}}, loss={"kind": "expression", "expression": "sum(w)"}
    )
    page = client.get(f"/jobs/{long}").text
    assert "too long to copy" in page
    assert len(page) < 20_000


def test_health_counts_ones_own_jobs_and_all_of_them_only_for_an_admin(with_settings: Build, parts: Parts) -> None:
    http = with_settings(auth=Auth.KEYS)
    ours, theirs, admin = (
        key(parts, "ours", Scope.READ),
        key(parts, "theirs", Scope.SUBMIT),
        key(parts, "ours", Scope.ADMIN),
    )
    for _ in range(3):
        http.post("/v1/jobs", json=TOY | {"force": True, "queue": "secret-queue"}, headers=theirs)
    page, whole = http.get("/health", headers=ours).text, http.get("/health", headers=admin).text
    assert "secret-queue" not in page
    assert "secret-queue" in whole
    queued = r'href="/\?status=queued"><h3>Queued</h3><p class="big">(\d+)'
    assert re.findall(queued, page) == re.findall(queued, whole) == ["0"]
    assert "No worker was seen" in page
