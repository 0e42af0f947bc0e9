"""Lists, pages, filters, exports and runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}
Act = Callable[[str], None]


def submit(client: TestClient, **changes: object) -> str:
    return str(client.post("/v1/jobs", json=TOY | changes).json()["id"])


def ids(client: TestClient, query: str = "") -> list[str]:
    return [job["id"] for job in client.get(f"/v1/jobs?{query}").json()["data"]]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_tile_the_list_while_it_grows(client: TestClient, order: str) -> None:
    made = [submit(client) for _ in range(7)]
    seen: list[str] = []
    url = f"/v1/jobs?limit=3&order={order}"
    while url:
        answer = client.get(url)
        page = answer.json()
        seen += [job["id"] for job in page["data"]]
        assert page["has_more"] == (page["next"] is not None) == ("link" in answer.headers)
        url = answer.links["next"]["url"] if "next" in answer.links else ""
        if order == "desc":
            submit(client)
    assert seen == (made if order == "asc" else made[::-1])


def test_filters_hold_together(client: TestClient, finish: Act) -> None:
    plain = submit(client)
    labelled = submit(client, labels={"team": "vision", "gpu": "a:b"}, run={"id": "r/1", "step": 1})
    finish(labelled)
    assert ids(client, "status=succeeded") == ids(client, "verdict=saddle") == [labelled]
    assert ids(client, "status=queued") == [plain]
    assert ids(client, "label=team:vision&label=gpu:a:b&run=r/1") == [labelled]
    assert ids(client, "label=team:vision&label=gpu:x") == []
    created = client.get(f"/v1/jobs/{plain}").json()["created_at"]
    assert set(ids(client, "created_after=2020-01-01T00:00:00Z")) == {plain, labelled}
    assert plain not in ids(client, f"created_after={created.replace('Z', '999Z')}")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1000000000", "limit=" + "9" * 5000, "limit=x", "order=up", "status=done", "verdict=good",
        "after=job_x", "after=", "after=job_%00", "after=" + "a" * 4000, "label=nocolon", "created_after=yesterday",
        "created_after=0.5", "created_after=1e9", "created_after=2020-01-01T00:00:00", "created_after=2020-01-01",
        "run=%00", "label=a:%00",
    ],
)  # fmt: skip
def test_a_wrong_query_is_refused(client: TestClient, query: str) -> None:
    for path in ("/v1/jobs", "/v1/jobs.csv", "/v1/jobs.ndjson"):
        if path != "/v1/jobs" and query == "limit=1000000000":
            continue
        answer = client.get(f"{path}?{query}")
        assert answer.status_code == 422, query
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"][0]["pointer"].startswith("/query/")


@pytest.mark.parametrize(
    ("moment", "num_jobs"),
    [
        ("0001-01-01T00:00:00%2B23:59", 1),
        ("1969-12-31T23:59:59Z", 1),
        ("2020-01-01 00:00:00Z", 1),
        ("2999-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59-23:59", 0),
    ],
)
def test_a_moment_before_or_after_all_jobs_finds_all_or_none(client: TestClient, moment: str, num_jobs: int) -> None:
    submit(client)
    assert len(client.get(f"/v1/jobs?created_after={moment}").json()["data"]) == num_jobs


def test_exports_hold_every_job_of_the_query(client: TestClient) -> None:
    made = [submit(client, labels={"n": str(index % 2)}) for index in range(6)]
    lines = client.get("/v1/jobs.ndjson?label=n:0&order=asc").text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == made[::2]
    rows = list(csv.DictReader(io.StringIO(client.get("/v1/jobs.csv?order=asc").text)))
    assert [row["id"] for row in rows] == made
    assert [row["status"] for row in rows] == ["queued"] * 6
    assert len(client.get("/v1/jobs.ndjson?limit=4").text.splitlines()) == 4


@pytest.mark.parametrize("start", ["=cmd()", "+1", "-1+1", "@x", "  =1"])
def test_a_cell_that_a_spreadsheet_would_run_is_quoted(client: TestClient, start: str) -> None:
    submit(client, run={"id": start, "name": start}, labels={start: start})
    row = next(csv.DictReader(io.StringIO(client.get("/v1/jobs.csv").text)))
    assert row["run"] == row["name"] == "'" + start
    assert row["labels"].startswith("'")


def test_a_run_lists_its_jobs_by_step_with_their_numbers(client: TestClient, finish: Act) -> None:
    late = submit(client, run={"id": "r/1", "step": 20, "name": "wide"})
    early = submit(client, run={"id": "r/1", "step": 10})
    submit(client, run={"id": "other"})
    finish(early)
    listed = {run["id"]: run for run in client.get("/v1/runs").json()["data"]}
    assert set(listed) == {"r/1", "other"}
    assert (listed["r/1"]["num_jobs"], listed["r/1"]["last_step"]) == (2, 20)
    run = client.get(listed["r/1"]["url"]).json()
    assert [(point["job"], point["step"]) for point in run["jobs"]] == [(early, 10), (late, 20)]
    first, second = run["jobs"]
    assert (first["loss"], first["lambda_min"], first["lambda_max"]) == (1.0, -2.0, 2.0)
    assert (first["minimum_ratio"], first["gradient_norm"], first["verdict"]) == (0.5, 0.0, "saddle")
    assert second["loss"] is None
    assert client.get("/v1/runs/none").status_code == 404
    assert client.get("/v1/runs/%00").status_code == 404
