"""Streams of events over real connections: shared by one poller, resumed after a crash of the service."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import event
from test_service_access import key
from test_service_process import Start, start

from saddlescope import Client
from saddlescope.contract.jobs import Event, Progress, Usage
from saddlescope.contract.vocabulary import FailureCode, Stage
from service.app import create_app
from service.parts import Parts
from service.settings import Auth
from store.database import open_engine, open_sessions
from store.keys import Scope
from store.queue import claim_job, finish_failed, heartbeat

__all__ = ["start"]

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "force": True,
}
STREAM = {"Accept": "text/event-stream"}
Act = Callable[[str], None]


@pytest.fixture
def url(parts: Parts) -> Iterator[str]:
    """The application behind a real server, for answers that do not end."""
    config = uvicorn.Config(create_app(parts), log_config=None, ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def submit(url: str, run: str | None = None) -> str:
    body = TOY if run is None else TOY | {"run": {"id": run}}
    return str(httpx2.post(f"{url}/v1/jobs", json=body).json()["id"])


@contextlib.contextmanager
def following(url: str, follow: Callable[[Client], Iterator[Event]]) -> Iterator[tuple[list[Event], threading.Thread]]:
    """What the client tells, gathered by a thread of its own until the client is closed."""
    found: list[Event] = []
    with Client(url) as client:

        def gather() -> None:
            with contextlib.suppress(RuntimeError):  # the client was closed
                for one in follow(client):
                    found.append(one)

        # Nothing wakes it from a quiet stream; it ends with the server.
        reader = threading.Thread(target=gather, daemon=True)
        reader.start()
        yield found, reader


def wait_until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_projects_stream_tells_every_job_of_it_from_now_on(url: str, finish: Act) -> None:
    before = submit(url)
    with (
        following(url, lambda client: client.events()) as (found, _),
        following(url, lambda client: client.events(run="mlp")) as (of_run, _),
    ):
        # Whoever begins now is told of nothing before; a first event shows that the stream is open.
        wait_until(lambda: submit(url, "mlp") and found and of_run)
        first = len(found)
        finish(before)
        jobs = [submit(url, run) for run in ("mlp", None, "mlp")]
        wait_until(lambda: {jobs[0], jobs[2]} <= {one.job for one in of_run} and jobs[2] in {one.job for one in found})
        assert [one.type for one in found if one.job == before] == ["job.started", "job.succeeded"]
        assert [one.job for one in found[first:] if one.job in jobs] == jobs
        assert jobs[1] not in {one.job for one in of_run}


def test_a_stream_begins_with_a_hint_and_goes_on_from_any_event(url: str) -> None:
    jobs = [submit(url) for _ in range(3)]
    listed = httpx2.get(f"{url}/v1/events", params={"order": "asc"}).json()["data"]
    assert [one["job"] for one in listed] == jobs
    for index, one in enumerate(listed[:-1]):
        for asked in ({"headers": STREAM | {"Last-Event-ID": one["id"]}},
                      {"headers": STREAM, "params": {"after": one["id"]}}):  # fmt: skip
            with httpx2.stream("GET", f"{url}/v1/events", **asked) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                lines = answer.iter_lines()
                assert next(lines) == "retry: 1000"
                data = (line.removeprefix("data: ") for line in lines if line.startswith("data: "))
                resumed = [json.loads(text) for text in itertools.islice(data, 2 - index)]
        assert resumed == listed[index + 1 :]


def test_many_quiet_streams_cost_as_much_as_one(url: str, parts: Parts) -> None:
    job = submit(url)
    statements: list[str] = []

    def count(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    streams: list[Iterator[str]] = []
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(httpx2.Client(timeout=30, limits=httpx2.Limits(max_connections=None)))
        for path in itertools.islice(itertools.cycle(["/v1/events", f"/v1/jobs/{job}/events"]), 60):
            answer = stack.enter_context(http.stream("GET", f"{url}{path}", headers=STREAM))
            streams.append(answer.iter_lines())  # an iterator that is let go closes its stream
        assert {next(lines) for lines in streams} == {"retry: 1000"}
        time.sleep(0.5)
        event.listen(parts.engine, "before_cursor_execute", count)
        time.sleep(1.0)
        event.remove(parts.engine, "before_cursor_execute", count)
    # Two looks, ten times a second; a query for each of the streams would be sixty at the least.
    assert 0 < sum(statement.startswith("SELECT") for statement in statements) < 40


def test_the_poller_rests_when_nobody_reads(url: str, parts: Parts) -> None:
    with Client(url) as client:
        assert [one.type for one in client.events(_ended(url))][-1] == "job.cancelled"
    statements: list[str] = []

    def count(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    def is_quiet() -> bool:
        statements.clear()
        time.sleep(0.5)
        return not statements

    event.listen(parts.engine, "before_cursor_execute", count)
    wait_until(is_quiet)
    event.remove(parts.engine, "before_cursor_execute", count)


def _ended(url: str) -> str:
    job = submit(url)
    httpx2.post(f"{url}/v1/jobs/{job}/cancel")
    return job


def test_a_reader_notices_nothing_of_a_service_that_crashes(start: Start, tmp_path: Path) -> None:
    nowhere = "redis+socket:///nowhere/valkey.sock"
    port = free_port()
    service = start(tmp_path, "--api-only", "--port", str(port), SADDLESCOPE_BROKER_URL=nowhere)
    job = submit(service.url)
    engine = open_engine(f"sqlite:///{tmp_path / 'saddlescope.db'}")
    sessions = open_sessions(engine)
    with contextlib.ExitStack() as stack:
        of_job, reader = stack.enter_context(following(service.url, lambda client: client.events(job)))
        wait_until(lambda: of_job)
        first = of_job[0].id
        of_project, _ = stack.enter_context(following(service.url, lambda client: client.events(after=first)))
        with sessions.begin() as session:
            claim = claim_job(session, job_id=job, queues=["cpu"], worker="w")
            assert claim is not None
        for number, stage in enumerate(list(Stage)[:6]):
            with sessions.begin() as session:
                now = of_job[0].created_at
                progress = Progress(stage=stage, fraction=0.1, matvecs=number, eta_seconds=None, updated_at=now)
                heartbeat(session, claim, progress=progress)
            if number in (1, 3):  # the second time nobody is there when it happens
                service.stop(signal.SIGKILL)
            if number in (2, 3):
                service = start(tmp_path, "--api-only", "--port", str(port), SADDLESCOPE_BROKER_URL=nowhere)
        with sessions.begin() as session:
            usage = Usage(seconds=1, matvecs=1, peak_memory_bytes=1, device="cpu")
            assert finish_failed(
                session, claim, code=FailureCode.CRASHED, detail="\u2028", retryable=False, usage=usage
            )
        reader.join(30)
        assert not reader.is_alive()
        listed = httpx2.get(f"{service.url}/v1/jobs/{job}/events").json()["data"]
        assert [one.id for one in of_job] == [one["id"] for one in listed]
        assert [one.type for one in of_job] == ["job.queued", "job.started", *["job.progress"] * 6, "job.failed"]
        wait_until(lambda: len(of_project) == len(of_job) - 1)
        assert of_project == of_job[1:]
    engine.dispose()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_the_list_of_a_projects_events_has_pages_in_both_orders(client: TestClient, finish: Act) -> None:
    jobs = [client.post("/v1/jobs", json=TOY | {"run": {"id": run}}).json()["id"] for run in ("a", "b", "a")]
    for job in jobs:
        finish(job)

    def pages(**params: object) -> list[tuple[str, str]]:
        found: list[dict[str, str]] = []
        while True:
            page = client.get("/v1/events", params={"limit": 4} | params).json()
            found += page["data"]
            if not page["has_more"]:
                return [(one["job"], one["type"]) for one in found]
            params["after"] = page["next"]

    forward = pages(order="asc")
    assert [pair for pair in forward if pair[1] == "job.queued"] == [(job, "job.queued") for job in jobs]
    assert len(forward) == 9
    assert pages() == forward[::-1]
    assert pages(order="asc", run="a") == [pair for pair in forward if pair[0] != jobs[1]]


def test_an_event_that_is_no_event_is_refused(client: TestClient) -> None:
    for wrong in ("job_1", "evt_", "evt_\0"):
        answer = client.get("/v1/events", params={"after": wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")
    assert client.get("/v1/events", params={"after": "evt_" + "0" * 32}).json()["data"] == []


def test_a_project_reads_its_own_events(with_settings: Callable[..., TestClient], parts: Parts) -> None:
    guarded = with_settings(auth=Auth.KEYS)
    ours, theirs = key(parts, "ours", Scope.ADMIN), key(parts, "theirs", Scope.READ)
    guarded.post("/v1/jobs", json=TOY, headers=ours)
    [known] = guarded.get("/v1/events", headers=ours).json()["data"]
    assert guarded.get("/v1/events", headers=theirs).json()["data"] == []
    assert guarded.get("/v1/events", headers=theirs, params={"order": "asc", "after": known["id"]}).json()["data"] == []
    assert guarded.get("/v1/events").status_code == 401
