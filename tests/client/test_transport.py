"""How the client behaves towards a service that is slow, busy, broken, newer or not there."""

from __future__ import annotations

import json
import socket
import time

import pytest
from scripted_server import Answer, job_json, problem_json

from saddlescope.client import (
    ApiError,
    Client,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    NotFound,
    RateLimited,
    ServerError,
    TooLarge,
    Unauthorized,
    UnreadableAnswer,
    WaitTimeout,
)
from saddlescope.client.doctor import examine


def test_a_busy_service_is_asked_again_after_the_time_it_tells(scripted) -> None:
    scripted.script = [Answer(429, problem_json(429), {"Retry-After": "1"}), Answer(200, job_json())]
    started = time.monotonic()
    with Client(scripted.url) as client:
        assert client.job("job_1").id == "job_1"
    assert time.monotonic() - started >= 1.0
    assert len(scripted.seen) == 2


@pytest.mark.parametrize(
    "fault", [Answer(503, b"<html>"), Answer(502), Answer(500, problem_json(500)), Answer(0, drop=True)]
)
def test_a_fault_in_passing_is_not_seen_by_the_caller(scripted, fault) -> None:
    scripted.script = [fault, Answer(200, job_json())]
    with Client(scripted.url) as client:
        assert client.job("job_1").id == "job_1"


def test_a_submission_that_is_repeated_carries_one_idempotency_key(scripted) -> None:
    scripted.script = [Answer(0, drop=True), Answer(503), Answer(202, job_json())]
    with Client(scripted.url) as client:
        client.submit({"w": 0.0}, "w**2")
        client.submit({"w": 0.0}, "w**2")
    keys = [seen.headers["Idempotency-Key"] for seen in scripted.seen]
    assert keys[0] == keys[1] == keys[2]
    assert keys[3] != keys[0]
    bodies = {seen.body for seen in scripted.seen}
    assert bodies == {b'{"checkpoint":{"inline":{"w":0.0}},"loss":{"kind":"expression","expression":"w**2"}}'}


def test_a_fault_that_stays_is_told_after_the_retries(scripted) -> None:
    scripted.script = [Answer(500, problem_json(500, code="internal_error"))]
    with Client(scripted.url, retries=1) as client, pytest.raises(ServerError, match="internal_error") as caught:
        client.job("job_1")
    assert len(scripted.seen) == 2
    assert caught.value.request_id == "req_1"


def test_a_full_store_is_told_at_once(scripted) -> None:
    scripted.script = [Answer(507, problem_json(507, code="storage_full"))]
    with Client(scripted.url) as client, pytest.raises(ServerError, match="storage_full"):
        client.job("job_1")
    assert len(scripted.seen) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (415, InvalidRequest),
        (422, InvalidRequest),
        (307, ApiError),
        (418, ApiError),
    ],
)
def test_every_refusal_has_its_error_and_is_not_repeated(scripted, status, error) -> None:
    scripted.script = [Answer(status, problem_json(status), {"Location": "http://192.0.2.1/"})]
    with Client(scripted.url) as client, pytest.raises(error, match="req_1") as caught:
        client.job("job_1")
    assert type(caught.value) is error
    assert caught.value.status == status
    assert len(scripted.seen) == 1


def test_too_many_calls_are_an_error_of_their_own(scripted) -> None:
    scripted.script = [Answer(429, problem_json(429), {"Retry-After": "0"})]
    with Client(scripted.url, retries=2) as client, pytest.raises(RateLimited):
        client.job("job_1")
    assert len(scripted.seen) == 3


def test_a_refusal_names_the_places_to_mend(scripted) -> None:
    place = {"pointer": "/options/seed", "detail": "must not be negative", "code": "range", "hint": "new in version 9"}
    scripted.script = [Answer(422, problem_json(422, errors=[place], severity="new in version 9"))]
    with Client(scripted.url) as client, pytest.raises(InvalidRequest, match="/options/seed: must not be negative"):
        client.job("job_1")


