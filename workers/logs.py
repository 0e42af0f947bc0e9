"""The fields that a worker's log lines may have. `runner_errors` is the end of what a runner said: a job's traceback."""

from __future__ import annotations

from telemetry import logs

ALLOWED = frozenset(
    {
        "worker", "workers", "queues", "device", "job_id", "attempt", "fence", "request_id", "trace_id",
        "matvecs", "num_bytes", "jobs", "reason", "count", "unnamed", "leftovers", "some",
        "sandbox", "missing", "not_stopped",
        "judgement", "code", "detail", "runner_errors", "seconds", "error", "late", "requeued", "port",
    }
)  # fmt: skip


def configure_logs() -> None:
    logs.configure_logs(ALLOWED)
