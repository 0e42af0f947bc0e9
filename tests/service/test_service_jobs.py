"""Submitting, following, cancelling and retrying a job."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from saddlescope.contract.jobs import Job
from saddlescope.contract.vocabulary import FailureCode
from service.app import create_app
from service.parts import Parts
from store.doorbell import celery_app
from store.presence import announce_worker
from store.queue import claim_job, finish_failed
from store.waiting import explain_waiting

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}
Act = Callable[[str], None]


def submit(client: TestClient, **changes: object) -> dict[str, object]:
    answer = client.post("/v1/jobs", json=TOY | {"force": True} | changes)
    assert answer.status_code == 202, answer.text
    job: dict[str, object] = answer.json()
    return job


def test_a_submission_is_accepted_with_its_address(client: TestClient) -> None:
    answer = client.post("/v1/jobs", json=TOY | {"run": {"id": "r", "step": 3}, "labels": {"team": "vision"}})
    job = Job.model_validate(answer.json())
    assert (answer.status_code, job.status, job.done, job.queue) == (202, "queued", False, "cpu")
    assert answer.headers["location"] == job.urls.self == f"http://localhost/v1/jobs/{job.id}"
    assert answer.headers["retry-after"] == "1"
    assert job.run is not None
    assert (job.run.id, job.run.step, job.labels) == ("r", 3, {"team": "vision"})
    assert job.urls.web == f"http://localhost/jobs/{job.id}"


def test_the_message_holds_the_jobs_name_and_nothing_else(client: TestClient, broker: str) -> None:
    queue = Redis(unix_socket_path=broker.removeprefix("redis+socket://"))
    queue.delete("cpu")
    job = submit(client)
    # The bell rings after the answer.
    _, body = queue.blpop(["cpu"], timeout=20)
    message = json.loads(body)
    assert message["headers"]["argsrepr"] == repr((job["id"],))
    assert "w1" not in json.dumps(message)
    queue.close()


def test_a_broker_that_is_down_does_not_fail_the_submission(parts: Parts) -> None:
    deaf = replace(parts, doorbell=celery_app("redis+socket:///nowhere/valkey.sock"))
    with TestClient(create_app(deaf), base_url="http://localhost") as client:
        started = time.monotonic()
        job = submit(client)
        assert time.monotonic() - started < 3
        assert client.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["broker"]["status"] == "down"
        assert ready.json()["database"]["status"] == "ok"
    deaf.doorbell.close()


def test_a_wait_ends_when_the_job_does(client: TestClient, parts: Parts, finish: Act) -> None:
    job = submit(client)
    ender = threading.Timer(0.3, finish, args=[str(job["id"])])
    ender.start()
    started = time.monotonic()
    answer = client.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "respond-async, wait=20"})
    took = time.monotonic() - started
    ender.join()
    assert answer.json()["verdict"] == "saddle"
    assert answer.headers["preference-applied"] == "wait=20"
    assert "retry-after" not in answer.headers
    assert 0.25 < took < 1.5
    # Nothing stays checked out of the pool after the wait.
    assert parts.engine.pool.status().find("Current Checked out connections: 0") > 0


def test_a_submission_may_wait_and_is_202_either_way(client: TestClient) -> None:
    started = time.monotonic()
    answer = client.post("/v1/jobs", json=TOY, headers={"Prefer": "wait=1"})
    assert 0.9 < time.monotonic() - started < 3
    assert (answer.status_code, answer.json()["done"]) == (202, False)
    assert answer.headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize("preference", ["wait=x", "wait", "handling=lenient", "wait=-1", "wait=10000000000"])
def test_a_preference_that_is_not_understood_is_ignored(client: TestClient, preference: str) -> None:
    answer = client.post("/v1/jobs", json=TOY, headers={"Prefer": preference})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_an_unchanged_job_is_304_and_a_long_poll_waits_for_news(client: TestClient, finish: Act) -> None:
    job = submit(client)
    url = f"/v1/jobs/{job['id']}"
    etag = client.get(url).headers["etag"]
    assert not etag.startswith("W/")
    same = client.get(url, headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    ender = threading.Timer(0.2, finish, args=[str(job["id"])])
    ender.start()
    news = client.get(url, headers={"If-None-Match": etag, "Prefer": "wait=20"})
    ender.join()
    assert (news.status_code, news.json()["done"]) == (200, True)
    assert news.headers["etag"] != etag
    assert client.get(url, headers={"If-None-Match": f'"x", {etag}'}).status_code == 200


def test_a_failure_is_told_as_a_problem(client: TestClient, fail: Act) -> None:
    job = submit(client)
    fail(str(job["id"]))
    told = client.get(f"/v1/jobs/{job['id']}").json()
    assert told["status"] == "failed"
    assert told["error"]["code"] == "non_finite_loss"
    assert told["error"]["errors"][0]["pointer"] == "/checkpoint"
    assert client.get(told["error"]["type"]).status_code == 200


def test_the_deadline_is_counted_from_the_submission(client: TestClient) -> None:
    for header, seconds in (("90s", 90), ("10m", 600), ("2h", 7200)):
        job = client.post("/v1/jobs", json=TOY, headers={"Cancel-After": header}).json()
        span = datetime.fromisoformat(job["deadline_at"]) - datetime.fromisoformat(job["created_at"])
        assert abs(span - timedelta(seconds=seconds)) < timedelta(seconds=2)


@pytest.mark.parametrize("header", ["", "0s", "10", "1d", "-5m", "1e3s", "99999999h"])
def test_a_deadline_that_is_not_understood_is_refused(client: TestClient, header: str) -> None:
    answer = client.post("/v1/jobs", json=TOY, headers={"Cancel-After": header})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/header/cancel-after"


def test_a_dry_run_estimates_and_queues_nothing(client: TestClient) -> None:
    network = {
        "checkpoint": {"inline": {"0.weight": [[1.0, 2.0]], "0.bias": [0.0]}},
        "loss": {
            "kind": "network",
            "layers": [{"type": "linear", "in_features": 2, "out_features": 1}],
            "criterion": {"type": "mse"},
        },
        "data": {"inline": {"inputs": [[1, 2], [3, 4]], "targets": [[0], [1]]}},
    }
    answer = client.post("/v1/jobs?dry_run=true", json=network)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["object"], told["valid"], told["num_parameters"], told["num_examples"]) == ("estimate", True, 3, 2)
    assert (told["method"], told["dtype"], told["matvecs"]) == ("dense", "float64", 3)
    assert told["memory_bytes"] > 0
    assert client.get("/v1/jobs").json()["data"] == []


def test_a_dry_run_of_an_artifact_knows_its_size(client: TestClient) -> None:
    artifact = client.post("/v1/artifacts", content=bytes(4_000_000)).json()["id"]
    body = {"checkpoint": {"artifact": artifact}, "loss": {"kind": "expression", "expression": "sum(w)"}}
    told = client.post("/v1/jobs?dry_run=true", json=body).json()
    assert (told["num_parameters"], told["method"]) == (1_000_000, "lanczos")


def test_an_idempotency_key_answers_the_same_job_once(client: TestClient) -> None:
    body = json.dumps(TOY | {"force": True})
    spaced = json.dumps(TOY | {"force": True}, indent=2)
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    first = client.post("/v1/jobs", content=body, headers=headers)
    again = client.post("/v1/jobs", content=spaced, headers=headers)
    assert again.status_code == 202
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = client.post("/v1/jobs", json=TOY | {"priority": 1}, headers={"Idempotency-Key": "k-1"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_two_requests_with_one_key_at_once_make_one_job(client: TestClient) -> None:
    told: list[str] = []

    def post() -> None:
        answer = client.post("/v1/jobs", json=TOY | {"force": True}, headers={"Idempotency-Key": "race"})
        told.append(answer.json()["id"])

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8
    assert len(set(told)) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "käse", " "])
def test_a_key_that_cannot_be_kept_is_refused(client: TestClient, key: str) -> None:
    answer = client.post("/v1/jobs", json=TOY, headers={"Idempotency-Key": key.encode("latin-1")})
    assert answer.status_code == 422


def test_finished_work_is_not_done_twice_unless_forced(client: TestClient, finish: Act) -> None:
    job = submit(client)
    assert client.post("/v1/jobs", json=TOY).json()["deduplicated"] is False
    finish(str(job["id"]))
    twin = client.post("/v1/jobs", json=TOY | {"priority": 5})
    told = twin.json()
    assert (twin.status_code, told["deduplicated"], told["done"], told["verdict"]) == (202, True, True, "saddle")
    assert twin.headers["retry-after"] == "0"
    assert twin.headers["location"] == told["urls"]["self"]
    assert client.get(f"/v1/jobs/{told['id']}").json() == told
    assert submit(client)["deduplicated"] is False
    other = client.post("/v1/jobs", json=TOY | {"options": {"seed": 1}})
    assert other.json()["deduplicated"] is False


def test_work_is_known_by_its_question_and_every_submission_is_a_job_of_its_own(
    client: TestClient, finish: Act
) -> None:
    """A run keeps each of its points, though the second one costs nothing."""
    job = submit(client, run={"id": "r", "step": 1}, labels={"a": "b"})
    finish(str(job["id"]))
    asked = TOY | {"run": {"id": "r", "step": 2}, "labels": {"c": "d"}}
    again = client.post("/v1/jobs", json=asked).json()
    assert again["id"] != job["id"]
    assert (again["deduplicated"], again["run"]["step"], again["labels"]) == (True, 2, {"c": "d"})
    points = client.get("/v1/runs/r").json()["jobs"]
    assert [(point["step"], point["lambda_min"]) for point in points] == [(1, -2.0), (2, -2.0)]
    first, second = (client.get(f"/v1/jobs/{one}/report").json() for one in (job["id"], again["id"]))
    assert second["job"] == again["id"]
    assert second["escapes"][0]["vector"] == first["escapes"][0]["vector"]
    assert {**first, "job": None, "escapes": None} == {**second, "job": None, "escapes": None}
    for tail in ("escapes/0.safetensors", "spectrum", "landscape", "bundle"):
        assert client.get(f"/v1/jobs/{again['id']}/{tail}").status_code == 200


def test_a_key_that_was_answered_by_shared_work_is_answered_so_again(client: TestClient, finish: Act) -> None:
    finish(str(submit(client)["id"]))
    answers = [client.post("/v1/jobs", json=TOY, headers={"Idempotency-Key": "shared"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].json()["deduplicated"] is True
    assert answers[1].headers["idempotent-replayed"] == "true"


def test_attempts_are_told_honestly(client: TestClient, parts: Parts, fail: Act) -> None:
    job = submit(client)
    url = f"/v1/jobs/{job['id']}/attempts"
    assert client.get(url).json()["data"] == []
    with parts.sessions.begin() as session:
        claim = claim_job(session, job_id=str(job["id"]), queues=["cpu"], worker="w")
        finish_failed(session, claim, code=FailureCode.WORKER_LOST, detail="SIGKILL", retryable=True, errors="oh")
    told = client.get(f"/v1/jobs/{job['id']}").json()
    assert (told["status"], told["attempt"], told["started_at"]) == ("queued", 1, None)
    (attempt,) = client.get(url).json()["data"]
    assert (attempt["number"], attempt["worker"], attempt["outcome"], attempt["detail"], attempt["errors"]) == (
        1, "w", "worker_lost", "SIGKILL", "oh",
    )  # fmt: skip
    assert attempt["finished_at"] >= attempt["started_at"]


def test_a_job_that_fits_no_worker_says_why_it_waits(client: TestClient, parts: Parts) -> None:
    body = {
        "checkpoint": {"artifact": client.post("/v1/artifacts", content=bytes(4_000_000)).json()["id"]},
        "loss": {"kind": "expression", "expression": "sum(w)"},
    }
    job = client.post("/v1/jobs", json=body).json()
    assert job["waiting_because"] is None
    with parts.sessions.begin() as session:
        announce_worker(session, name="w", queues=["cpu"], device="cpu", sandbox="basic", memory_bytes=4_000_000)
        # The mark of the rung doorbell may still hold the row, which is then passed over.
        give_up = time.monotonic() + 10
        while explain_waiting(session) != [job["id"]]:
            assert time.monotonic() < give_up
        assert claim_job(session, job_id=None, queues=["cpu"], worker="w", memory_bytes=4_000_000) is None
    url = f"/v1/jobs/{job['id']}"
    assert "0.00745 GiB" in client.get(url).json()["waiting_because"]
    assert "It waits: it needs" in client.get(f"/jobs/{job['id']}").text


def test_cancelling_is_idempotent_and_cannot_undo_success(client: TestClient, finish: Act) -> None:
    job = submit(client)
    answers = [client.post(f"/v1/jobs/{job['id']}/cancel") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["status"] for answer in answers] == ["cancelled", "cancelled"]
    done = submit(client)
    finish(str(done["id"]))
    assert client.post(f"/v1/jobs/{done['id']}/cancel").json()["status"] == "succeeded"


def test_a_retry_is_a_new_job_that_asks_the_same(client: TestClient, fail: Act) -> None:
    job = submit(client, labels={"a": "b"})
    early = client.post(f"/v1/jobs/{job['id']}/retry")
    assert (early.status_code, early.json()["code"]) == (409, "job_not_retryable")
    fail(str(job["id"]))
    again = client.post(f"/v1/jobs/{job['id']}/retry")
    assert again.status_code == 202
    assert again.json()["id"] != job["id"]
    assert (again.json()["retry_of"], again.json()["labels"]) == (job["id"], {"a": "b"})
    assert again.headers["location"] == again.json()["urls"]["self"]


@pytest.mark.parametrize("job_id", ["job_" + "0" * 32, "nonsense", "job_%00", "job_" + "f" * 5000])
@pytest.mark.parametrize("tail", ["", "/report", "/events", "/spectrum", "/bundle", "/landscape"])
def test_an_unknown_job_is_not_found(client: TestClient, job_id: str, tail: str) -> None:
    answer = client.get(f"/v1/jobs/{job_id}{tail}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_valid_traceparent_is_kept_and_another_is_ignored(client: TestClient, parts: Parts) -> None:
    from store.jobs import find_job  # noqa: PLC0415 - only here

    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for sent, kept in ((good, good), ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", None), ("x" * 3000, None)):
        job = client.post("/v1/jobs", json=TOY, headers={"traceparent": sent}).json()
        with parts.sessions() as session:
            row = find_job(session, project="default", job_id=job["id"])
        assert row is not None
        assert row.traceparent == kept