def test_a_proxy_that_answers_in_its_own_words_is_quoted(scripted) -> None:
    scripted.script = [Answer(404, b"<html>no such host</html>", {"X-Request-Id": "edge-7"})]
    with Client(scripted.url) as client, pytest.raises(NotFound, match="no such host") as caught:
        client.job("job_1")
    assert caught.value.request_id == "edge-7"


def test_nothing_listening_is_told_with_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url, retries=1) as client, pytest.raises(ConnectionFailed, match=url):
            client.job("job_1")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "file:///etc/passwd"])
def test_what_is_no_address_is_refused_at_once(url) -> None:
    with pytest.raises(ValueError, match="no address of a service"):
        Client(url)


def test_fields_of_a_newer_service_are_left_out(scripted) -> None:
    newer = {"colour": "blue", "urls": json.loads(job_json())["urls"] | {"bundle": "/v1/bundle"}}
    scripted.script = [Answer(200, job_json(**newer))]
    with Client(scripted.url) as client:
        assert client.job("job_1").info.urls.web == "/jobs/job_1"


def test_a_word_of_a_newer_service_asks_for_a_newer_client(scripted) -> None:
    scripted.script = [Answer(200, job_json(status="paused"))]
    with Client(scripted.url) as client, pytest.raises(UnreadableAnswer, match="newer client"):
        client.job("job_1")


def test_the_key_is_sent_as_a_bearer(scripted, monkeypatch) -> None:
    monkeypatch.setenv("SADDLESCOPE_URL", scripted.url)
    monkeypatch.setenv("SADDLESCOPE_API_KEY", "ss_secret")
    scripted.script = [Answer(200, job_json())]
    with Client() as client:
        client.job("job_1")
        assert "ss_secret" not in repr(client)
    assert scripted.seen[0].headers["Authorization"] == "Bearer ss_secret"


def test_waiting_asks_for_a_long_poll_and_outlives_a_restart(scripted) -> None:
    scripted.script = [
        Answer(200, job_json()),
        Answer(200, job_json(status="running"), {"Retry-After": "0"}),
        *[Answer(0, drop=True)] * 3,
        Answer(200, job_json(status="failed", done=True, error=json.loads(problem_json(422, code="loss_invalid")))),
    ]
    with Client(scripted.url, retries=1) as client:
        job = client.job("job_1")
        with pytest.raises(JobFailed) as caught:
            job.wait(timeout=30, progress=False)
    assert (caught.value.code, caught.value.job_id) == ("loss_invalid", "job_1")
    assert scripted.seen[1].headers["Prefer"] == "wait=20"


def test_a_service_that_ignores_the_long_poll_is_not_asked_in_a_tight_loop(scripted) -> None:
    scripted.script = [Answer(200, job_json())]
    with Client(scripted.url) as client:
        job = client.job("job_1")
        with pytest.raises(WaitTimeout, match="wait again"):
            job.wait(timeout=1.5, progress=False)
    assert len(scripted.seen) <= 4


@pytest.mark.parametrize("fault", [Answer(0, drop=True), Answer(503), Answer(429)])
def test_a_service_that_is_down_is_not_asked_in_a_tight_loop(scripted, fault) -> None:
    scripted.script = [Answer(200, job_json()), fault]
    with Client(scripted.url, retries=0) as client:
        job = client.job("job_1")
        with pytest.raises(WaitTimeout):
            job.wait(timeout=0.5, progress=False)
    assert 2 <= len(scripted.seen) <= 6


def test_a_key_read_from_a_file_may_end_with_a_line_break(scripted, monkeypatch) -> None:
    monkeypatch.setenv("SADDLESCOPE_API_KEY", "ss_secret\n")
    scripted.script = [Answer(200, job_json())]
    with Client(scripted.url) as client:
        client.job("job_1")
    assert scripted.seen[0].headers["Authorization"] == "Bearer ss_secret"


