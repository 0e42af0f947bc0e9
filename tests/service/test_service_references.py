"""Checkpoints by reference: off unless allowed, and then only what is allowed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

EXPRESSION = {"kind": "expression", "expression": "sum(w)"}


def submit(client: TestClient, source: dict[str, object], query: str = "") -> tuple[int, str, str]:
    answer = client.post(f"/v1/jobs{query}", json={"checkpoint": source, "loss": EXPRESSION})
    told = answer.json()
    return answer.status_code, str(told.get("code")), told["errors"][0]["pointer"] if told.get("errors") else ""


@pytest.mark.parametrize("source", [{"path": "/data/model.pt"}, {"s3": "s3://bucket/model.pt"}])
def test_references_are_refused_where_none_are_allowed(client: TestClient, source: dict[str, object]) -> None:
    (kind,) = source
    assert submit(client, source) == (422, "references_disabled", f"/checkpoint/{kind}")
    assert client.get("/problems/references_disabled").status_code == 200


@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        ({"path": "/data/runs/7/model.pt"}, 202, "None"),
        ({"path": "/data/runs"}, 202, "None"),
        ({"path": "/data/runs-of-others/model.pt"}, 422, "reference_not_allowed"),
        ({"path": "/data"}, 422, "reference_not_allowed"),
        ({"path": "/etc/passwd"}, 422, "reference_not_allowed"),
        ({"path": "/data/runs/../secret"}, 422, "request_invalid"),
        ({"path": "runs/7/model.pt"}, 422, "request_invalid"),
        ({"path": "/data/runs/a\u0000b"}, 422, "json_invalid"),
        ({"s3": "s3://mine/runs/7/model.pt"}, 202, "None"),
        ({"s3": "s3://theirs/runs/7/model.pt"}, 422, "reference_not_allowed"),
        ({"s3": "https://mine/runs"}, 422, "request_invalid"),
        ({"s3": "s3://user:key@mine/runs"}, 422, "request_invalid"),
        ({"path": "/data/runs/7", "s3": "s3://mine/7"}, 422, "request_invalid"),
    ],
)
def test_only_what_is_allowed_may_be_named(
    with_settings: Callable[..., TestClient], source: dict[str, object], status: int, code: str
) -> None:
    client = with_settings(reference_roots="/data/runs:/other", reference_buckets="mine")
    assert submit(client, source)[:2] == (status, code)


def test_data_cannot_be_named_by_reference(with_settings: Callable[..., TestClient]) -> None:
    client = with_settings(reference_roots="/data")
    body = {"checkpoint": {"inline": {"w": 0.0}}, "loss": EXPRESSION, "data": {"path": "/data/rows.npz"}}
    assert client.post("/v1/jobs", json=body).status_code == 422


def test_the_same_reference_is_another_question_every_time(
    with_settings: Callable[..., TestClient], finish: Callable[[str], None]
) -> None:
    client = with_settings(reference_roots="/data")
    body = {"checkpoint": {"path": "/data/model.pt"}, "loss": EXPRESSION}
    first = client.post("/v1/jobs", json=body).json()
    finish(first["id"])
    second = client.post("/v1/jobs", json=body).json()
    assert second["id"] != first["id"]
    assert not second["deduplicated"]


def test_what_a_reference_costs_is_not_made_up(with_settings: Callable[..., TestClient]) -> None:
    client = with_settings(reference_roots="/data")
    assert submit(client, {"path": "/data/model.pt"}, "?dry_run=true")[:2] == (422, "estimate_unknown")
