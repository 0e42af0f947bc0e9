"""The whole service in one command: database, broker, worker, API and dashboard over one data folder."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn
from opentelemetry.trace import TracerProvider

from service.addresses import is_loopback
from service.app import create_app
from service.broker import broker_url, embedded_broker, socket_path, wait_for_broker
from service.children import Child
from service.courier import Courier
from service.deliverer import Deliverer
from service.parts import Parts, open_parts
from service.settings import Auth, Settings
from service.sockets import BoundedHead
from store.presence import present_workers
from store.schema import bring_to_newest_schema
from telemetry.tracing import exported_traces

_ROOT = Path(__file__).resolve().parent.parent
# Long polls and event streams are cut after this long; their clients resume.
_GRACE_SECONDS = 3
_WORKER_PATIENCE_SECONDS = 20


class StartRefusedError(Exception):
    """The service will not start like this; the message says what to do."""


def serve(settings: Settings, *, host: str, port: int, api_only: bool) -> None:
    """Serve until SIGTERM or Ctrl-C, then stop every child.

    Raises:
        StartRefusedError: for an address without keys, a port or a data folder in use, or certificates that are none.
        BrokerRefusedError: if the embedded broker does not start.
        DatabaseNotReadyError: if the database does not answer, or has a newer schema.
        DoorbellMisconfiguredError: if the environment makes Celery lose or repeat messages.
    """
    refuse_open_address(settings, host)
    courier = _courier(settings)
    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        # Last in, first out: once the stack unwinds, a second Ctrl-C must not leave children behind.
        listener = stack.enter_context(_bound(host, port))
        workers: list[Child] = []
        if not api_only:
            stack.enter_context(_locked(settings.data))
        bring_to_newest_schema(settings.database())
        stack.callback(_ignore_signals)
        if settings.broker_url is None and not api_only:
            settings = settings.model_copy(update={"broker_url": broker_url(socket_path(settings.data))})
            broker = embedded_broker(settings.data)
            broker.start()
            stack.callback(broker.stop)
            wait_for_broker(settings.data)
        if not api_only:
            workers = [_worker(settings, number) for number in range(settings.embedded_workers)]
            stack.callback(_stop_together, workers)
            for worker in workers:
                worker.start()
        if settings.public_url is None and is_loopback(host):
            settings = settings.model_copy(update={"public_url": _address(listener)})
        parts = open_parts(settings)
        stack.callback(parts.close)
        deliverer = Deliverer(parts, courier)
        deliverer.start()
        stack.callback(deliverer.stop)
        stack.callback(_ignore_signals)
        tracer_provider = stack.enter_context(exported_traces("saddlescope-api"))
        server = uvicorn.Server(_server_config(parts, tracer_provider))
        _spare_collections()
        threading.Thread(target=_announce, args=(server, parts, workers, _address(listener)), daemon=True).start()
        server.run(sockets=[listener])


def refuse_open_address(settings: Settings, host: str) -> None:
    if settings.auth is Auth.NONE and not is_loopback(host):
        raise StartRefusedError(
            f"{host} can be reached from other machines, and SADDLESCOPE_AUTH=none lets everyone in. Set "
            "SADDLESCOPE_AUTH=keys and make a key with `python -m service keys create --project NAME --scopes "
            "submit,read`, or bind 127.0.0.1."
        )


def _courier(settings: Settings) -> Courier:
    try:
        return Courier(settings.destinations(), ca_file=settings.webhook_ca_file)
    except OSError as wrong:
        raise StartRefusedError(f"SADDLESCOPE_WEBHOOK_CA_FILE holds no certificates: {wrong.strerror}") from None


def _server_config(parts: Parts, tracer_provider: TracerProvider | None) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(parts, tracer_provider=tracer_provider),
        http=BoundedHead,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _spare_collections() -> None:
    """What is here by now stays: a full collection that visits it would stop every request for a tenth of a second."""
    gc.collect()
    gc.freeze()


def _worker(settings: Settings, number: int) -> Child:
    environment = dict(os.environ) | {
        "SADDLESCOPE_DATABASE_URL": settings.database(),
        "SADDLESCOPE_BROKER_URL": settings.broker_url or "",
        "SADDLESCOPE_BLOBS_URL": settings.blobs(),
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    if settings.worker_metrics_port is not None:
        environment["SADDLESCOPE_WORKER_METRICS_PORT"] = str(settings.worker_metrics_port + number)
    # A worker needs no secret of the service.
    environment.pop("SADDLESCOPE_KEY_PEPPER", None)
    suffix = "" if number == 0 else f"-{number}"
    return Child(
        f"worker{suffix}",
        [sys.executable, "-m", "workers", "--queue", "cpu"],
        log_file=settings.data.resolve() / "logs" / f"worker{suffix}.log",
        environment=environment,
        patience_seconds=_WORKER_PATIENCE_SECONDS,
    )


def _announce(server: uvicorn.Server, parts: Parts, workers: Sequence[Child], address: str) -> None:
    """Say that the service is ready when it is: the API serves and every worker has told the database so."""
    while not (server.started and _are_present(parts, workers)):
        if server.should_exit:
            return
        time.sleep(0.05)
    print(f"Saddlescope is ready at {address}", flush=True)  # noqa: T201 - the one line that the command promises


def _are_present(parts: Parts, workers: Sequence[Child]) -> bool:
    with parts.sessions() as session:
        names = [worker.name for worker in present_workers(session)]
    return all(worker.pid is not None and any(f"-{worker.pid}-" in name for name in names) for worker in workers)


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """One embedded service per data folder; the lock goes with the process, however it ends."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "service.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StartRefusedError(
                f"{data.resolve()} is in use by another service (process {file.read().strip() or 'unknown'}); stop it "
                "or choose another folder with --data"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """Bound before anything is started, so that a port in use costs nothing and port 0 has its number."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off; without it every answer waits 40 ms for an ACK.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as wrong:
            raise StartRefusedError(f"cannot listen on {host} port {port}: {wrong.strerror}") from None
        listener.set_inheritable(False)
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _stop_together(children: Sequence[Child]) -> None:
    stoppers = [threading.Thread(target=child.stop) for child in children]
    for stopper in stoppers:
        stopper.start()
    for stopper in stoppers:
        stopper.join()


def _stop(*_: object) -> None:
    """uvicorn raises the signal again once it has stopped; the stack of `serve` then stops the children."""
    raise SystemExit(0)


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
