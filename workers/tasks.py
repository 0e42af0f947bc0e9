"""The Celery side of a worker: one task, and it only rings the bell."""

from __future__ import annotations

import signal

import structlog
from celery import Celery, signals
from celery.worker import state

from store.doorbell import TASK, celery_app
from workers.shift import work_until_idle
from workers.stopping import Stop
from workers.workshop import Workshop

log = structlog.get_logger()


def consumer(shop: Workshop) -> Celery:
    """The application of this worker, whose task works until nothing is eligible."""
    app = celery_app(shop.settings.broker_url)
    # A broker that is away for an hour must not end the worker: the poll goes on without it.
    app.conf.broker_connection_max_retries = None

    def run_job(job_id: str) -> None:
        log.debug("bell", job_id=job_id)
        work_until_idle(shop)

    app.task(run_job, name=TASK, ignore_result=True, Strategy="workers.rings:ring_strategy")
    return app


def consume(app: Celery, shop: Workshop) -> None:
    """Take messages until the stop; returns after the running job was given back.

    Threads, because a supervisor starts processes and waits on pipes, and the consumer must hear signals and a lost
    connection meanwhile. A thread that holds a job holds its message, so a busy worker takes no other.
    """

    def take_signals(**_: object) -> None:
        # Celery has installed its own by now: SIGHUP would execute the program anew over living children.
        stop_on_signals(shop.stop)

    def stop(**_: object) -> None:
        shop.stop.set()

    def keep_logging(**_: object) -> None:
        """Celery leaves the configuration of logging to whoever listens here."""

    signals.worker_ready.connect(take_signals, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)
    signals.setup_logging.connect(keep_logging, weak=False)
    worker = app.Worker(
        pool="threads",
        concurrency=shop.settings.worker_concurrency,
        queues=list(shop.queues),
        hostname=shop.name,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()


def stop_on_signals(stop: Stop) -> None:
    """SIGTERM, SIGINT and SIGHUP stop the worker, whether its consumer runs already or not."""

    def handle(*_: object) -> None:
        stop.set()
        state.should_stop = 0  # the exit status with which the consumer leaves its loop

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handle)
