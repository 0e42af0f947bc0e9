"""The doorbell of the workers: a message that holds a job's identifier and nothing else. SQL is the truth.

The settings are those of one reliable consumer of long tasks; each was measured.
"""

from __future__ import annotations

import os

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.pools import producers

TASK = "saddlescope.run_job"
VISIBILITY_SECONDS = 86_400
# A submission waits for the doorbell, so it gives up soon; a worker has time and keeps kombu's own patience.
IMPATIENT = {"socket_timeout": 1.0, "max_retries": 1, "interval_start": 0.0, "interval_step": 0.0}


class BrokerDown(Exception):
    """The broker cannot be reached. The job is safe in SQL; the reconciler rings again."""


class DoorbellMisconfiguredError(Exception):
    """Celery would lose messages, repeat them, or take what is no JSON; the message says which settings are others."""


def celery_app(broker_url: str) -> Celery:
    """A Celery application without tasks: the worker adds the one it has, the service only publishes.

    Raises:
        DoorbellMisconfiguredError: if the environment overrides what is set here.
    """
    app = Celery("saddlescope", broker=broker_url, set_as_current=False)
    app.conf.update(_settings())
    check_settings(app, broker_url)
    return app


def check_settings(app: Celery, broker_url: str) -> None:
    """Hold what is in force, wherever it comes from, to what was measured; Celery reads variables of its own.

    Raises:
        DoorbellMisconfiguredError: naming every setting that is another, without its value, which may hold a password.
    """
    urls = dict.fromkeys(("broker_url", "broker_read_url", "broker_write_url"), broker_url)
    wrong = [name for name, value in (_settings() | urls).items() if getattr(app.conf, name) != value]
    if wrong:
        raise DoorbellMisconfiguredError(
            f"the broker would be used with another {', '.join(wrong)} than is safe; unset Celery's own variables "
            f"({', '.join(name for name in sorted(os.environ) if name.startswith('CELERY_')) or 'CELERY_…'})"
        )


def _settings() -> dict[str, object]:
    return {
        "task_acks_late": True,
        # With either of these on, a job that kills its worker runs again at once and for ever; SQL counts attempts.
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        # A message that is not acknowledged for this long is delivered again: longer than any job may run.
        "visibility_timeout": VISIBILITY_SECONDS,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_timeout": 30,
            "socket_connect_timeout": 1.0,
            "socket_keepalive": True,
            "health_check_interval": 15,
        },
        "broker_connection_retry_on_startup": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_default_queue": "cpu",
        # Nobody revokes or inspects by broadcast, so nobody who reaches the broker can.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
    }


def ring(app: Celery, job_id: str, queue: str) -> None:
    """Tell the workers of a queue that a job is there: about a millisecond, and a few seconds at most when it fails.

    Raises:
        BrokerDown: if the broker does not take the message.
    """
    connection = app.connection_for_write(transport_options=IMPATIENT)
    try:
        # kombu keeps one pool for all connections that are alike, so this one is opened on the first ring only.
        with producers[connection].acquire(block=True) as producer:
            app.send_task(TASK, args=(job_id,), queue=queue, ignore_result=True, retry=False, producer=producer)
    except (OperationalError, OSError) as failure:
        raise BrokerDown(f"the broker does not answer: {failure}") from failure
