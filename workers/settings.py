"""The settings of one worker process, from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from saddlescope.contract.limits import LEASE_SECONDS
from saddlescope.contract.vocabulary import SandboxLevel
from store.blobs import CACHE_BYTES


class WorkerSettings(BaseSettings):
    """Each field is the variable `SADDLESCOPE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="SADDLESCOPE_", frozen=True, use_attribute_docstrings=True)

    database_url: str
    """`sqlite:///file` or `postgresql+psycopg://…`."""
    broker_url: str
    """`redis://…`, or `redis+socket:///path` for a Unix socket."""
    blobs_url: str
    """A folder, shared with the service, or `s3://bucket/prefix`."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where jobs are computed; `auto` is the first CUDA device if there is one."""
    reference_roots: str = ""
    """Folders, separated by colons, from which checkpoints may be read by path; by default none."""
    reference_buckets: str = ""
    """Buckets, separated by colons, from which checkpoints may be fetched; by default none."""
    sandbox_required: SandboxLevel = SandboxLevel.BASIC
    """A worker that cannot isolate its jobs so well does not start: `basic`, `standard` or `strict`."""
    worker_concurrency: int = Field(default=1, ge=1, le=64)
    """Jobs at a time."""
    worker_threads: int | None = Field(default=None, ge=1)
    """Threads of one job's tensor operations; the processors shared out evenly when absent."""
    worker_memory_bytes: int | None = Field(default=None, ge=64 * 2**20)
    """Memory that one job may take; nine tenths of what there is, shared out evenly, when absent on the CPU.

    A job that needs more waits for a larger worker. On a GPU nothing is known when it is absent.
    """
    worker_max_seconds: float = Field(default=86_400, gt=0)
    """A job that takes longer fails with `resource_limit`, whatever its own deadline."""
    worker_scratch: Path | None = None
    """Where jobs write before their answer is stored; the system's folder for temporary files when absent."""
    worker_save_seconds: float = Field(default=60.0, gt=0)
    """How often a long job saves where it is, so that its next attempt goes on from there."""
    worker_saved_bytes: int = Field(default=4 * 2**30, ge=0)
    """A larger state is not saved; 0 saves none."""
    worker_cache_bytes: int = Field(default=CACHE_BYTES, ge=0)
    """Local copies of blobs from an object store, those in use not counted."""
    worker_lease_seconds: float = Field(default=LEASE_SECONDS, ge=1)
    """A worker that is silent for this long has lost its jobs. A new worker waits as long before it believes so."""
    worker_heartbeat_seconds: float = Field(default=1.0, gt=0, le=15)
    """How often progress is published and a cancel is noticed."""
    worker_poll_seconds: float = Field(default=2.0, gt=0)
    """How long a lost message delays a job."""
    worker_reconcile_seconds: float = Field(default=15.0, gt=0)
    """How often lapsed leases, deadlines and undelivered messages are looked for."""
    worker_metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """Where the worker serves its metrics; nowhere when absent."""
    worker_metrics_host: str = "127.0.0.1"
    """The address for that port; anyone who reaches it reads the metrics."""
