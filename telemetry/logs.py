"""Log lines: events with fields that are allowed by name, as JSON, or for eyes where standard error is a terminal.

What the libraries log goes the same way, and so does the traceback that ends a process: every line has the one form.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Set
from types import TracebackType

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

# What every line may have; the rest is each process's own list. `logger` and `exception` come from the libraries.
_ALWAYS = frozenset({"event", "level", "timestamp", "logger", "exception"})
# A safety net under the list of fields: a library's message may quote an address, a caller may send a key as a path.
_SECRETS = (
    (re.compile(r"(://[^:/@\s]*):[^@\s]+@"), r"\1:***@"),
    (re.compile(r"(sk_[0-9a-f]{32})_[0-9a-f]{64}"), r"\1_***"),
    # PostgreSQL's word on a violated constraint quotes the row.
    (re.compile(r"^DETAIL: .*$", re.MULTILINE), "DETAIL: ***"),
    (re.compile(r"whsec_[A-Za-z0-9+/=_-]+"), "whsec_***"),
)


def configure_logs(allowed: Set[str]) -> None:
    """Log to standard error. Fields that are not in `allowed` are dropped: nothing that a caller wrote is in a line.

    Our own events from INFO on, those of the libraries from WARNING on.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _Allow(_ALWAYS | allowed),
                without_secrets,
                _renderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    ours = _ours(handler)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: ours,
        cache_logger_on_first_use=True,
    )
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Passwords of addresses, secrets of API keys and of webhooks are blotted out of every text."""
    for field, value in event.items():
        if isinstance(value, str):
            for secret, blot in _SECRETS:
                value = secret.sub(blot, value)  # noqa: PLW2901 - one blot after the other
            event[field] = value
    return event


class _Allow:
    def __init__(self, fields: Set[str]) -> None:
        self._fields = fields

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {field: value for field, value in event.items() if field in self._fields and value is not None}


def _ours(handler: logging.Handler) -> logging.Logger:
    """Our events pass the libraries' threshold, by a logger of their own."""
    ours = logging.getLogger("saddlescope")
    ours.setLevel(logging.INFO)
    ours.propagate = False
    ours.handlers = [handler]
    return ours


def _renderer() -> Processor:
    return structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("uncaught").critical("an exception ended the process", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not issubclass(ended.exc_type, SystemExit):
        said = (ended.exc_type, ended.exc_value, ended.exc_traceback)
        logging.getLogger("uncaught").critical("an exception ended a thread", exc_info=said)
