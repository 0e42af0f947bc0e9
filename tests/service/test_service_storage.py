"""An object store that is away costs what needs it, in precise words, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from servers import CREDENTIALS, ObjectStore

from service.app import create_app
from service.parts import open_parts
from service.settings import Settings
from store.artifacts import record_artifact
from store.blobs import Blob
from store.database import migrate

CONTENT = b"weights"
TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}
NAME = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def without_storage(tmp_path: Path, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        data=tmp_path, broker_url=broker, blobs_url=f"s3://weights?endpoint={ObjectStore().endpoint}&region=us-east-1"
    )
    migrate(settings.database())
    parts = open_parts(settings)
    with parts.sessions.begin() as session:
        record_artifact(session, project="default", blob=Blob(NAME, len(CONTENT)))
    with TestClient(create_app(parts), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client
    parts.close()


def test_whatever_needs_the_bytes_is_503_and_may_be_tried_again(without_storage: TestClient) -> None:
    for answer in (
        without_storage.put(f"/v1/artifacts/{NAME}", content=CONTENT),
        without_storage.post("/v1/artifacts", content=CONTENT),
        without_storage.get(f"/v1/artifacts/{NAME}"),
    ):
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["retryable"]) == (503, "storage_unavailable", True)
        assert int(answer.headers["retry-after"]) > 0
        assert not any(secret in answer.text for secret in CREDENTIALS.values())


def test_readiness_names_it(without_storage: TestClient) -> None:
    answer = without_storage.get("/readyz")
    told = answer.json()
    assert (answer.status_code, told["blobs"]["status"], told["database"]["status"]) == (503, "down", "ok")


def test_jobs_are_taken_all_the_same(without_storage: TestClient) -> None:
    assert without_storage.post("/v1/jobs", json=TOY).status_code == 202
    assert without_storage.post("/v1/jobs", json=TOY | {"checkpoint": {"artifact": NAME}}).status_code == 202
    assert without_storage.head(f"/v1/artifacts/{NAME}").status_code == 200
