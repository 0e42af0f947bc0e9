"""Whether the parts below answer, asked with patience: a part that hangs is told as one, and hangs nobody.

A question that is still unanswered is not asked again; so a part that hangs for a day holds one thread for that day.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
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

    def __init__(self, ask: Callable[[], PartHealth]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._question: _Question | None = None

    def begin(self) -> _Question:
        """Ask, unless the last question is still unanswered."""
        with self._lock:
            if self._question is None or not self._question.is_alive():
                self._question = _Question(self._ask)
                self._question.start()
            return self._question


def look(probes: Mapping[str, Probe], *, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, PartHealth]:
    """Ask all at once; who does not answer in time is `down`."""
    questions = {name: probe.begin() for name, probe in probes.items()}
    ends = time.monotonic() + patience_seconds
    late = PartHealth(status="down", detail=f"no answer within {patience_seconds:g} seconds")
    answers = {}
    for name, question in questions.items():
        question.join(max(0.0, ends - time.monotonic()))
        answers[name] = question.answer or late
    return answers


def probes_of(parts: Parts) -> dict[str, Probe]:
    """One for each part of the application."""
    return {
        "database": Probe(lambda: _database(parts)),
        "broker": Probe(lambda: _broker(parts)),
        "blobs": Probe(lambda: _blobs(parts)),
    }


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
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=PATIENCE_SECONDS)
    except (OperationalError, OSError):
        parts.metrics.errors.labels("broker").inc()
        return PartHealth(status="down", detail="no connection; jobs are accepted, and workers find them by polling")
    return _OK


def _blobs(parts: Parts) -> PartHealth:
    try:
        parts.blobs.probe()
    except (OSError, BlobError):
        parts.metrics.errors.labels("blobs").inc()
        return PartHealth(status="down", detail="no file can be written")
    return _OK
