"""Whether the parts below answer, asked with patience: a part that hangs is told as one, and hangs nobody.

A question that is still unanswered is not asked again; so a part that hangs for a day holds one thread for that day.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, final

from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from saddlescope.contract.strict import Closed
from service.parts import Parts
from store.blobs import BlobError
from store.database import database_now

PATIENCE_SECONDS = 2.0


class PartHealth(Closed):
    status: Literal["ok", "down"]
    detail: str | None = None


_OK = PartHealth(status="ok")


class _Question(threading.Thread):
    """Daemonic, and not of a pool: a thread that hangs must not hold up the end of the process."""

    def __init__(self, ask: Callable[[], PartHealth]) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self.answer: PartHealth | None = None

    def run(self) -> None:
        self.answer = self._ask()


@final
class Probe:
    """One part, asked by at most one thread at a time."""

    def __init__(self, ask: Callable[[], PartHealth], *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._ask = ask
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._question: _Question | None = None

    def look(self) -> PartHealth:
        """The answer, or `down` when it takes too long."""
        with self._lock:
            if self._question is None or not self._question.is_alive():
                self._question = _Question(self._ask)
                self._question.start()
            question = self._question
        question.join(self._patience_seconds)
        if question.answer is not None:
            return question.answer
        return PartHealth(status="down", detail=f"no answer within {self._patience_seconds:g} seconds")


@final
class Probes:
    """The parts of one application."""

    def __init__(self, parts: Parts) -> None:
        self.database = Probe(lambda: _database(parts))
        self.broker = Probe(lambda: _broker(parts))
        self.blobs = Probe(lambda: _blobs(parts))


def _database(parts: Parts) -> PartHealth:
    try:
        with parts.sessions() as session:
            database_now(session)
    except SQLAlchemyError:
        return PartHealth(status="down", detail="no query succeeds")
    return _OK


def _broker(parts: Parts) -> PartHealth:
    try:
        with parts.doorbell.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE_SECONDS)
    except (OperationalError, OSError):
        parts.metrics.errors.labels("broker").inc()
        return PartHealth(status="down", detail="no connection; jobs are accepted, and workers find them by polling")
    return _OK


def _blobs(parts: Parts) -> PartHealth:
    try:
        with parts.blobs.writer() as writer:
            writer.write(b"?")
    except (OSError, BlobError):
        parts.metrics.errors.labels("blobs").inc()
        return PartHealth(status="down", detail="no file can be written")
    return _OK
