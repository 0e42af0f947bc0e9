"""Laws of fetching: while inputs are on their way the lease is kept, a wish is heard, and what cannot come is named."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest
from servers import ObjectStore
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.vocabulary import FailureCode
from store import tables
from store.artifacts import record_artifact
from store.blobs import BlobStore, open_blobs
from store.database import database_now, open_engine, open_sessions
from store.jobs import insert_job
from store.queue import Claim, claim_job, request_cancel
from workers.launcher import ForkServer
from workers.metrics import WorkerMetrics
from workers.outcome import Fault, Settled
from workers.settings import WorkerSettings
from workers.stopping import Stop
from workers.transfer import gather
from workers.workshop import Workshop

LEASE_SECONDS = 2.0


@pytest.fixture
def sessions(database_url: str) -> Iterator[sessionmaker[Session]]:
    engine = open_engine(database_url)
    yield open_sessions(engine)
    engine.dispose()


def workshop(sessions: sessionmaker[Session], blobs: BlobStore, *, patience_seconds: float = 60) -> Workshop:
    settings = WorkerSettings(
        database_url="unused", broker_url="unused", blobs_url="unused",
        worker_lease_seconds=patience_seconds, worker_heartbeat_seconds=0.1,
    )  # fmt: skip
    return Workshop(
        name="w",
        queues=("cpu",),
        settings=settings,
        sessions=sessions,
        blobs=blobs,
        fork_server=ForkServer(device="cpu"),
        scratch=Path("unused"),
        stop=Stop(),
        metrics=WorkerMetrics(num_slots=1),
        traces=None,
        slots=threading.Semaphore(1),
    )


def claimed(sessions: sessionmaker[Session], blobs: BlobStore, content: bytes = b"weights") -> Claim:
    """A job whose checkpoint is stored, in the hands of worker `w`."""
    blob = blobs.put(content)
    request = JobRequest.model_validate(
        {"checkpoint": {"artifact": blob.id}, "loss": {"kind": "expression", "expression": "w**2"}}
    )
    with sessions.begin() as session:
        record_artifact(session, project="default", blob=blob)
        insert_job(session, project="default", request=request, fingerprint="0" * 64)
        claim = claim_job(session, job_id=None, queues=["cpu"], worker="w", lease_seconds=LEASE_SECONDS)
    assert claim is not None
    return claim


def checkpoint_of(claim: Claim) -> str:
    return str(claim.request.model_dump()["checkpoint"]["artifact"])


def lease_of(sessions: sessionmaker[Session], claim: Claim) -> tuple[datetime, datetime]:
    """Until when the lease runs, and what time it is."""
    with sessions() as session:
        until = session.scalars(select(tables.Job.lease_until).where(tables.Job.id == claim.job_id)).one()
        return until, database_now(session)


def test_the_inputs_are_there_for_as_long_as_they_are_kept(
    sessions: sessionmaker[Session], bucket_url: str, tmp_path: Path
) -> None:
    blobs = open_blobs(bucket_url, local=tmp_path, cache_bytes=0)
    claim = claimed(sessions, blobs)
    with ExitStack() as keep:
        paths = gather(workshop(sessions, blobs), claim, keep)
        assert isinstance(paths, dict)
        path = paths[checkpoint_of(claim)]
        assert path.read_bytes() == b"weights"
    assert not path.exists()


def test_bytes_that_are_gone_or_damaged_are_the_checkpoint_s_fault(
    sessions: sessionmaker[Session], bucket_url: str, tmp_path: Path
) -> None:
    blobs = open_blobs(bucket_url, local=tmp_path)
    claim = claimed(sessions, blobs)
    blobs.delete(checkpoint_of(claim))
    shop = workshop(sessions, blobs)
    with ExitStack() as keep:
        gone = gather(shop, claim, keep)
        other = tmp_path / "other"
        other.write_bytes(b"not the weights")
        blobs.adopt(other, checkpoint_of(claim))
        damaged = gather(shop, claim, keep)
    for fault, word in ((gone, "no longer stored"), (damaged, "damaged")):
        assert isinstance(fault, Fault)
        assert (fault.code, fault.is_retryable) == (FailureCode.CHECKPOINT_INVALID, False)
        assert word in fault.detail


class Road:
    """A port from which a server is reached only while the road is open."""

    def __init__(self, destination: int) -> None:
        self._destination = destination
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self._port}"

    @contextmanager
    def open(self) -> Iterator[None]:
        class Relay(socketserver.BaseRequestHandler):
            def handle(relay) -> None:  # noqa: N805 - beside the road's own self
                with socket.create_connection(("127.0.0.1", self._destination)) as there:
                    back = threading.Thread(target=carry, args=(there, relay.request), daemon=True)
                    back.start()
                    carry(relay.request, there)
                    back.join()

        with socketserver.ThreadingTCPServer(("127.0.0.1", self._port), Relay) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever).start()
            yield
            server.shutdown()


def carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def away_from(claim_folder: Path) -> BlobStore:
    """A bucket of a server that nobody has started."""
    return open_blobs(f"s3://bucket?endpoint={ObjectStore().endpoint}", local=claim_folder)


def test_an_outage_that_ends_costs_neither_the_lease_nor_the_attempt(
    sessions: sessionmaker[Session], bucket_url: str, object_store: ObjectStore, tmp_path: Path
) -> None:
    there = open_blobs(bucket_url, local=tmp_path / "there")
    claim = claimed(sessions, there)
    road = Road(object_store.port)
    shop = workshop(sessions, open_blobs(bucket_url.replace(object_store.endpoint, road.endpoint), local=tmp_path))
    with ThreadPoolExecutor(1) as pool, ExitStack() as keep:
        waiting = pool.submit(gather, shop, claim, keep)
        time.sleep(1.5 * LEASE_SECONDS)
        until, now = lease_of(sessions, claim)
        assert until > now
        assert not waiting.done()
        with road.open():
            paths = waiting.result(60)
        assert isinstance(paths, dict)
        assert paths[checkpoint_of(claim)].read_bytes() == b"weights"


def cancel(shop: Workshop, claim: Claim) -> None:
    with shop.sessions.begin() as session:
        request_cancel(session, project="default", job_id=claim.job_id)


def lose(shop: Workshop, claim: Claim) -> None:
    with shop.sessions.begin() as session:
        session.execute(update(tables.Job).where(tables.Job.id == claim.job_id).values(fence=claim.fence + 1))


def stop(shop: Workshop, _: Claim) -> None:
    shop.stop.set()


@pytest.mark.parametrize(
    ("wish", "end"), [(cancel, Settled.CANCELLED), (lose, Settled.ABANDONED), (stop, Settled.RELEASED)]
)
def test_a_wish_is_heard_while_the_inputs_do_not_come(
    sessions: sessionmaker[Session],
    bucket_url: str,
    tmp_path: Path,
    wish: Callable[[Workshop, Claim], None],
    end: Settled,
) -> None:
    claim = claimed(sessions, open_blobs(bucket_url, local=tmp_path / "there"))
    shop = workshop(sessions, away_from(tmp_path), patience_seconds=120)
    with ThreadPoolExecutor(1) as pool, ExitStack() as keep:
        waiting = pool.submit(gather, shop, claim, keep)
        time.sleep(0.3)
        assert not waiting.done()
        wish(shop, claim)
        assert waiting.result(60) is end


def test_an_outage_that_does_not_end_is_a_fault_that_another_attempt_may_not_meet(
    sessions: sessionmaker[Session], bucket_url: str, tmp_path: Path
) -> None:
    claim = claimed(sessions, open_blobs(bucket_url, local=tmp_path / "there"))
    with ExitStack() as keep:
        fault = gather(workshop(sessions, away_from(tmp_path), patience_seconds=1), claim, keep)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.is_retryable) == (FailureCode.INTERNAL, True)
