"""The fields that the service's log lines may have. Nothing that a caller wrote (labels, bodies, keys) is among them."""

from __future__ import annotations

from telemetry import logs

ALLOWED = frozenset(
    {
        "request_id", "trace_id", "project", "method", "route", "status", "seconds",
        "job_id", "queue", "child", "pid", "exit_status", "log_file", "part", "reason",
        "delivery_id", "webhook_id", "attempt", "outcome", "milliseconds", "error",
    }
)  # fmt: skip


def configure_logs() -> None:
    logs.configure_logs(ALLOWED)
