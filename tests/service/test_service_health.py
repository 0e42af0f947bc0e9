"""What operators are told: readiness part by part, and series whose number callers cannot raise."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from saddlescope.contract.vocabulary import JobStatus
from service.app import create_app
from service.parts import Parts
from service.probes import PartHealth, Probe, look
from service.tally import Tally
from store import tables
from store.database import open_engine, open_sessions
from store.moments import seconds_from_now
from store.presence import announce_worker
from store.queue import claim_job

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def silent_address() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


def series(client: TestClient) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def value(client: TestClient, name: str, **labels: str) -> float | None:
    return series(client).get((name, frozenset(labels.items())))


def test_a_database_that_hangs_is_told_as_down_and_holds_up_nobody(parts: Parts, silent_address: str) -> None:
    engine = open_engine(f"postgresql+psycopg://nobody@{silent_address}/nothing")
    with TestClient(
        create_app(replace(parts, engine=engine, sessions=open_sessions(engine))), base_url="http://localhost"
    ) as client:
        before = threading.active_count()
        for _ in range(3):
            told = client.get("/readyz")
            assert (told.status_code, told.json()["status"]) == (503, "not_ready")
            # The driver gives up in its own time, and the question that was asked then has its answer.
            details = ("no answer within 2 seconds", "no query succeeds")
            assert told.json()["database"]["status"] == "down"
            assert told.json()["database"]["detail"] in details
            assert (told.json()["blobs"]["status"], told.json()["workers"]["status"]) == ("ok", "unknown")
        # One question hangs, not one for every time that somebody looked.
        assert threading.active_count() <= before + 2
        assert client.get("/healthz").json() == {"status": "ok"}
        told = client.get("/metrics").text
        assert 'saddlescope_part_up{part="database"} 0.0' in told
        assert 'saddlescope_part_up{part="blobs"} 1.0' in told
        assert "saddlescope_queue_jobs{" not in told


def test_a_part_that_was_slow_is_asked_anew_once_it_has_answered() -> None:
    gate = threading.Event()

    def ask() -> PartHealth:
        gate.wait()
        return PartHealth(status="ok")

    probes = {"part": Probe(ask)}
    assert look(probes, patience_seconds=0.05)["part"].status == "down"
    gate.set()
    deadline = time.monotonic() + 5
    while look(probes, patience_seconds=0.05)["part"].status == "down":
        assert time.monotonic() < deadline


def test_readiness_tells_how_many_workers_there_are_and_how_they_isolate(client: TestClient, parts: Parts) -> None:
    assert client.get("/readyz").json()["status"] == "degraded"
    with parts.sessions.begin() as session:
        for name, sandbox in (("a", "strict"), ("b", "basic"), ("c", "basic")):
            announce_worker(session, name=name, queues=["cpu"], device="cpu", sandbox=sandbox)
    told = client.get("/readyz").json()
    assert (told["status"], told["workers"]["status"], told["workers"]["count"]) == ("ready", "ok", 3)
    assert told["workers"]["sandbox"] == {"strict": 1, "basic": 2}


def test_no_caller_can_raise_the_number_of_series(client: TestClient) -> None:
    def ask(number: int) -> None:
        client.get(f"/a/path/nobody/knows/{number}")
        client.get(f"/v1/jobs/job_{number}")
        client.request(f"VERB{number}", "/v1/jobs", headers={"X-Request-Id": f"r{number}"})
        queue = {"queue": f"q{number}", "run": {"id": f"run-{number}"}, "labels": {f"l{number}": "x"}}
        client.post("/v1/jobs", json=TOY | queue | {"force": True})

    for number in range(3):
        ask(number)
    client.get("/metrics")
    before = set(series(client))
    for number in range(3, 60):
        ask(number)
    for number in range(1000):
        client.get(f"/{number:x}/{number * 7919}")
    assert set(series(client)) == before


def test_jobs_in_queues_that_nobody_serves_are_counted_as_other(client: TestClient, parts: Parts) -> None:
    with parts.sessions.begin() as session:
        announce_worker(session, name="g", queues=["gpu"], device="cuda:0", sandbox="basic")
    for queue in ("cpu", "gpu", "gpu", "typo", "another-typo"):
        assert client.post("/v1/jobs", json=TOY | {"queue": queue, "force": True}).status_code == 202
    queued = {
        queue: value(client, "saddlescope_queue_jobs", queue=queue, status="queued")
        for queue in ("cpu", "gpu", "other")
    }
    assert queued == {"cpu": 1.0, "gpu": 2.0, "other": 2.0}
    assert value(client, "saddlescope_workers", queue="gpu", device="cuda:0", sandbox="basic") == 1.0


def test_the_oldest_job_and_lapsed_leases_are_told(client: TestClient, parts: Parts) -> None:
    first, second = (client.post("/v1/jobs", json=TOY | {"force": True}).json()["id"] for _ in range(2))
    with parts.sessions.begin() as session:
        session.execute(update(tables.Job).where(tables.Job.id == first).values(not_before=seconds_from_now(-90)))
    age = value(client, "saddlescope_queue_oldest_seconds", queue="cpu")
    assert age is not None
    assert 90 <= age < 120
    with parts.sessions.begin() as session:
        assert claim_job(session, job_id=first, queues=["cpu"], worker="w", lease_seconds=0) is not None
        # A job that rests after a failed attempt does not wait for a worker.
        session.execute(update(tables.Job).where(tables.Job.id == second).values(not_before=seconds_from_now(60)))
    assert value(client, "saddlescope_lapsed_leases") == 1.0
    assert value(client, "saddlescope_queue_oldest_seconds", queue="cpu") == 0.0
    assert value(client, "saddlescope_queue_jobs", queue="cpu", status="running") == 1.0


def test_counting_all_jobs_takes_at_most_a_hundredth_of_the_time() -> None:
    now, num_counts = 0.0, 0

    def count() -> dict[JobStatus, int]:
        nonlocal now, num_counts
        now += 2.0  # what counting costs
        num_counts += 1
        return {JobStatus.SUCCEEDED: num_counts}

    tally = Tally(clock=lambda: now)
    for _ in range(10_000):
        assert tally.look(count)[JobStatus.SUCCEEDED] == num_counts
        now += 1.0
    assert num_counts * 2.0 <= 0.0101 * now
    assert num_counts >= 40


def test_bytes_are_counted_in_and_out(client: TestClient) -> None:
    url = client.post("/v1/artifacts", content=bytes(5000)).json()["url"]
    client.get(url)
    client.get(url, headers={"Range": "bytes=0-99"})
    assert value(client, "saddlescope_artifact_bytes_total") == 5000
    assert value(client, "saddlescope_artifact_sent_bytes_total") == 5100


def test_what_fails_below_is_counted_by_part(client: TestClient, parts: Parts) -> None:
    temporary = parts.blobs.folder / "tmp"
    temporary.rmdir()
    temporary.write_text("no folder")
    assert client.post("/v1/artifacts", content=b"x").status_code == 500
    assert (value(client, "saddlescope_part_errors_total", part="blobs") or 0) >= 1
    assert value(client, "saddlescope_part_errors_total", part="database") == 0.0
    if parts.engine.dialect.name == "postgresql":
        return  # where a missing table is a fault of the statement and not of the database
    with parts.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO lost")
    assert client.get("/v1/jobs").status_code == 500
    with parts.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE lost RENAME TO jobs")
    assert (value(client, "saddlescope_part_errors_total", part="database") or 0) >= 1
