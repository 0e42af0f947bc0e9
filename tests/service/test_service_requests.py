"""Every wrong request ends in a problem that points at the place, and never repeats what was sent."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from saddlescope.contract import limits

LINEAR = {"type": "linear", "in_features": 1, "out_features": 1, "bias": False}
NETWORK = {
    "checkpoint": {"inline": {"0.weight": [[1.0]]}},
    "loss": {"kind": "network", "layers": [LINEAR], "criterion": {"type": "mse"}},
    "data": {"inline": {"inputs": [[1.0]], "targets": [[1.0]]}},
}
TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}
UNKNOWN = {"artifact": "sha256:" + "0" * 64}


def post(client: TestClient, body: str | bytes) -> tuple[int, dict[str, object]]:
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, object] = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert client.get(str(problem["type"])).status_code == 200
    return answer.status_code, problem


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "nonsense",
        '{"checkpoint": NaN}',
        '{"checkpoint": Infinity}',
        '{"checkpoint": 1e999}',
        '{"checkpoint": {"inline": {"w": ' + "1" * 1000 + "}}}",
        '{"checkpoint": {"inline": {"w": -' + "9" * 100_000 + "}}}",
        '{"a": 1, "a": 2}',
        '{"labels": {"a": "x\\u0000"}}',
        '{"labels": {"\\u0000": "x"}}',
        '{"labels": {"a": "\\ud800"}}',
        "[" * 100_000,
        "[" + "[]," * 130_000 + "1]",
        '{"a":' * 70 + "1" + "}" * 70,
        b"\xff\xfe{}",
        '{"a": "\x00"}',
        '"unclosed ' + "\\" * 99,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_strict_json_is_refused(client: TestClient, body: str | bytes) -> None:
    status, problem = post(client, body)
    assert (status, problem["code"]) == (422, "json_invalid")


def changed(body: dict[str, object], pointer: str, value: object) -> dict[str, object]:
    copy = json.loads(json.dumps(body))
    *path, last = pointer.strip("/").split("/")
    place = copy
    for key in path:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(last) if isinstance(place, list) else last] = value
    return copy


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ([], "", "model_type"),
        ({}, "/checkpoint", "missing"),
        (changed(NETWORK, "/optoins", {}), "/optoins", "extra_forbidden"),
        (changed(NETWORK, "/options", {"zero_tolerance": 1}), "/options/zero_tolerance", "extra_forbidden"),
        (changed(NETWORK, "/options", {"critical_rtol": 2}), "/options/critical_rtol", "less_than_equal"),
        (changed(NETWORK, "/loss/kind", "pickle"), "/loss", "union_tag_invalid"),
        (changed(NETWORK, "/loss/layers/0/type", "evil"), "/loss/layers/0", "union_tag_invalid"),
        (changed(NETWORK, "/loss/layers/0/__class__", 1), "/loss/layers/0/__class__", "extra_forbidden"),
        (changed(NETWORK, "/loss/layers/0/linear", {}), "/loss/layers/0/linear", "extra_forbidden"),
        (changed(NETWORK, "/loss/layers/0/in_features", 0), "/loss/layers/0/in_features", "greater_than_equal"),
        (changed(NETWORK, "/loss/layers/0/in_features", 1.5), "/loss/layers/0/in_features", "int_type"),
        (changed(NETWORK, "/loss/criterion", {}), "/loss/criterion", "union_tag_not_found"),
        (changed(NETWORK, "/checkpoint", {}), "/checkpoint", "source_invalid"),
        (changed(NETWORK, "/checkpoint", {"part": "x"}), "/checkpoint", "source_invalid"),
        (changed(NETWORK, "/checkpoint/artifact", "x"), "/checkpoint", "source_invalid"),
        (changed(NETWORK, "/checkpoint", {"artifact": "sha256:1"}), "/checkpoint/artifact", "string_pattern_mismatch"),
        (changed(NETWORK, "/checkpoint/inline/0.weight", [[1], [2, 3]]), "/checkpoint/inline", "tensor_invalid"),
        (changed(NETWORK, "/checkpoint/inline/w", [0] * 10_001), "/checkpoint/inline", "tensor_invalid"),
        (changed(NETWORK, "/labels", {"a/b~c": 5}), "/labels/a~1b~0c", "string_type"),
        (changed(NETWORK, "/checkpoint", UNKNOWN), "/checkpoint/artifact", "artifact_not_found"),
        (changed(NETWORK, "/data", UNKNOWN), "/data/artifact", "artifact_not_found"),
        (
            changed(TOY, "/loss", {"kind": "program", "program": UNKNOWN}),
            "/loss/program/artifact",
            "artifact_not_found",
        ),
        (changed(TOY, "/loss/expression", "__import__('os')"), "/loss/expression", "loss_invalid"),
        (changed(TOY, "/loss/expression", "1 +"), "/loss/expression", "loss_invalid"),
        (changed(NETWORK, "/checkpoint/inline", {"1.weight": 0}), "/checkpoint/inline", "parameter_mismatch"),
        (
            changed(NETWORK, "/checkpoint/inline/0.weight", [1]),
            "/checkpoint/inline/0.weight",
            "parameter_mismatch",
        ),
        (changed(NETWORK, "/data", None), "/data", "data_invalid"),
        (changed(NETWORK, "/data/inline", {"inputs": [[1]]}), "/data/inline", "data_invalid"),
        (changed(NETWORK, "/data/inline/targets", [[1], [2]]), "/data/inline/targets", "data_invalid"),
        (changed(NETWORK, "/data/inline/inputs", []), "/data/inline/inputs", "data_invalid"),
        (changed(NETWORK, "/data/inline/inputs", 1.0), "/data/inline/inputs", "data_invalid"),
        (changed(NETWORK, "/callback_url", "http://example.org/"), "/callback_url", "destination_refused"),
        (changed(NETWORK, "/callback_url", "https://127.0.0.1/"), "/callback_url", "destination_refused"),
        (changed(NETWORK, "/callback_url", "https://2130706433/"), "/callback_url", "destination_refused"),
        (changed(NETWORK, "/callback_url", "https://u:p@example.org/"), "/callback_url", "destination_refused"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_place_is_pointed_at(client: TestClient, body: dict[str, object], pointer: str, code: str) -> None:
    status, problem = post(client, json.dumps(body))
    assert status == 422
    errors = problem["errors"]
    assert isinstance(errors, list)
    assert (pointer, code) in [(error["pointer"], error["code"]) for error in errors]


def test_the_problem_takes_the_code_of_its_places(client: TestClient) -> None:
    _, problem = post(client, json.dumps(changed(NETWORK, "/checkpoint", UNKNOWN)))
    assert problem["code"] == "artifact_not_found"
    _, problem = post(client, json.dumps(changed(NETWORK, "/nonsense", 1)))
    assert problem["code"] == "request_invalid"


def test_an_answer_never_repeats_values(client: TestClient) -> None:
    secret = "S3cret value"
    for pointer in ("/loss/kind", "/loss/layers/0/type", "/loss/criterion/type", "/queue", "/priority", "/run"):
        _, problem = post(client, json.dumps(changed(NETWORK, pointer, secret)))
        assert secret not in json.dumps(problem)


def test_deeply_nested_residuals_are_refused(client: TestClient) -> None:
    layer: dict[str, object] = LINEAR
    for _ in range(limits.MAX_LAYER_NESTING + 1):
        layer = {"type": "residual", "layers": [layer]}
    status, problem = post(client, json.dumps(changed(NETWORK, "/loss/layers/0", layer)))
    assert status == 422
    assert "loss_invalid" in json.dumps(problem)


def test_a_million_layers_are_refused_with_few_words(client: TestClient) -> None:
    status, problem = post(client, json.dumps(changed(NETWORK, "/loss/layers", [{"type": "relu"}] * 300_000)))
    assert status == 422
    assert len(json.dumps(problem)) < 20_000


def test_a_body_over_the_limit_is_413(client: TestClient) -> None:
    status, problem = post(client, b" " * (limits.MAX_REQUEST_BYTES + 1))
    assert (status, problem["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_another_media_type_is_415(client: TestClient, content_type: str) -> None:
    answer = client.post("/v1/jobs", content=json.dumps(TOY), headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_json_with_a_charset_is_json(client: TestClient) -> None:
    answer = client.post(
        "/v1/jobs", content=json.dumps(TOY), headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert answer.status_code == 202


def test_an_artifact_of_the_project_is_found(client: TestClient) -> None:
    artifact = client.post("/v1/artifacts", content=b"bytes").json()["id"]
    answer = client.post("/v1/jobs", json=changed(TOY, "/checkpoint", {"artifact": artifact}))
    assert answer.status_code == 202
