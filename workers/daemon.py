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

from saddlescope.contract.vocabulary import SandboxLevel
from store.blobs import open_blobs
from store.database import on_outage, open_engine, open_sessions
from store.presence import announce_worker, retire_worker
from store.succession import bury_workers
from telemetry.tracing import exported_traces
from workers.launcher import ForkServer
from workers.metrics import WorkerMetrics, served_metrics
from workers.protocol import Ready, Sandbox
from workers.reconciler import keep_house_until_stopped, reconcile_until_stopped
from workers.scratch import open_scratch
from workers.settings import WorkerSettings
from workers.shift import poll, work_until_idle
from workers.stopping import Stop
from workers.tasks import consume, consumer, stop_on_signals
from workers.workshop import DATABASE_DOWN, Workshop, job_memory_bytes

# Exit statuses of a worker for so many jobs; 1 is a worker that cannot go on, 2 a wrong command line.
WORKED, NOTHING_TO_DO, STOPPED = 0, 3, 4

log = structlog.get_logger()


class SandboxTooWeak(Exception):
    """The machine does not allow the isolation that the settings demand."""


def work(
    settings: WorkerSettings, *, queues: Sequence[str], fork_server: ForkServer, max_jobs: int | None = None
) -> int:
    """Be a worker until SIGTERM or SIGINT, or for so many jobs at most; gives the exit status.

    A worker for so many jobs ends as soon as nothing is eligible, and takes no part in what all workers do together
    (`reconciler`): it is for batch systems, beside workers that stay.

    A running job is given back to the queue, its attempt not counted. No child outlives this call.
    """
    with ExitStack() as stack:
        stop = Stop()
        stop_on_signals(stop)
        stack.callback(fork_server.close)
        ready = fork_server.start()
        _check_sandbox(ready.sandbox, settings.sandbox_required)
        engine = open_engine(settings.database_url)
        stack.callback(engine.dispose)
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        metrics = WorkerMetrics(num_slots=settings.worker_concurrency)
        on_outage(engine, metrics.errors.labels("database").inc)
        stack.enter_context(
            served_metrics(metrics, host=settings.worker_metrics_host, port=settings.worker_metrics_port)
        )
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
            metrics=metrics,
            traces=stack.enter_context(exported_traces("saddlescope-worker")),
            slots=threading.Semaphore(settings.worker_concurrency),
            job_memory_bytes=job_memory_bytes(settings, device=ready.device),
        )
        _succeed(shop, scratch.dead_workers)
        if max_jobs is not None:
            return _end_of_shift(shop, work_until_idle(shop, max_jobs=max_jobs))
        stack.enter_context(_announced(shop, ready))
        return _serve(shop)


def _check_sandbox(sandbox: Sandbox, required: SandboxLevel) -> None:
    """Say how jobs are isolated, and what is missing.

    Raises:
        SandboxTooWeak: below the level that the operator demands.
    """
    undone = [attempt.action for attempt in sandbox.attempts if not attempt.is_stopped]
    tell = log.info if sandbox.level is SandboxLevel.STRICT else log.warning
    tell("sandbox_tried", sandbox=sandbox.level, missing=sandbox.missing, not_stopped=undone)
    if not sandbox.level.reaches(required):
        raise SandboxTooWeak(
            f"the sandbox reaches {sandbox.level} on this machine and SADDLESCOPE_SANDBOX_REQUIRED is {required}; "
            "`python -m workers sandbox` shows what is missing"
        )


def _end_of_shift(shop: Workshop, num_jobs: int) -> int:
    if shop.stop.is_set():
        return STOPPED
    return WORKED if num_jobs > 0 else NOTHING_TO_DO


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
def _announced(shop: Workshop, ready: Ready) -> Iterator[None]:
    with shop.sessions.begin() as session:
        announce_worker(
            session,
            name=shop.name,
            queues=shop.queues,
            device=ready.device,
            sandbox=ready.sandbox.level,
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
