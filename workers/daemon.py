"""One worker process from start to stop: open everything, announce, work, give back, close."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import structlog

from store.blobs import open_blobs
from store.database import open_engine, open_sessions
from store.presence import announce_worker, retire_worker
from store.succession import bury_workers
from workers import sandbox
from workers.launcher import ForkServer
from workers.reconciler import keep_house_until_stopped, reconcile_until_stopped
from workers.scratch import open_scratch
from workers.settings import WorkerSettings
from workers.shift import poll, work_until_idle
from workers.stopping import Stop
from workers.tasks import consume, consumer, stop_on_signals
from workers.workshop import DATABASE_DOWN, Workshop, job_memory_bytes

log = structlog.get_logger()


def work(settings: WorkerSettings, *, queues: Sequence[str], fork_server: ForkServer, once: bool = False) -> int:
    """Be a worker until SIGTERM or SIGINT, or until nothing is eligible when `once`; gives the exit status.

    A running job is given back to the queue, its attempt not counted. No child outlives this call.
    """
    with ExitStack() as stack:
        stop = Stop()
        stop_on_signals(stop)
        stack.callback(fork_server.close)
        device = fork_server.start()
        engine = open_engine(settings.database_url)
        stack.callback(engine.dispose)
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        scratch = stack.enter_context(open_scratch(settings.worker_scratch, name))
        shop = Workshop(
            name=name,
            queues=tuple(queues),
            settings=settings,
            sessions=open_sessions(engine),
            blobs=open_blobs(
                settings.blobs_url,
                local=None if settings.worker_scratch is None else settings.worker_scratch / "blobs",
                cache_bytes=settings.worker_cache_bytes,
            ),
            fork_server=fork_server,
            scratch=scratch.folder,
            stop=stop,
            slots=threading.Semaphore(settings.worker_concurrency),
            job_memory_bytes=job_memory_bytes(settings, device=device),
        )
        _succeed(shop, scratch.dead_workers)
        if once:
            work_until_idle(shop)
            return 0
        stack.enter_context(_announced(shop, device))
        return _serve(shop)


def _succeed(shop: Workshop, dead_workers: Sequence[str]) -> None:
    """Take over from workers that died on this machine, without waiting for their leases to lapse."""
    if dead_workers:
        with shop.sessions.begin() as session:
            requeued = bury_workers(session, dead_workers)
        log.info("workers_buried", workers=dead_workers, requeued=requeued)


def _serve(shop: Workshop) -> int:
    app = consumer(shop)
    broken: list[str] = []
    threads = [
        _thread(shop, "poll", lambda: poll(shop), broken),
        _thread(shop, "reconciler", lambda: reconcile_until_stopped(shop, app), broken),
        _thread(shop, "housekeeper", lambda: keep_house_until_stopped(shop), broken),
    ]
    log.info("worker_ready", worker=shop.name, queues=shop.queues)
    try:
        consume(app, shop)
    finally:
        shop.stop.set()
        for thread in threads:
            thread.join()
    log.info("worker_stopped", worker=shop.name)
    return 1 if broken else 0


def _thread(shop: Workshop, name: str, body: Callable[[], None], broken: list[str]) -> threading.Thread:
    def run() -> None:
        try:
            body()
        finally:
            if not shop.stop.is_set():
                # An exception is on its way out. Half a worker is worse than none: stop, and be started again.
                broken.append(name)
                os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    return thread


@contextmanager
def _announced(shop: Workshop, device: str) -> Iterator[None]:
    with shop.sessions.begin() as session:
        announce_worker(
            session,
            name=shop.name,
            queues=shop.queues,
            device=device,
            sandbox=sandbox.LEVEL,
            memory_bytes=shop.job_memory_bytes,
        )
    try:
        yield
    finally:
        try:
            with shop.sessions.begin() as session:
                retire_worker(session, shop.name)
        except DATABASE_DOWN as failure:
            log.warning("retire_failed", error=str(failure.orig))
