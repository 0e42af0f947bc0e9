"""The history of a job as a list and as a stream that can be resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}
STREAM = {"Accept": "text/event-stream"}
Act = Callable[[str], None]


@pytest.fixture
def job_id(client: TestClient) -> str:
    return str(client.post("/v1/jobs", json=TOY).json()["id"])


def fields(text: str, name: str) -> list[str]:
    return [line.removeprefix(f"{name}: ") for line in text.splitlines() if line.startswith(f"{name}: ")]


def test_the_list_tells_what_happened_in_order(client: TestClient, job_id: str, finish: Act) -> None:
    finish(job_id)
    listed = client.get(f"/v1/jobs/{job_id}/events").json()
    assert listed["object"] == "list"
    types = [event["type"] for event in listed["data"]]
    assert (types[0], types[-1]) == ("job.queued", "job.succeeded")
    assert all(event["job"] == job_id for event in listed["data"])


def test_the_stream_follows_until_the_end(client: TestClient, job_id: str, finish: Act) -> None:
    ender = threading.Timer(0.3, finish, args=[job_id])
    ender.start()
    answer = client.get(f"/v1/jobs/{job_id}/events", headers=STREAM)
    ender.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    listed = client.get(f"/v1/jobs/{job_id}/events").json()["data"]
    assert fields(answer.text, "id") == [event["id"] for event in listed]
    assert fields(answer.text, "event") == [event["type"] for event in listed]


def test_a_reader_resumes_after_what_it_saw(client: TestClient, job_id: str, finish: Act) -> None:
    finish(job_id)
    seen = fields(client.get(f"/v1/jobs/{job_id}/events", headers=STREAM).text, "id")
    for index, event_id in enumerate(seen[:-1]):
        resumed = client.get(f"/v1/jobs/{job_id}/events", headers=STREAM | {"Last-Event-ID": event_id})
        assert fields(resumed.text, "id") == seen[index + 1 :]
    ended = client.get(f"/v1/jobs/{job_id}/events", headers=STREAM | {"Last-Event-ID": seen[-1]})
    assert (ended.status_code, ended.content) == (204, b"")


def test_an_unknown_last_event_gets_the_whole_history(client: TestClient, job_id: str, finish: Act) -> None:
    finish(job_id)
    for unknown in ("evt_nonsense", "x" * 5000):
        answer = client.get(f"/v1/jobs/{job_id}/events", headers=STREAM | {"Last-Event-ID": unknown})
        assert fields(answer.text, "event")[0] == "job.queued"
