"""Logs: one JSON object a line on standard error, of fields that are allowed by name."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

# Nothing that a caller wrote (labels, tensor names, bodies, keys) is in here.
ALLOWED = frozenset(
    {
        "event", "level", "timestamp", "request_id", "method", "route", "status", "milliseconds",
        "job_id", "queue", "child", "pid", "exit_status", "seconds", "log_file", "reason",
    }
)  # fmt: skip


def configure_logs() -> None:
    # uvicorn and the libraries: warnings, and the traceback of an unhandled exception.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_allowed,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _only_allowed(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: value for key, value in event.items() if key in ALLOWED}
