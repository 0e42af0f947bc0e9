"""A new version starts on the data folder of an old one, and everything that was there is there."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from e2e_service import TOY, running_service
from servers import database
from sqlalchemy import create_engine, text

from store.blobs import open_blobs
from store.database import alembic_config

JOB = "job_0199d3a4c1e87c3f9f1e6f0c2b1a4d5e"
MOMENT = "2026-01-02 03:04:05.678000"
# As the first version wrote it: statements of its time, not today's tables.
ROWS = [
    ("INSERT INTO projects (name, created_at) VALUES ('default', :moment)", {}),
    (
        "INSERT INTO jobs (id, project, status, queue, priority, fence, attempt, max_attempts, created_at, not_before, "
        "run_id, run_step, labels, metadata, fingerprint, request) VALUES (:job, 'default', 'queued', 'cpu', 0, 0, 0, 3, "
        ":moment, :moment, 'mlp-7', 12, :labels, '{}', 'f', :request)",
        {"labels": '{"team": "vision"}', "request": json.dumps(TOY)},
    ),
    ("INSERT INTO job_labels (digest, job_id) VALUES (:digest, :job)", {
        "digest": hashlib.sha256(json.dumps(["team", "vision"]).encode()).hexdigest()
    }),
    (
        "INSERT INTO events (id, job_id, number, type, created_at, data) "
        "VALUES ('evt_0199d3a4c1e87c3f9f1e6f0c2b1a4d5f', :job, 1, 'job.queued', :moment, '{}')",
        {},
    ),
    ("INSERT INTO artifacts (project, id, size, created_at) VALUES ('default', :artifact, 7, :moment)", {}),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_folder_of_the_first_version_is_served(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    settings: dict[str, str] = {}
    url = f"sqlite:///{tmp_path / 'saddlescope.db'}"
    if kind == "postgresql":
        with database(request.getfixturevalue("postgresql")) as url:
            serve_old_data(tmp_path, url, settings | {"SADDLESCOPE_DATABASE_URL": url})
    else:
        serve_old_data(tmp_path, url, settings)


def serve_old_data(data: Path, url: str, settings: dict[str, str]) -> None:
    command.upgrade(alembic_config(url), "0001")
    artifact = open_blobs(data / "blobs").put(b"weights").id
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement, values in ROWS:
            every = {"job": JOB, "moment": MOMENT, "artifact": artifact} | values
            named = {name: value for name, value in every.items() if f":{name}" in statement}
            connection.execute(text(statement), named)
    engine.dispose()
    with running_service(data, settings) as service, closing(service.client) as client:
        job = service.await_status(JOB, "succeeded", seconds=60)  # the new worker runs what the old one left
        assert (job["verdict"], job["created_at"]) == ("saddle", "2026-01-02T03:04:05.678Z")
        listed = client.get("/v1/jobs?label=team:vision&run=mlp-7&verdict=saddle").json()["data"]
        assert [one["id"] for one in listed] == [JOB]
        events = client.get(f"/v1/jobs/{JOB}/events").json()["data"]
        assert [event["type"] for event in events][:2] == ["job.queued", "job.started"]
        assert client.get(f"/v1/artifacts/{artifact}").content == b"weights"
        assert client.get("/v1/runs/mlp-7").json()["jobs"][0]["step"] == 12
