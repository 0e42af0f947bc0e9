"""A database that is away, or not free in time, is the service's weather and not its mistake: 503, and try again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from fastapi.testclient import TestClient
from servers import administer
from sqlalchemy import event, make_url

from service.parts import Parts

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}


@contextmanager
def database_away(parts: Parts) -> Iterator[None]:
    """PostgreSQL throws everyone out and lets nobody in; in SQLite somebody writes, and nobody is patient."""
    url = parts.engine.url
    if url.database is not None and url.get_backend_name() == "sqlite":
        event.listen(parts.engine, "checkout", lambda connection, *_: connection.execute("PRAGMA busy_timeout=50"))
        with closing(sqlite3.connect(url.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    server = make_url(url).set(database="postgres").render_as_string(hide_password=False)
    administer(
        server,
        f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.database}'",
    )
    yield
    administer(server, f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")


def test_a_submission_without_a_database_is_503_and_accepted_afterwards(client: TestClient, parts: Parts) -> None:
    key = {"Idempotency-Key": "one"}
    with database_away(parts):
        refused = client.post("/v1/jobs", json=TOY, headers=key)
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["retryable"]) == (503, "database_unavailable", True)
    assert int(refused.headers["retry-after"]) > 0
    assert client.post("/v1/jobs", json=TOY, headers=key).status_code == 202


def test_a_read_without_a_server_is_503(client: TestClient, parts: Parts) -> None:
    if parts.engine.dialect.name == "sqlite":
        pytest.skip("readers of SQLite wait for nobody")
    with database_away(parts):
        assert client.get("/v1/jobs").json()["code"] == "database_unavailable"
    assert client.get("/v1/jobs").status_code == 200
