"""What the parts of one worker process share."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from store.blobs import BlobStore
from workers.launcher import ForkServer
from workers.memory import memory_bytes
from workers.metrics import WorkerMetrics
from workers.protocol import Limits
from workers.settings import WorkerSettings
from workers.stopping import Stop

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

DATABASE_DOWN = (OperationalError, InterfaceError)
"""What a query raises while the database cannot be reached. It will be there again; the leases bridge the gap."""

_MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class Workshop:
    """One worker process: its stores, its fork server, its rules, and the word that ends it."""

    name: str
    queues: tuple[str, ...]
    settings: WorkerSettings
    sessions: sessionmaker[Session]
    blobs: BlobStore
    fork_server: ForkServer
    scratch: Path
    stop: Stop
    metrics: WorkerMetrics
    traces: TracerProvider | None
    """Where the spans of jobs go; None where nobody wants them."""
    slots: threading.Semaphore
    """One for each job that may run at a time."""
    job_memory_bytes: int | None = None
    """What one job may take; None if nobody knows."""


def job_memory_bytes(settings: WorkerSettings, *, device: str) -> int | None:
    """What one job may take; None on a GPU of which nobody has said how large it is."""
    if settings.worker_memory_bytes is not None or device != "cpu":
        return settings.worker_memory_bytes
    return int(_MEMORY_SHARE * memory_bytes() / settings.worker_concurrency)


def runner_limits(settings: WorkerSettings, *, device: str, input_bytes: int) -> Limits:
    """What one job may take on this machine.

    An escape vector has the checkpoint's size, and a checkpoint may share storage that its vectors do not.
    """
    threads = settings.worker_threads
    if threads is None:
        threads = max(1, len(os.sched_getaffinity(0)) // settings.worker_concurrency)
    return Limits(
        # CUDA maps terabytes of addresses that are no memory; on a GPU the control group has to bound it.
        memory_bytes=job_memory_bytes(settings, device=device) if device == "cpu" else None,
        file_bytes=max(8 * input_bytes + 256 * 2**20, settings.worker_saved_bytes),
        threads=threads,
    )