@pytest.mark.parametrize("key", ["ss_sec\nret", "ss_secrét", "ss_sec\x00ret"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key) -> None:
    with pytest.raises(ValueError, match="no header can carry") as caught:
        Client("http://127.0.0.1:9", api_key=key)
    assert "ss_sec" not in str(caught.value)


def test_a_service_that_stops_answering_is_a_finding_of_the_doctor(scripted) -> None:
    scripted.script = [Answer(200, b'{"status":"ok"}'), Answer(0, drop=True)]
    found = {finding.check: finding for finding in examine(scripted.url, None)}
    assert "did not answer /readyz" in found["connection"].detail
    assert found["connection"].remedy is not None
    assert "torch" in found, "what needs no service is examined all the same"


def test_a_cancelled_job_has_no_report(scripted) -> None:
    scripted.script = [Answer(200, job_json(status="cancelled", done=True))]
    with Client(scripted.url) as client, pytest.raises(JobCancelled):
        client.job("job_1").wait()


def test_only_bytes_that_the_service_lacks_are_sent(scripted, tmp_path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    checkpoint.write_bytes(b"checkpoint" * 300_000)
    scripted.script = [
        Answer(404, problem_json(404)),
        Answer(503),
        Answer(201),
        Answer(200),
        Answer(202, job_json()),
    ]
    with Client(scripted.url) as client:
        client.submit(checkpoint, b"program", cancel_after="90s", wait=5)
    calls = [(seen.method, seen.path.partition("sha256:")[0]) for seen in scripted.seen]
    artifact = "/v1/artifacts/"
    assert calls == [("HEAD", artifact), ("PUT", artifact), ("PUT", artifact), ("HEAD", artifact), ("POST", "/v1/jobs")]
    assert scripted.seen[2].body == checkpoint.read_bytes()
    assert scripted.seen[2].headers["Content-Length"] == str(checkpoint.stat().st_size)
    assert (scripted.seen[4].headers["Cancel-After"], scripted.seen[4].headers["Prefer"]) == ("90s", "wait=5")


def test_a_request_that_breaks_the_contract_never_leaves(scripted) -> None:
    scripted.script = [Answer(500)]
    layers = [{"type": "residual", "layers": [{"type": "linear", "in_features": 0, "out_features": 1}]}]
    loss = {"kind": "network", "layers": layers, "criterion": {"type": "mse"}}
    with Client(scripted.url) as client:
        with pytest.raises(InvalidRequest, match="/loss/layers/0/layers/0/in_features: ") as caught:
            client.submit({"w": 0.0}, loss)
        assert len(caught.value.problem.errors) == 1
        with pytest.raises(InvalidRequest, match="/checkpoint/inline: "):
            client.submit({"w": [[1.0], [1.0, 2.0]]}, "w")
        with pytest.raises(InvalidRequest, match="/loss/expression: "):
            client.submit({"w": 0.0}, "w" * 10_001)
        with pytest.raises(TypeError, match="did you mean 'method'"):
            client.submit({"w": 0.0}, "w", metod="dense")
        with pytest.raises(TypeError, match="give run="):
            client.submit({"w": 0.0}, "w", step=3)
    assert scripted.seen == []


def test_pages_are_followed_until_the_limit(scripted) -> None:
    jobs = [json.loads(job_json(id=f"job_{index}")) for index in range(4)]
    first = {"object": "list", "data": jobs[:3], "has_more": True, "next": "cursor"}
    second = {"object": "list", "data": jobs[3:], "has_more": True, "next": "further"}
    scripted.script = [Answer(200, json.dumps(first).encode()), Answer(200, json.dumps(second).encode())]
    with Client(scripted.url) as client:
        listed = list(client.jobs(status="succeeded", labels={"team": "vision", "gpu": "h100"}, limit=4))
    assert [job.id for job in listed] == [f"job_{index}" for index in range(4)]
    assert scripted.seen[0].path == "/v1/jobs?status=succeeded&label=team%3Avision&label=gpu%3Ah100&limit=4"
    assert scripted.seen[1].path.endswith("&limit=1&after=cursor")
