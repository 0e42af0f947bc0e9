"""One request with the files in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from service.parts import Parts

EXPRESSION = {"kind": "expression", "expression": "sum(w)"}
WITH_PART = {"checkpoint": {"part": "weights"}, "loss": EXPRESSION}


def part(name: str, content: bytes, extra: str = "") -> bytes:
    head = f'--cut\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def post(
    client: TestClient, *parts: bytes, end: bytes = b"--cut--\r\n", query: str = ""
) -> tuple[int, dict[str, object]]:
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    answer = client.post(f"/v1/jobs{query}", content=b"".join(parts) + end, headers=headers)
    told: dict[str, object] = answer.json()
    return answer.status_code, told


def test_a_file_part_becomes_an_artifact_of_the_project(client: TestClient) -> None:
    content = bytes(range(256)) * 9000
    request = part("request", json.dumps(WITH_PART).encode(), '; filename="r.json"')
    for order in ([request, part("weights", content)], [part("weights", content), request]):
        status, job = post(client, *order)
        assert status == 202, job
    stored = client.get(f"/v1/artifacts/sha256:{hashlib.sha256(content).hexdigest()}")
    assert stored.content == content


def test_parts_may_stand_wherever_artifacts_may(client: TestClient) -> None:
    body = {
        "checkpoint": {"part": "a"},
        "loss": {"kind": "program", "program": {"part": "b"}},
        "data": {"part": "c"},
    }
    status, job = post(
        client, part("request", json.dumps(body).encode()), part("a", b"1"), part("b", b"2"), part("c", b"3")
    )
    assert status == 202, job


def test_a_resent_form_with_another_boundary_is_the_same_body(client: TestClient) -> None:
    told = []
    for boundary in ("one", "two"):
        body = (part("request", json.dumps(WITH_PART).encode()) + part("weights", b"w")).replace(
            b"--cut", b"--" + boundary.encode()
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Idempotency-Key": "k"}
        answer = client.post("/v1/jobs", content=body + f"--{boundary}--\r\n".encode(), headers=headers)
        told.append(answer.json()["id"])
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("parts_sent", "end"),
    [
        ([part("weights", b"w")], b"--cut--\r\n"),
        ([part("request", json.dumps(WITH_PART).encode())], b"--cut--\r\n"),
        ([part("request", json.dumps(WITH_PART).encode()), part("other", b"w")], b"--cut--\r\n"),
        (
            [part("request", json.dumps(WITH_PART).encode()), part("weights", b"w"), part("extra", b"w2")],
            b"--cut--\r\n",
        ),
        ([part("request", b"{}"), part("request", b"{}")], b"--cut--\r\n"),
        ([part("request", json.dumps(WITH_PART).encode()), part("weights", b"w")], b""),
        ([b"garbage without a boundary"], b""),
        ([b"--cut\r\nContent-Disposition: attachment\r\n\r\nx\r\n"], b"--cut--\r\n"),
        ([b"--cut\r\nContent-Disposition form-data\r\n\r\nx\r\n"], b"--cut--\r\n"),
        ([part(f"p{index}", b"x") for index in range(40)], b"--cut--\r\n"),
    ],
    ids=[
        "no request",
        "no file",
        "other name",
        "unnamed file",
        "twice",
        "cut",
        "garbage",
        "disposition",
        "header",
        "many",
    ],
)
def test_a_broken_form_is_refused_and_leaves_nothing(
    client: TestClient, bytes_on_disk: Callable[[], list[str]], parts_sent: list[bytes], end: bytes
) -> None:
    status, problem = post(client, *parts_sent, end=end)
    assert (status, problem["code"]) == (422, "multipart_invalid")
    assert bytes_on_disk() == []


def test_a_form_without_a_boundary_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/jobs", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert (answer.status_code, answer.json()["code"]) == (422, "multipart_invalid")


def test_an_invalid_request_and_a_dry_run_store_no_bytes(
    client: TestClient, bytes_on_disk: Callable[[], list[str]]
) -> None:
    wrong = {"checkpoint": {"part": "weights"}, "loss": {"kind": "expression", "expression": "1 +"}}
    assert post(client, part("weights", b"w"), part("request", json.dumps(wrong).encode()))[0] == 422
    right = part("request", json.dumps(WITH_PART).encode())
    status, told = post(client, right, part("weights", bytes(400)), query="?dry_run=true")
    assert (status, told["num_parameters"]) == (200, 100)
    assert bytes_on_disk() == []


def test_a_file_over_the_limit_is_413(client: TestClient, parts: Parts, bytes_on_disk: Callable[[], list[str]]) -> None:
    content = bytes(parts.settings.max_artifact_bytes + 1)
    status, problem = post(client, part("request", json.dumps(WITH_PART).encode()), part("weights", content))
    assert (status, problem["code"]) == (413, "artifact_too_large")
    assert bytes_on_disk() == []
